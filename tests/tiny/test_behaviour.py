"""What the objectives lead to, with exact gradients on a small tabular world."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sail.losses import PairLoss, Routes, Sides, rao_blackwell

ANSWERS, BETA, STEPS = 8, 0.5, 600

pytestmark = pytest.mark.slow


@dataclass
class World:
    """One prompt with eight answers: rewards, a reference, and the Bradley-Terry oracle."""

    reward: Tensor
    ref: Tensor

    @classmethod
    def make(cls, seed: int) -> World:
        g = torch.Generator().manual_seed(seed)
        reward = torch.randn(ANSWERS, generator=g, dtype=torch.float64)
        ref = torch.log_softmax(torch.randn(ANSWERS, generator=g, dtype=torch.float64), -1)
        return cls(reward, ref)

    @property
    def oracle(self) -> Tensor:
        return torch.sigmoid(self.reward[:, None] - self.reward[None, :]).reshape(-1)

    def regularised(self, logits: Tensor) -> float:
        """E[r] - beta KL(pi || ref), what RLHF maximises."""
        lp = torch.log_softmax(logits, -1)
        return float((lp.exp() * (self.reward - BETA * (lp - self.ref))).sum())

    def optimum(self) -> float:
        """Its closed-form maximum, at pi proportional to ref * exp(r / beta)."""
        return self.regularised(self.ref + self.reward / BETA)

    def objective(self, logits: Tensor) -> float:
        """J of SAIL-PR: expected log-likelihood of the oracle's label on the policy's own pairs."""
        lp = torch.log_softmax(logits, -1)
        u = BETA * ((lp - self.ref)[:, None] - (lp - self.ref)[None, :]).reshape(-1)
        law = (lp[:, None] + lp[None, :]).exp().reshape(-1)
        loss = PairLoss("bt", 1.0)
        return -float((law * (self.oracle * loss.phi(u) + (1 - self.oracle) * loss.phi(-u))).sum())


def train(world: World, route: str, coefficient: float, share: float) -> Tensor:
    """Gradient descent on the exact expectation of the surrogate; returns the logits."""
    theta = world.ref.clone().requires_grad_(True)
    ones = torch.ones(ANSWERS**2, dtype=torch.float64)
    uniform = ones / ANSWERS**2
    # Adam would blow rounding errors up to full steps where the gradient is 0
    optimiser = torch.optim.SGD([theta], lr=0.5) if route == "pp" else torch.optim.Adam([theta], lr=0.05)
    for _ in range(STEPS):
        lp = torch.log_softmax(theta, -1)
        grid = [t.expand(ANSWERS, ANSWERS).reshape(-1) for t in (lp[:, None], lp[None, :])]
        refs = [t.expand(ANSWERS, ANSWERS).reshape(-1) for t in (world.ref[:, None], world.ref[None, :])]
        sides = Sides(grid[0], grid[1], refs[0], refs[1], ones, ones)
        loss = PairLoss("bt", BETA)
        law = (grid[0] + grid[1]).exp().detach()
        own = float(route == "pp")
        online = rao_blackwell(loss, sides, Routes(world.oracle, ones, own * ones, coefficient * ones, 0 * ones))
        offline = rao_blackwell(loss, sides, Routes(world.oracle, 0 * ones, 0 * ones, 0 * ones, 0 * ones))
        total = share * (law * online.loss).sum() + (1 - share) * (uniform * offline.loss).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return theta.detach()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_exact_score_term_raises_its_objective_and_leaves_the_rlhf_optimum(seed: int) -> None:
    """T2 alone reaches the KL-regularised optimum; T1 with c = 1 raises J and lowers what RLHF wants."""
    world = World.make(seed)
    plain, exact = train(world, "pr", 0.0, 1.0), train(world, "pr", 1.0, 1.0)
    assert world.regularised(plain) == pytest.approx(world.optimum(), abs=5e-3)
    assert world.objective(exact) > world.objective(plain) + 1e-3
    assert world.regularised(exact) < world.optimum() - 0.05


def test_self_labels_alone_never_leave_the_reference() -> None:
    world = World.make(0)
    moved = torch.log_softmax(train(world, "pp", 1.0, 1.0), -1) - world.ref
    assert moved.abs().max() < 1e-3
