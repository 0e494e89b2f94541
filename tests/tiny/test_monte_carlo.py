"""The real trainer on a policy small enough to enumerate.

Three tokens (a, b and the end), at most three a response: 15 responses a prompt. The gradient that the trainer makes of
many sampled pairs is compared with that of the objective, differentiated through everything by brute force. Every run
takes 6,000 to 24,000 pairs a setting, at which wrong gradients are detected; nightly, 15,000 to 100,000.
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
from sail.pairs import TokenisedPair
from sail.trainer import SAILTrainer

BETA = 0.7
FITTING = {"pp": {"pp_share": 1.0}, "pr": {"pr_share": 1.0}, "dp": {"dp_share": 1.0}}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:without an offline or PR share")]


def value(response: Sequence[int]) -> float:
    """The oracle's score: one for each b, minus half for not ending."""
    return sum(t == B for t in response) - 0.5 * (response[-1] != END)


def preference(pairs: Sequence[TokenisedPair]) -> list[float]:
    """A Bradley-Terry oracle."""
    return [torch.sigmoid(torch.tensor(value(p.first) - value(p.second))).item() for p in pairs]


def trainer(folder: Path, pairs: int, **changes: Any) -> SAILTrainer:
    """The trainer at a policy away from its reference, ``pairs`` pairs a step; every prompt half of them."""
    data = [
        {"example_id": i, "prompt_ids": list(PROMPTS[i % 2]), "chosen_ids": [B, END], "rejected_ids": [A, A, B]}
        for i in range(pairs)
    ]
    settings = {"beta": BETA, "max_new_tokens": LONGEST, "generation_batch_size": 2 * pairs, "labels": "sampled"}
    trained = SAILTrainer(
        model=perturb(policy(0), 5, 0.1),
        ref_model=policy(0),
        args=SAILConfig(**arguments(folder, per_device_train_batch_size=pairs, **(settings | changes))),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer(),
        preference=preference if changes.get("pr_share") else None,
    )
    trained.current_gradient_accumulation_steps = 1
    return trained


def flat(gradients: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, like, strict=True)]
    return torch.cat([g.double().flatten() for g in parts])


def sampled(trained: SAILTrainer, steps: int = 20) -> torch.Tensor:
    """Gradient of each of several steps at the same weights, fresh noise in each. Shape (steps, parameters)."""
    parameters, out = list(trained.model.parameters()), []
    loader = trained.get_train_dataloader()
    for step in range(steps):
        trained.state.global_step = step
        (batch,), items = trained.get_batch_samples(iter(loader), 1, trained.args.device)
        trained.model.zero_grad()
        trained.training_step(trained.model, batch, items)
        out.append(flat([p.grad for p in parameters], parameters))
    return torch.stack(out)


def exact(trained: SAILTrainer, route: str, loss: PairLoss) -> torch.Tensor:
    """Gradient of the objective of a route by brute force over responses and labels, all of theta differentiated."""
    parameters = list(trained.model.parameters())
    lp = log_probabilities(trained.model)
    assert (trained.ref_model is None) == (loss.kind == "simpo")
    with torch.no_grad():
        # a loss without a reference has no reference model; its margin reads no such values
        ref = lp.detach() if trained.ref_model is None else log_probabilities(trained.ref_model)
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


NIGHTLY = pytest.mark.nightly


@pytest.mark.parametrize(
    ("route", "loss", "pairs", "steps", "more"),
    [
        ("pr", "bt", 800, 16, {}),
        ("pp", "bt", 800, 30, {}),
        ("dp", "bt", 400, 15, {}),
        ("pr", "ipo", 800, 16, {}),
        ("pp", "simpo", 800, 20, {"simpo_gamma": 0.4}),
        ("pr", "bt", 400, 15, {"num_samples": 3}),
        ("pp", "bt", 400, 15, {"estimator": "rao-blackwell"}),
        pytest.param("pr", "bt", 1000, 100, {}, marks=NIGHTLY),
        pytest.param("pp", "bt", 1000, 40, {}, marks=NIGHTLY),
        pytest.param("dp", "bt", 1000, 15, {}, marks=NIGHTLY),
        pytest.param("pr", "ipo", 1000, 25, {}, marks=NIGHTLY),
        pytest.param("pp", "simpo", 1000, 40, {"simpo_gamma": 0.4}, marks=NIGHTLY),
        pytest.param("pr", "bt", 1000, 15, {"num_samples": 3}, marks=NIGHTLY),
        pytest.param("pp", "bt", 1000, 20, {"estimator": "rao-blackwell"}, marks=NIGHTLY),
    ],
    ids=lambda v: "-".join(map(str, v.values())) or "plain" if isinstance(v, dict) else str(v),
)
def test_the_trainers_gradient_is_that_of_the_objective(
    tmp_path: Path, route: str, loss: LossKind, pairs: int, steps: int, more: dict[str, Any]
) -> None:
    """Within 4.5 standard errors along 40 directions, and the truth itself over 10 away from 0."""
    trained = trainer(tmp_path, pairs, pair_loss=loss, **FITTING[route], **{f"{route}_coef": 1.0}, **more)
    truth = exact(trained, route, trained.pair_loss)
    off, size = deviations(sampled(trained, steps), truth)
    assert size > 10
    assert off.abs().max() < 4.5


@pytest.mark.parametrize(("pairs", "steps"), [(400, 16), pytest.param(1000, 20, marks=NIGHTLY)])
def test_a_mixture_is_the_mixture_of_the_objectives(tmp_path: Path, pairs: int, steps: int) -> None:
    trained = trainer(tmp_path, pairs, pr_share=0.3, pr_coef=1.0, pp_share=0.2, pp_coef=1.0, dp_share=0.1, dp_coef=1.0)
    shares = {"pr": 0.3, "pp": 0.2, "dp": 0.1, "off": 0.4}
    truth = sum(w * exact(trained, route, trained.pair_loss) for route, w in shares.items())
    assert isinstance(truth, torch.Tensor)
    off, size = deviations(sampled(trained, steps), truth)
    assert size > 10
    assert off.abs().max() < 4.5


@pytest.mark.filterwarnings("ignore:temperature")
@pytest.mark.parametrize(
    ("wrong", "pairs", "steps"),
    [
        ({"temperature": 0.7}, 800, 16),
        ({"estimator": "official"}, 400, 16),
        ({"pr_coef": 0.0}, 400, 16),
        pytest.param({"temperature": 0.7}, 1000, 20, marks=NIGHTLY),
        pytest.param({"estimator": "official"}, 1000, 20, marks=NIGHTLY),
        pytest.param({"pr_coef": 0.0}, 1000, 20, marks=NIGHTLY),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_wrong_gradients_are_found(tmp_path: Path, wrong: dict[str, Any], pairs: int, steps: int) -> None:
    """Tempered sampling, the hook form and no score term, by the same comparison on as many pairs or fewer."""
    trained = trainer(tmp_path, pairs, pr_share=1.0, **({"pr_coef": 1.0} | wrong))
    off, _ = deviations(sampled(trained, steps), exact(trained, "pr", trained.pair_loss))
    assert off.abs().max() > 8
