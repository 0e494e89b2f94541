"""The real trainer on a policy small enough to enumerate (spec section 4, items 8 and 9).

Three tokens (a, b and the end), at most three a response: 15 responses a prompt. The gradient that the trainer makes of
about 1e5 sampled pairs is compared with that of the objective, differentiated through everything by brute force.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from kit.enumerable import END, LONGEST, PROMPTS, RESPONSES, A, B, log_probabilities, policy, tokenizer
from kit.training import arguments, perturb

from sail.config import SAILConfig
from sail.losses import LossKind, PairLoss, Sides, labelled
from sail.rollout import Pair
from sail.trainer import SAILTrainer

BETA, PAIRS = 0.7, 1000
FITTING = {"pp": {"pp_share": 1.0}, "pr": {"pr_share": 1.0}, "dp": {"dp_share": 1.0}}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:without an offline or PR share")]


def value(response: Sequence[int]) -> float:
    """The oracle's score: one for each b, minus half for not ending."""
    return sum(t == B for t in response) - 0.5 * (response[-1] != END)


def preference(pairs: Sequence[Pair]) -> list[float]:
    """A Bradley-Terry oracle."""
    return [torch.sigmoid(torch.tensor(value(p.first) - value(p.second))).item() for p in pairs]


def trainer(folder: Path, **changes: Any) -> SAILTrainer:
    """The trainer at a policy away from its reference; every prompt half of the pairs."""
    data = [
        {"example_id": i, "prompt_ids": list(PROMPTS[i % 2]), "chosen_ids": [B, END], "rejected_ids": [A, A, B]}
        for i in range(PAIRS)
    ]
    settings = {"beta": BETA, "max_new_tokens": LONGEST, "generation_batch_size": 2 * PAIRS, "labels": "sampled"}
    made = SAILTrainer(
        model=perturb(policy(0), 5, 0.1),
        ref_model=policy(0),
        args=SAILConfig(**arguments(folder, per_device_train_batch_size=PAIRS, **(settings | changes))),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer(),
        preference=preference,
    )
    made.current_gradient_accumulation_steps = 1
    return made


def flat(gradients: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]
    return torch.cat([g.double().flatten() for g in parts])


def sampled(made: SAILTrainer, steps: int = 20) -> torch.Tensor:
    """Gradient of each of several steps at the same weights, fresh noise in each. Shape (steps, parameters)."""
    parameters, out = list(made.model.parameters()), []
    loader = made.get_train_dataloader()
    for step in range(steps):
        made.state.global_step = step
        (batch,), items = made.get_batch_samples(iter(loader), 1, made.args.device)
        made.model.zero_grad()
        made.training_step(made.model, batch, items)
        out.append(flat([p.grad for p in parameters], parameters))
    return torch.stack(out)


def exact(made: SAILTrainer, route: str, loss: PairLoss) -> torch.Tensor:
    """Gradient of the objective of a route by brute force over responses and labels, all of theta differentiated."""
    parameters = list(made.model.parameters())
    lp = log_probabilities(made.model)
    with torch.no_grad():
        ref = log_probabilities(made.ref_model)
    length = torch.tensor([float(len(r)) for r in RESPONSES], dtype=torch.float64)
    n = len(RESPONSES)
    first, second = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
    if route in ("dp", "off"):
        first, second = (torch.tensor([RESPONSES.index(r)]) for r in ((B, END), (A, A, B)))
    scores = torch.tensor([value(r) for r in RESPONSES], dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for p, r in zip(lp, ref, strict=True):
        h = loss.margin(Sides(p[first], p[second], r[first], r[second], length[first], length[second]))
        law = (p[first] + p[second]).exp() if route in ("pp", "pr") else torch.ones(1, dtype=torch.float64)
        label = {
            "pr": torch.sigmoid(scores[first] - scores[second]),
            "off": torch.ones(1, dtype=torch.float64),
        }.get(route, loss.log_preference(h).exp())
        total = total + (law * labelled(loss.phi(h), loss.phi(-h), label)).sum() / len(PROMPTS)
    return flat(torch.autograd.grad(total, parameters, allow_unused=True), parameters)


def deviations(gradients: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Deviations from the truth in standard errors along 40 directions (its own first), and the truth's size there."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(40, len(truth), generator=generator, dtype=torch.float64)
    directions[0] = truth
    along = gradients @ directions.T
    error = along.std(0, correction=1) / len(gradients) ** 0.5
    return (along.mean(0) - directions @ truth) / error, float(truth @ truth / error[0])


def test_the_responses_are_all_there_are() -> None:
    assert len(set(RESPONSES)) == 15
    torch.testing.assert_close(
        log_probabilities(policy(0)).exp().sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("route", "loss", "steps", "more"),
    [
        ("pr", "bt", 100, {}),
        ("pp", "bt", 40, {}),
        ("dp", "bt", 15, {}),
        ("pr", "ipo", 25, {}),
        ("pp", "simpo", 40, {"simpo_gamma": 0.4}),
        ("pr", "bt", 15, {"num_samples": 3}),
        ("pp", "bt", 20, {"estimator": "rao-blackwell"}),
    ],
    ids=lambda v: "-".join(map(str, v.values())) or "plain" if isinstance(v, dict) else str(v),
)
def test_the_trainers_gradient_is_that_of_the_objective(
    tmp_path: Path, route: str, loss: LossKind, steps: int, more: dict[str, Any]
) -> None:
    """Up to 1e5 pairs: within 4.5 standard errors along 40 directions, and the truth itself over 10 away from 0."""
    made = trainer(tmp_path, pair_loss=loss, **FITTING[route], **{f"{route}_coef": 1.0}, **more)
    truth = exact(made, route, made.pair_loss)
    off, size = deviations(sampled(made, steps), truth)
    assert size > 10
    assert off.abs().max() < 4.5


def test_a_mixture_is_the_mixture_of_the_objectives(tmp_path: Path) -> None:
    made = trainer(tmp_path, pr_share=0.3, pr_coef=1.0, pp_share=0.2, pp_coef=1.0, dp_share=0.1, dp_coef=1.0)
    shares = {"pr": 0.3, "pp": 0.2, "dp": 0.1, "off": 0.4}
    truth = sum(w * exact(made, route, made.pair_loss) for route, w in shares.items())
    assert isinstance(truth, torch.Tensor)
    off, size = deviations(sampled(made), truth)
    assert size > 10
    assert off.abs().max() < 4.5


@pytest.mark.filterwarnings("ignore:temperature")
@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0.7}, {"estimator": "official"}, {"pr_coef": 0.0}],
    ids=["tempered sampling", "hook form", "no score term"],
)
def test_negative_controls_fail(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """The same comparison finds each of these wrong gradients."""
    made = trainer(tmp_path, pr_share=1.0, **({"pr_coef": 1.0} | wrong))
    off, _ = deviations(sampled(made), exact(made, "pr", made.pair_loss))
    assert off.abs().max() > 8
