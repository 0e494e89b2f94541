"""The surrogate's expected gradient equals the gradient of the exact objective, by enumeration."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sail.baselines import kl_baselines
from sail.losses import (
    LossKind,
    PairLoss,
    Routes,
    Sides,
    leave_one_out,
    margin_penalty,
    official,
    rao_blackwell,
    reverse_kl,
    self_label,
    surrogate,
)

Setting = Literal["off", "dp", "pp", "pr"]
SETTINGS: tuple[Setting, ...] = ("off", "dp", "pp", "pr")
LOSSES: tuple[LossKind, ...] = ("bt", "cdpo", "hinge", "ipo", "simpo")
PROMPTS, ANSWERS = 2, 4


class World:
    """A tabular policy over a few answers a prompt, with a reference, a data distribution and an oracle."""

    def __init__(self, seed: int = 0, at_reference: bool = False) -> None:
        g = torch.Generator().manual_seed(seed)
        self.ref = torch.log_softmax(torch.randn(PROMPTS, ANSWERS, generator=g, dtype=torch.float64), -1)
        start = self.ref if at_reference else torch.randn(PROMPTS, ANSWERS, generator=g, dtype=torch.float64)
        self.theta = start.clone().requires_grad_(True)
        raw = torch.rand(PROMPTS, ANSWERS, ANSWERS, generator=g, dtype=torch.float64)
        self.data = raw / raw.sum((1, 2), keepdim=True)
        score = torch.randn(PROMPTS, ANSWERS, generator=g, dtype=torch.float64)
        self.oracle = torch.sigmoid(score[:, :, None] - score[:, None, :])

    def pairs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-probabilities and references of all (prompt, i, j), each of shape (PROMPTS * ANSWERS**2,)."""
        lp = torch.log_softmax(self.theta, -1)
        first = lp[:, :, None].expand(PROMPTS, ANSWERS, ANSWERS).reshape(-1)
        second = lp[:, None, :].expand(PROMPTS, ANSWERS, ANSWERS).reshape(-1)
        ref_1 = self.ref[:, :, None].expand(PROMPTS, ANSWERS, ANSWERS).reshape(-1)
        ref_2 = self.ref[:, None, :].expand(PROMPTS, ANSWERS, ANSWERS).reshape(-1)
        return first, second, ref_1, ref_2

    def sides(self) -> Sides:
        """The same, with lengths that differ by answer (they matter to SimPO and IPO)."""
        lengths = torch.arange(1, ANSWERS + 1, dtype=torch.float64)
        grid = torch.ones(PROMPTS, ANSWERS, ANSWERS, dtype=torch.float64)
        len_1, len_2 = (grid * lengths[:, None]).reshape(-1), (grid * lengths[None, :]).reshape(-1)
        return Sides(*self.pairs(), len_1, len_2)

    def response_law(self, setting: Setting) -> Tensor:
        """q(i, j | x) with gradient, flattened; prompts are equally likely."""
        if setting in ("pp", "pr"):
            first, second, _, _ = self.pairs()
            return (first + second).exp() / PROMPTS
        return self.data.reshape(-1) / PROMPTS

    def objective(self, setting: Setting, loss: PairLoss) -> Tensor:
        """The exact objective -J(theta) of docs/sail.md, for any pair loss, with every dependence on theta kept."""
        h = loss.margin(self.sides())
        own = setting in ("pp", "dp")
        p = loss.log_preference(h).exp() if own else self.oracle.reshape(-1)
        return (self.response_law(setting) * (p * loss.phi(h) + (1 - p) * loss.phi(-h))).sum()

    def routes(self, setting: Setting, label: Tensor, c: float, baseline: float = 0.0) -> Routes:
        """The route columns of a setting."""
        ones = torch.ones_like(label)
        own, online = float(setting in ("pp", "dp")), float(setting in ("pp", "pr"))
        return Routes(label, ones * online, ones * own, ones * c, ones * baseline)

    def surrogate_gradient(self, setting: Setting, loss: PairLoss, c: float, baseline: float = 0.0) -> Tensor:
        """Expected gradient of the surrogate, by enumerating responses and labels with frozen probabilities."""
        total = torch.zeros((), dtype=torch.float64)
        weights = self.response_law(setting).detach()
        for label in (0.0, 1.0):
            sides = self.sides()
            own = loss.log_preference(loss.margin(sides).detach()).exp()
            p = own if setting in ("pp", "dp") else self.oracle.reshape(-1)
            terms = surrogate(loss, sides, self.routes(setting, torch.full_like(p, label), c, baseline))
            total = total + (weights * (p if label else 1 - p) * terms.loss).sum()
        return torch.autograd.grad(total, self.theta)[0]

    def summed_gradient(self, setting: Setting, loss: PairLoss, c: float, baseline: float = 0.0) -> Tensor:
        """Expected gradient of the Rao-Blackwellised surrogate, by enumerating responses."""
        routes = self.routes(setting, self.oracle.reshape(-1), c, baseline)
        terms = rao_blackwell(loss, self.sides(), routes)
        return torch.autograd.grad((self.response_law(setting).detach() * terms.loss).sum(), self.theta)[0]

    def exact_gradient(self, setting: Setting, loss: PairLoss) -> Tensor:
        """Gradient of the objective by automatic differentiation."""
        return torch.autograd.grad(self.objective(setting, loss), self.theta)[0]


def loss_of(kind: LossKind) -> PairLoss:
    beta = {"ipo": 0.1, "simpo": 2.0}.get(kind, 0.7)
    return PairLoss(kind, beta, smoothing=0.1 if kind == "cdpo" else 0.0, margin_gap=0.4 if kind == "simpo" else 0.0)


@pytest.mark.parametrize(("setting", "kind"), itertools.product(SETTINGS, LOSSES))
def test_expected_gradient_is_exact(setting: Setting, kind: LossKind) -> None:
    world = World(3)
    loss = loss_of(kind)
    torch.testing.assert_close(
        world.surrogate_gradient(setting, loss, c=1.0), world.exact_gradient(setting, loss), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(("setting", "kind", "c"), itertools.product(SETTINGS, LOSSES, [0.0, 0.3, 1.0]))
def test_summed_labels_have_the_same_expectation(setting: Setting, kind: LossKind, c: float) -> None:
    world, loss = World(11), loss_of(kind)
    drawn, summed = world.surrogate_gradient(setting, loss, c), world.summed_gradient(setting, loss, c, baseline=0.4)
    torch.testing.assert_close(summed, drawn, rtol=0, atol=1e-9)


def test_summed_dp_is_entropy_minimisation() -> None:
    """Spec 1.5: with BT the Rao-Blackwellised DP gradient is c times that of the binary entropy of sigmoid(u)."""
    world, loss = World(12), loss_of("bt")
    s = torch.sigmoid(loss.beta * loss.margin(world.sides()))
    entropy = -(s * s.log() + (1 - s) * (1 - s).log())
    expected = torch.autograd.grad((world.response_law("dp") * entropy).sum(), world.theta)[0]
    torch.testing.assert_close(world.summed_gradient("dp", loss, 0.3), 0.3 * expected, rtol=0, atol=1e-10)


def test_reverse_kl_has_its_true_gradient() -> None:
    world = World(13)
    sides = world.sides()
    weights = world.response_law("pp").detach()
    penalty = (weights * reverse_kl(sides, torch.ones_like(weights), *[torch.full_like(weights, 0.3)] * 2)).sum()
    gradient = torch.autograd.grad(penalty, world.theta)[0]
    lp = torch.log_softmax(world.theta, -1)
    exact = torch.autograd.grad((lp.exp() * (lp - world.ref)).sum() / PROMPTS, world.theta)[0]
    torch.testing.assert_close(gradient, exact, rtol=0, atol=1e-10)


def test_reverse_kl_of_three_samples_with_its_baselines_is_unbiased() -> None:
    """All 64 draws of K = 3 responses out of 4, with the left-out baselines, against the gradient of the KL itself."""
    theta = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    ref = torch.log_softmax(torch.arange(4, dtype=torch.float64), -1)
    lp = torch.log_softmax(theta, -1)
    gradient, pairs, one = torch.zeros(4, dtype=torch.float64), [(0, 1), (0, 2), (1, 2)], torch.ones(1)
    for drawn in itertools.product(range(4), repeat=3):
        ratio = [float((lp - ref).detach()[y]) for y in drawn]
        loss = torch.zeros((), dtype=torch.float64)
        for (i, j), (b_1, b_2) in zip(
            pairs, kl_baselines([("x", p, (ratio[p[0]], ratio[p[1]])) for p in pairs]), strict=True
        ):
            sides = Sides(*(v[None] for v in (lp[drawn[i]], lp[drawn[j]], ref[drawn[i]], ref[drawn[j]])), one, one)
            loss = loss + reverse_kl(sides, one, one * b_1, one * b_2).sum() / 3
        probability = float(lp.detach()[list(drawn)].sum().exp())
        gradient += probability * torch.autograd.grad(loss, theta, retain_graph=True)[0]
    exact = torch.autograd.grad((lp.exp() * (lp - ref)).sum(), theta)[0]
    torch.testing.assert_close(gradient, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("setting", "kind"), itertools.product(SETTINGS, LOSSES))
def test_margin_penalty_has_its_true_gradient(setting: Setting, kind: LossKind) -> None:
    """Enumerated with a baseline, against the gradient of E|u| with the responses' law differentiated too."""
    world, loss = World(13), loss_of(kind)
    weights = world.response_law(setting)
    online, b = torch.full_like(weights, float(setting in ("pp", "pr"))).detach(), torch.full_like(weights, 0.3)
    penalty = margin_penalty(loss, world.sides(), online, b, 2 * b)
    torch.testing.assert_close(penalty, (loss.beta * loss.margin(world.sides())).abs())
    gradient = torch.autograd.grad((weights.detach() * penalty).sum(), world.theta)[0]
    size = (loss.beta * loss.margin(world.sides())).abs()
    exact = torch.autograd.grad((world.response_law(setting) * size).sum(), world.theta)[0]
    torch.testing.assert_close(gradient, exact, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("setting", "kind"), itertools.product(SETTINGS, LOSSES))
def test_the_value_of_the_loss_is_the_pair_loss(setting: Setting, kind: LossKind) -> None:
    """Score and label terms have no value, so that a log shows phi; the reverse KL adds a gradient alone."""
    world, loss = World(3), loss_of(kind)
    sides, h = world.sides(), loss.margin(world.sides())
    label = world.oracle.reshape(-1).round()
    routes = world.routes(setting, label, 0.3, baseline=0.1)
    phi = torch.where(label > 0, loss.phi(h), loss.phi(-h))
    own = loss.log_preference(h).exp()
    expected = own * loss.phi(h) + (1 - own) * loss.phi(-h) if setting in ("pp", "dp") else phi
    torch.testing.assert_close(surrogate(loss, sides, routes).loss, phi)
    torch.testing.assert_close(official(loss, sides, routes, 8).loss, phi)
    torch.testing.assert_close(rao_blackwell(loss, sides, routes).loss, expected)
    one = torch.ones_like(h)
    assert not reverse_kl(sides, one, 0 * one, 0 * one).any()


def test_official_form_of_a_certain_response_is_finite() -> None:
    """Its division by a log-probability of 0 is left out: neither value nor gradient is NaN or infinite."""
    lp = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, dtype=torch.float64)
    terms = official(PairLoss("bt"), Sides(lp, -2 * one, 0 * one, -one, one, one), Routes(one, one, one, one, one), 8)
    assert terms.loss.isfinite().all()
    assert torch.autograd.grad(terms.loss.sum(), lp)[0].isfinite().all()


@pytest.mark.parametrize("setting", ["dp", "pp"])
@pytest.mark.parametrize(("smoothing", "stays"), [(0.2, True), (0.3, False)])
def test_smoothing_of_a_quarter_leaves_only_margin_zero(setting: Setting, smoothing: float, stays: bool) -> None:
    """Descent of the exact objective from near the start policy: on PP too, E|u| goes to 0 from a quarter on."""
    world, loss = World(3, at_reference=True), PairLoss("cdpo", beta=1.0, smoothing=smoothing)
    noise = torch.randn(PROMPTS, ANSWERS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        world.theta += 0.3 * noise
    for _ in range(300):
        gradient = world.exact_gradient(setting, loss)
        with torch.no_grad():
            world.theta -= 8 * gradient
    size = float((world.response_law(setting) * loss.margin(world.sides()).abs()).sum().detach())
    assert size > 0.4 if stays else size < 1e-3


def test_official_form_by_hand() -> None:
    """Spec section 4, item 12: c = .3, ell = -.6, logp = -300 adds -6e-4 to the gradient of a mean over 8 pairs."""
    lp = torch.tensor([-300.0], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([-200.0], dtype=torch.float64)
    beta, one = 0.1, torch.ones(1, dtype=torch.float64)
    u = -np.log(np.expm1(0.6))  # -log sigmoid(u) = .6
    ref = torch.tensor([-300.0 - u / beta], dtype=torch.float64)
    sides = Sides(lp, other, ref, other, one, one)
    loss = PairLoss("bt", beta)
    for form, added in (
        (lambda r: official(loss, sides, r, 8), -6e-4),
        (lambda r: surrogate(loss, sides, r), 0.18 / 8),
    ):
        gradients = []
        for c in (0.3, 0.0):
            terms = form(Routes(one, one, 0 * one, c * one, 0 * one))
            gradients.append(torch.autograd.grad(terms.loss.sum() / 8, lp)[0].item())
        assert gradients[0] - gradients[1] == pytest.approx(added, rel=1e-6)


def test_objective_gradient_by_central_differences() -> None:
    world, loss = World(4), loss_of("bt")
    analytic = world.exact_gradient("pr", loss)
    for x, a in ((0, 1), (1, 3)):
        values = []
        for sign in (1, -1):
            moved = World(4)
            with torch.no_grad():
                moved.theta[x, a] += sign * 1e-5
            values.append(moved.objective("pr", loss).item())
        assert analytic[x, a].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_constant_baseline_leaves_the_expectation(setting: Setting) -> None:
    world, loss = World(5), loss_of("bt")
    plain = world.surrogate_gradient(setting, loss, c=1.0)
    torch.testing.assert_close(world.surrogate_gradient(setting, loss, c=1.0, baseline=0.9), plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("setting", ["dp", "pp"])
def test_self_labelled_update_is_c_times_the_gradient(setting: Setting) -> None:
    world, loss = World(6), loss_of("bt")
    exact = world.exact_gradient(setting, loss)
    torch.testing.assert_close(world.surrogate_gradient(setting, loss, c=0.2), 0.2 * exact, rtol=0, atol=1e-10)
    assert world.surrogate_gradient(setting, loss, c=0.0).abs().max() < 1e-10


@pytest.mark.parametrize("setting", ["dp", "pp"])
def test_the_reference_is_stationary_for_self_labels(setting: Setting) -> None:
    world, loss = World(7, at_reference=True), loss_of("bt")
    assert world.surrogate_gradient(setting, loss, c=1.0).abs().max() < 1e-10


def test_the_hook_form_is_not_the_gradient() -> None:
    """Negative control: the released code's correction pushes the other way and is not the gradient."""
    world, loss = World(8), loss_of("bt")
    exact = world.exact_gradient("pr", loss)
    routes = world.routes("pr", world.oracle.reshape(-1), 1.0)
    terms = official(loss, world.sides(), routes, 1)
    wrong = torch.autograd.grad((world.response_law("pr").detach() * terms.loss).sum(), world.theta)[0]
    plain = world.surrogate_gradient("pr", loss, c=0.0)
    assert (wrong - exact).norm() > (exact - plain).norm()


def test_gradient_through_the_advantage_is_not_the_gradient() -> None:
    """Negative control: without the stop-gradient on A the expectation is off."""
    world, loss = World(8), loss_of("bt")
    sides, p = world.sides(), world.oracle.reshape(-1)
    h = loss.margin(sides)
    phi = p * loss.phi(h) + (1 - p) * loss.phi(-h)
    leaky = (world.response_law("pr").detach() * (phi + phi * (sides.lp_1 + sides.lp_2))).sum()
    wrong = torch.autograd.grad(leaky, world.theta)[0]
    assert (wrong - world.exact_gradient("pr", loss)).abs().max() > 1e-2


def test_stale_labels_are_not_the_gradient() -> None:
    """Negative control: labels drawn from an older policy's preference."""
    world, old, loss = World(8), World(9), loss_of("bt")
    stale = loss.log_preference(loss.margin(old.sides())).exp().detach()
    total = torch.zeros((), dtype=torch.float64)
    for label in (0.0, 1.0):
        terms = surrogate(loss, world.sides(), world.routes("dp", torch.full_like(stale, label), 1.0))
        total = total + (world.response_law("dp") * (stale if label else 1 - stale) * terms.loss).sum()
    wrong = torch.autograd.grad(total, world.theta)[0]
    assert (wrong - world.exact_gradient("dp", loss)).abs().max() > 1e-3


def test_tempered_samples_are_not_the_gradient() -> None:
    """Negative control: responses drawn at temperature 0.7, scored without it."""
    world, loss = World(8), loss_of("bt")
    tempered = torch.softmax(world.theta.detach() / 0.7, -1)
    law = (tempered[:, :, None] * tempered[:, None, :]).reshape(-1) / PROMPTS
    terms = rao_blackwell(loss, world.sides(), world.routes("pr", world.oracle.reshape(-1), 1.0))
    wrong = torch.autograd.grad((law * terms.loss).sum(), world.theta)[0]
    assert (wrong - world.exact_gradient("pr", loss)).abs().max() > 1e-3


def test_dp_slope_in_u() -> None:
    """dJ_DP/du = u s (1 - s), largest at |u| = 1.5434."""
    u = torch.linspace(0.01, 6, 60000, dtype=torch.float64, requires_grad=True)
    s = torch.sigmoid(u)
    entropy = -(s * torch.log(s) + (1 - s) * torch.log(1 - s))
    slope = torch.autograd.grad((-entropy).sum(), u)[0]
    torch.testing.assert_close(slope, (u * s * (1 - s)).detach())
    assert u[slope.argmax()].item() == pytest.approx(1.5434, abs=2e-4)


@pytest.mark.parametrize(("smoothing", "stable"), [(0.05, 4.36), (0.1, 3.26), (0.2, 1.62)])
def test_smoothing_stops_the_margin(smoothing: float, stable: float) -> None:
    """The expected self-labelled cDPO loss falls below the stable margin and rises above it."""
    loss = PairLoss("cdpo", beta=1.0, smoothing=smoothing)

    def slope(at: float) -> float:
        h = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        p = torch.sigmoid(h)
        value = p * loss.phi(h) + (1 - p) * loss.phi(-h)
        return float(torch.autograd.grad(value, h)[0])

    assert slope(stable - 0.02) < 0 < slope(stable + 0.02)


def test_leave_one_out_against_a_loop() -> None:
    values = torch.randn(7, dtype=torch.float64)
    expected = [np.mean([values[j].item() for j in range(7) if j != i]) for i in range(7)]
    np.testing.assert_allclose(leave_one_out(values).numpy(), expected)


def test_leave_one_out_cuts_the_variance_and_keeps_the_mean() -> None:
    world, loss = World(9, at_reference=True), PairLoss("bt", beta=0.1)
    with torch.no_grad():
        world.theta += 0.05 * torch.randn(PROMPTS, ANSWERS, generator=torch.Generator().manual_seed(1))
    first, second, ref_1, ref_2 = (t.detach() for t in world.pairs())
    rng = torch.Generator().manual_seed(2)
    batch, rounds = 16, 4000
    index = torch.multinomial(world.response_law("pr").detach(), batch * rounds, True, generator=rng).view(
        rounds, batch
    )
    h = ((first - ref_1) - (second - ref_2))[index]
    label = (torch.rand(index.shape, generator=rng) < world.oracle.reshape(-1)[index]).double()
    phi = label * loss.phi(h) + (1 - label) * loss.phi(-h)
    score = torch.zeros(len(first), ANSWERS * PROMPTS, dtype=torch.float64)
    for k in range(len(first)):
        value = world.pairs()[0][k] + world.pairs()[1][k]
        score[k] = torch.autograd.grad(value, world.theta)[0].flatten()
    loo = (phi.sum(1, keepdim=True) - phi) / (batch - 1)
    plain = torch.einsum("rb,rbd->rd", phi, score[index]) / batch
    cut = torch.einsum("rb,rbd->rd", phi - loo, score[index]) / batch
    exact = world.exact_gradient("pr", loss) - world.surrogate_gradient("pr", loss, c=0.0)
    error = cut.std(0) / rounds**0.5
    assert ((cut.mean(0) - exact.flatten()).abs() < 4 * error).all()
    assert plain.var(0).mean() > 10 * cut.var(0).mean()


@pytest.mark.parametrize("kind", LOSSES)
def test_swapping_the_pair_with_its_label_changes_nothing(kind: LossKind) -> None:
    lp_1, lp_2, r_1, r_2 = torch.randn(4, 5, dtype=torch.float64)
    n_1, n_2 = torch.randint(1, 9, (2, 5)).double()
    label = torch.tensor([0.0, 1.0, 0.3, 1.0, 0.0], dtype=torch.float64)
    ones = torch.ones(5, dtype=torch.float64)
    here = surrogate(loss_of(kind), Sides(lp_1, lp_2, r_1, r_2, n_1, n_2), Routes(label, ones, ones, 0.3 * ones, ones))
    swapped = Sides(lp_2, lp_1, r_2, r_1, n_2, n_1)
    there = surrogate(loss_of(kind), swapped, Routes(1 - label, ones, ones, 0.3 * ones, ones))
    for name in ("loss", "response", "label"):
        torch.testing.assert_close(getattr(here, name), getattr(there, name))


def test_self_labels_follow_the_preference() -> None:
    h = torch.full((20000,), 1.2, dtype=torch.float64)
    draws = torch.rand(20000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    share = self_label(PairLoss("bt", beta=0.5), h, draws).mean().item()
    assert share == pytest.approx(float(torch.sigmoid(torch.tensor(0.6))), abs=4 * 0.0034)


def test_bt_is_the_closed_form() -> None:
    h = torch.randn(9)
    torch.testing.assert_close(PairLoss("bt", beta=0.3).phi(h), F.softplus(-0.3 * h))
