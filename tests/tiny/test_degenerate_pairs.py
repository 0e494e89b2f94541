"""Completions without tokens or of probability 1, and scales of 0: a finite loss with a right gradient, or an error."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from kit.training import arguments, dpo_trainer, longest, perturb, rows, sail_trainer
from trl import DPOConfig

from harness.methods.base import PairMethod
from harness.methods.cdpo import CDPO
from harness.methods.hinge import Hinge
from harness.methods.ipo import IPO
from harness.methods.orpo import ORPO
from harness.methods.rdpo import RDPO
from harness.methods.sft import SFT
from harness.methods.simpo import SimPO
from harness.train.losses import kto, log1mexp, odds_ratio
from harness.train.pair_trainers import PairTrainer
from sail.losses import LossKind, PairLoss, Sides

Load = Callable[[], Any]
METHODS: list[PairMethod] = [CDPO(), Hinge(), IPO(), ORPO(), RDPO(), SFT(), SimPO()]
NAMES = [method.name for method in METHODS]
EMPTY = torch.tensor([[True, False], [False, True], [True, True], [False, False]])


def sides() -> Sides:
    """Four pairs: without a first response, a second one, both, neither. Log-probabilities of no tokens are 0."""
    lengths = torch.where(EMPTY, 0.0, torch.tensor([[3.0, 5.0]]))
    lp, ref = (torch.where(EMPTY, 0.0, torch.tensor([[a, b]])) for a, b in ((-6.0, -7.5), (-5.5, -8.0)))
    lp_1, lp_2 = (column.clone().requires_grad_() for column in lp.T)
    return Sides(lp_1, lp_2, *ref.T, *lengths.T)


def gradients(loss: torch.Tensor, s: Sides) -> list[torch.Tensor]:
    return [
        torch.zeros(4) if g is None else g for g in torch.autograd.grad(loss.sum(), [s.lp_1, s.lp_2], allow_unused=True)
    ]


def by_hand(name: str, a: float, b: float, r_1: float, r_2: float, n_1: int, n_2: int) -> float:
    """Losses of one pair in plain Python, a mean over no tokens being 0."""

    def softplus(x: float) -> float:
        return math.log1p(math.exp(-abs(x))) + max(x, 0.0)

    u, m_1, m_2 = 0.3 * ((a - r_1) - (b - r_2)), a / max(n_1, 1), b / max(n_2, 1)
    if name == "orpo":
        if not n_1 or not n_2:
            return -m_1
        odds = [math.exp(m) / (1 - math.exp(m)) for m in (m_1, m_2)]
        return -m_1 + 0.1 * softplus(math.log(odds[1] / odds[0]))
    mean_ratio = (a - r_1) / max(n_1, 1) - (b - r_2) / max(n_2, 1)
    return {
        "cdpo": 0.9 * softplus(-u) + 0.1 * softplus(u),
        "hinge": max(0.0, 1 - u),
        "ipo": (mean_ratio - 1) ** 2,
        "rdpo": (0.9 * softplus(-u) - 0.1 * softplus(u)) / 0.8,
        "sft": -m_1,
        "simpo": softplus(1.25 - 2.5 * (m_1 - m_2)),
    }[name]


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_pairs_without_tokens_have_a_finite_loss(method: PairMethod) -> None:
    """Values by plain Python, gradients by central differences on the responses that have tokens."""
    s = sides()
    loss = method.loss(0.3)(s)
    grads = gradients(loss, s)
    for i in range(4):
        at = [float(v[i].detach()) for v in (s.lp_1, s.lp_2, s.ref_1, s.ref_2)]
        lengths = [int(s.len_1[i]), int(s.len_2[i])]
        assert float(loss[i].detach()) == pytest.approx(by_hand(method.name, *at, *lengths), rel=1e-5, abs=1e-6)
        for k in (0, 1):
            assert grads[k][i].isfinite()
            if lengths[k]:
                moved = [by_hand(method.name, *(v + e * (j == k) for j, v in enumerate(at)), *lengths)
                         for e in (1e-5, -1e-5)]  # fmt: skip
                assert float(grads[k][i]) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4, abs=1e-5)


def test_kto_without_tokens_is_its_formula() -> None:
    s = sides()
    loss = kto(s, 0.2, torch.tensor(0.5))
    ratio_1, ratio_2 = (s.lp_1 - s.ref_1).detach(), (s.lp_2 - s.ref_2).detach()
    expected = (1 - torch.sigmoid(0.2 * (ratio_1 - 0.5)) + 1 - torch.sigmoid(0.2 * (0.5 - ratio_2))) / 2
    torch.testing.assert_close(loss, expected)
    assert all(g.isfinite().all() for g in gradients(loss, s))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orpo_of_certain_responses(dtype: torch.dtype) -> None:
    """log(1 - exp(lp)) at lp = 0, and next to it: finite, with the gradient 1/lp wherever lp is below 0."""
    x = torch.tensor([0.0, -1e-30, -1e-9, -1e-3], dtype=dtype, requires_grad=True)
    values = log1mexp(x)
    assert values.isfinite().all()
    assert (values[:-1] <= values[1:]).all()
    slopes = torch.autograd.grad(values.sum(), x)[0]
    assert slopes.tolist() == pytest.approx([0, -1e30, -1e9, -math.exp(-1e-3) / -math.expm1(-1e-3)], rel=1e-3)
    for certain in ((0.0, -4.0), (-4.0, 0.0), (0.0, 0.0)):
        lp_1, lp_2 = (torch.tensor([v], dtype=dtype, requires_grad=True) for v in certain)
        one = torch.ones(1, dtype=dtype)
        loss = odds_ratio(Sides(lp_1, lp_2, 0 * one, 0 * one, one, one), 0.1)
        grads = torch.autograd.grad(loss.sum(), [lp_1, lp_2])
        assert loss.isfinite().all()
        assert all(g.isfinite().all() for g in grads)
        if certain == (-4.0, 0.0):  # the rejected response is certain: the odds-ratio loss pulls in full
            assert float(grads[0]) == pytest.approx(-1 - 0.1 / (1 - math.exp(-4)), rel=1e-4)


@pytest.mark.parametrize("kind", ["bt", "cdpo", "hinge", "ipo", "simpo"])
@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf])
def test_a_beta_that_is_not_positive_is_refused(kind: LossKind, beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be a positive number; got"):
        PairLoss(kind, beta)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="pair_loss must be one of bt, cdpo, hinge, ipo, simpo; got 'dpo'"):
        PairLoss("dpo")  # type: ignore[arg-type]


def data_with_gaps() -> list[dict[str, Any]]:
    """A batch of four: a pair without a chosen response, one without a rejected, one without both, a whole one."""
    data = rows(4)
    data[0]["chosen_ids"], data[1]["rejected_ids"] = [], []
    data[2]["chosen_ids"] = data[2]["rejected_ids"] = []
    return data


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_methods_train_on_them(tmp_path: Path, load: Load, tokenizer: Any, method: PairMethod) -> None:
    trainer = PairTrainer(
        model=load(),
        ref_model=load(),
        args=DPOConfig(**arguments(tmp_path, max_steps=2, precompute_ref_log_probs=True)),
        train_dataset=Dataset.from_list(data_with_gaps()).remove_columns("example_id"),
        processing_class=tokenizer,
        pair_loss=method.loss(0.3),
        rewards=method.rewards(0.3),
        chosen_only=method.chosen_only,
    )
    trainer.train()
    check(trainer)


@pytest.mark.parametrize("kind", ["bt", "cdpo", "hinge", "ipo", "simpo"])
def test_sail_trains_on_them(tmp_path: Path, load: Load, tokenizer: Any, kind: str) -> None:
    shares = {"dp_share": 0.3, "pp_share": 0.2, "pr_share": 0.2, "preference": longest}
    trainer = sail_trainer(tmp_path, load, tokenizer, data_with_gaps(), pair_loss=kind, max_steps=2, **shares)
    trainer.train()
    check(trainer)


def check(trainer: Any) -> None:
    """All that was logged, and all weights, are finite numbers; the policy moved."""
    for row in trainer.state.log_history:
        assert all(math.isfinite(value) for value in row.values())
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    assert trainer.state.log_history[0]["grad_norm"] > 0


def test_ipo_on_them_is_trls(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """TRL too counts a completion without tokens as one of length 1."""
    values = []
    for build, settings in ((dpo_trainer, {"loss_type": ["ipo"]}), (sail_trainer, {"pair_loss": "ipo"})):
        trainer = build(tmp_path, load, tokenizer, data_with_gaps(), max_steps=1, **settings)
        perturb(trainer.model)
        trainer.train()
        values.append([trainer.state.log_history[0][name] for name in ("loss", "grad_norm")])
    assert values[1] == pytest.approx(values[0], rel=1e-4)
