"""Every option of SAILConfig has an effect that can be seen, on the tiny model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from kit.training import EOS, longest, perturb, rows, sail_trainer
from peft import LoraConfig

from sail.baselines import kl_baselines, route_baselines, within_prompt
from sail.data import by_strength, drop_near_ties, may_use_label
from sail.pairs import TokenisedPair
from sail.routes import flipped, label_of, route_of, source_of

Load = Callable[[], Any]
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


def first_step(trainer: Any, batches: int = 1) -> list[dict[str, torch.Tensor]]:
    """The collated micro-batches of the first optimiser step."""
    trainer.current_gradient_accumulation_steps = batches
    micro_batches, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), batches, trainer.args.device)
    return micro_batches


def test_labels_hard_sampled_soft() -> None:
    assert [label_of(p, 0.4, "hard") for p in (0.9, 0.1, 0.5)] == [1, 0, 1]
    assert label_of(0.5, 0.6, "hard") == 0
    assert [label_of(0.7, d, "sampled") for d in (0.6, 0.8)] == [1, 0]
    assert label_of(0.7, 0.9, "soft") == 0.7
    assert [flipped(1.0, d, 0.3) for d in (0.2, 0.4)] == [0, 1]


def test_baselines_by_route_against_loops() -> None:
    phi, routes = [1.0, 5.0, 2.0, 9.0], [1, 2, 1, 1]
    expected = [(2 + 9) / 2, 7.5, (1 + 9) / 2, (1 + 2) / 2]
    assert route_baselines(phi, routes, {2: 7.5}) == pytest.approx(expected)
    assert route_baselines([], [], {}) == []


@pytest.mark.parametrize(
    ("kind", "beta", "extra", "at_zero"),
    [
        ("bt", 0.3, {}, np.log(2)),
        ("cdpo", 0.3, {"label_smoothing": 0.1}, np.log(2)),
        ("hinge", 0.3, {}, 1.0),
        ("ipo", 0.5, {}, 1.0),
        ("simpo", 2.0, {"simpo_gamma": 1.0}, np.log1p(np.e)),
    ],
)
@pytest.mark.parametrize("route", ["dp", "pp", "pr"])
def test_first_baseline_of_a_lone_pair_is_phi_at_zero(
    tmp_path: Path,
    load: Load,
    tokenizer: Any,
    kind: str,
    beta: float,
    extra: dict[str, Any],
    at_zero: float,
    route: str,
) -> None:
    """At the start policy that is its phi: no score term is left, and the gradient is that at coefficient 0."""
    norms = []
    for coefficient, baseline in ((0.3, "loo"), (0.0, "loo"), (0.3, "none")):
        settings = {f"{route}_share": 1.0, f"{route}_coef": coefficient, "baseline": baseline, "preference": longest}
        trainer = sail_trainer(
            tmp_path, load, tokenizer, rows(), pair_loss=kind, beta=beta, per_device_train_batch_size=1,
            max_new_tokens=12, **settings, **extra,
        )  # fmt: skip
        batch = first_step(trainer)[0]
        if baseline == "loo":
            assert batch["baseline"].tolist() == pytest.approx([at_zero])
        loss = trainer._compute_loss(trainer.model, batch, False)
        gradients = torch.autograd.grad(loss, list(trainer.model.parameters()))
        norms.append(float(sum(g.pow(2).sum() for g in gradients)) ** 0.5)
    if kind == "simpo":
        return  # no reference: its margin at the start policy is not 0
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    assert route == "dp" or norms[2] > 1.1 * norms[0]


def test_within_prompt_baselines_leave_the_response_out() -> None:
    phi = {(0, 1): 1.0, (0, 2): 2.0, (0, 3): 4.0, (1, 2): 8.0, (1, 3): 16.0, (2, 3): 32.0}
    baselines_of = dict(zip(phi, within_prompt(list(phi.values()), 4), strict=True))
    for (i, j), pair in baselines_of.items():
        for k, value in zip((i, j), pair, strict=True):
            assert value == pytest.approx(np.mean([v for p, v in phi.items() if k not in p]))


def test_routes_of_unlabelled_examples() -> None:
    shares = (0.2, 0.0, 0.3)
    taken = [route_of(0, example, 0, shares, labelled=False) for example in range(3000)]
    assert set(taken) == {0, 2}
    assert taken.count(2) / 3000 == pytest.approx(0.6, abs=0.03)
    nested = [{e for e in range(400) if may_use_label(1, e, f)} for f in (0.1, 0.25, 1.0)]
    assert nested[0] < nested[1] < nested[2]
    assert len(nested[2]) == 400
    assert {source_of(0, e, 0, (0.5, 0.0, 0.2)) for e in range(200)} == {0, 2, 3}


def test_near_ties_and_curriculum() -> None:
    data = Dataset.from_list([{"strength": s} for s in (0.5, -0.1, 2.0, 0.5)])
    assert drop_near_ties(data, 0.5)["strength"][:] == [0.5, 2.0, 0.5]
    assert by_strength(data, "wide-to-narrow")["strength"][:] == [2.0, 0.5, 0.5, -0.1]
    assert by_strength(data, "narrow-to-wide")["strength"][:] == [-0.1, 0.5, 0.5, 2.0]
    with pytest.raises(ValueError, match="'strength' column"):
        drop_near_ties(Dataset.from_list([{"x": 1}]), 0.5)


def test_curriculum_and_filter_reach_the_batches(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    data = [row | {"strength": float(i % 6)} for i, row in enumerate(rows())]
    trainer = sail_trainer(tmp_path, load, tokenizer, data, curriculum="wide-to-narrow", min_strength=2.0)
    assert len(trainer.train_dataset) == 8
    taken = first_step(trainer)[0]["example_id"].tolist()
    assert [data[i]["strength"] for i in taken] == [5, 5, 4, 4]


def test_limited_labels(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    offline = sail_trainer(tmp_path, load, tokenizer, rows(40), label_fraction=0.25)
    kept = offline.train_dataset["example_id"][:]
    assert kept == [e for e in range(40) if may_use_label(42, e, 0.25)]
    mixed = sail_trainer(
        tmp_path, load, tokenizer, rows(40), label_fraction=0.25, dp_share=0.3, per_device_train_batch_size=40
    )
    batch = first_step(mixed)[0]
    for example, route in zip(batch["example_id"].tolist(), batch["route"].tolist(), strict=True):
        assert route == 0 or example in kept


def test_flips_turn_given_labels_round_for_good(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = sail_trainer(tmp_path, load, tokenizer, rows(200), flip_rate=0.3, per_device_train_batch_size=200)
    labels = first_step(trainer)[0]["label"]
    assert labels.mean().item() == pytest.approx(0.7, abs=0.1)
    trainer.state.global_step = 7
    again = first_step(trainer)[0]
    assert sorted(again["label"].tolist()) == sorted(labels.tolist())


def test_soft_labels_keep_the_oracles_probability(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(), pr_share=1.0, labels="soft", preference=lambda pairs: [0.3] * len(pairs)
    )
    assert first_step(trainer)[0]["label"].tolist() == pytest.approx([0.3] * 4)


def test_more_samples_a_prompt(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """K = 3: three pairs a prompt that weigh one together; phi is averaged over them."""
    labelled: list[TokenisedPair] = []

    def prefer(pairs: Sequence[TokenisedPair]) -> list[float]:
        labelled.extend(pairs)
        return longest(pairs)

    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(), pr_share=1.0, num_samples=3, max_new_tokens=4, preference=prefer
    )
    batch = first_step(trainer)[0]
    assert len(labelled) == 12
    assert batch["weight"].tolist() == pytest.approx([1 / 12] * 12)
    assert batch["example_id"].tolist() == [e for e in batch["example_id"].tolist()[::3] for _ in range(3)]
    by_example: dict[int, set[tuple[int, ...]]] = {}
    for pair in labelled:
        by_example.setdefault(pair.example, set()).update([pair.first, pair.second])
    assert all(len(responses) <= 3 for responses in by_example.values())
    trainer.train()
    assert np.isfinite(trainer.state.log_history[0]["loss"])


@pytest.mark.parametrize("source", ["start", "lagged", "other"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_generators(tmp_path: Path, load: Load, tokenizer: Any, source: str, lora: bool) -> None:
    """Responses of another generator are that generator's, and carry no score term."""
    options: dict[str, Any] = {"peft_config": LORA} if lora else {}
    settings = options | {f"{source}_generator": 1.0, "pp_share": 0.9, "max_new_tokens": 6}
    if source == "lagged":
        settings["lag_steps"] = 100
    other = perturb(load(), seed=3)
    if source == "other":
        settings["generator"] = other
    trainer = sail_trainer(tmp_path, load, tokenizer, rows(), **settings)
    if source == "lagged":
        first_step(trainer)  # remembers the weights of step 0
        trainer.state.global_step = 1
    perturb(trainer.model, scale=0.05)
    weights = {n: p.clone() for n, p in trainer.model.named_parameters()}
    batch = first_step(trainer)[0]
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, weights[name]), name
    assert batch["online"].sum() == 0
    from sail.sampling import sample
    from sail.types import Request

    sampler = {"start": load(), "lagged": load(), "other": other}[source]
    for i in range(4):
        if batch["route"][i] != 1:
            continue
        prompt = batch["input_ids"][i][(batch["attention_mask"][i] > 0) & (batch["completion_mask"][i] == 0)]
        key = (42, int(batch["example_id"][i]), trainer.state.global_step, "token", 0)
        expected = sample(sampler, [Request(tuple(prompt.tolist()), 6, 1.0, key)], eos_ids=[EOS], pad_id=1)[0]
        assert tuple(batch["input_ids"][i][batch["completion_mask"][i] > 0].tolist()) == expected.ids


def logps(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Summed completion log-probabilities by a plain forward."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    token = torch.log_softmax(logits, -1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    return (token * batch["completion_mask"][:, 1:]).sum(1)


@pytest.mark.parametrize("penalty", ["kl_penalty", "u_penalty"])
def test_penalties_have_their_formula_as_gradient(tmp_path: Path, load: Load, tokenizer: Any, penalty: str) -> None:
    """On plain forwards, at K = 3: |u| in the value, and the score terms of both penalties in the gradient alone."""
    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(16), pp_share=0.6, dp_share=0.3, max_new_tokens=6, num_samples=3
    )
    perturb(trainer.model)
    batch = first_step(trainer)[0]
    values, gradients = [], []
    for weight in (0.0, 2.0):
        setattr(trainer.args, penalty, weight)
        loss = trainer._compute_loss(trainer.model, batch, False)
        gradients.append(torch.autograd.grad(loss, list(trainer.model.parameters()), allow_unused=True))
        values.append(loss.item())
    lp_1, lp_2 = logps(trainer.model, batch).chunk(2)
    r_1, r_2 = lp_1 - batch["ref_chosen_logps"], lp_2 - batch["ref_rejected_logps"]
    size = (0.3 * (r_1 - r_2)).abs()
    own, other = ((r_1, r_2), 0.5) if penalty == "kl_penalty" else ((size, size), 1.0)
    kind = penalty[: penalty.index("_")]
    score = (own[0].detach() - batch[f"{kind}_baseline_1"]) * lp_1 + (
        own[1].detach() - batch[f"{kind}_baseline_2"]
    ) * lp_2
    each = other * batch["online"] * score
    if penalty == "u_penalty":
        each = each + (batch["route"] != 3) * size
    expected = torch.autograd.grad((2 * batch["weight"] * each).sum(), list(trainer.model.parameters()))
    for a, b, value in zip(*gradients, expected, strict=True):
        torch.testing.assert_close(b - a, value, rtol=1e-3, atol=1e-3 * float(value.abs().max()))
    by_hand = float((batch["weight"] * (batch["route"] != 3) * size.detach()).sum()) if penalty == "u_penalty" else 0.0
    assert values[1] - values[0] == pytest.approx(2 * by_hand, rel=1e-4, abs=1e-6)
    assert penalty == "kl_penalty" or by_hand > 1e-3
    assert batch[f"{kind}_baseline_1"].abs().max() > 0


def test_kl_baselines_leave_the_response_out() -> None:
    """K = 3 at one prompt and 2 at another: each response once, its own log-ratio left out."""
    ratios = {("a", 0): 1.0, ("a", 1): 2.0, ("a", 2): 4.0, ("b", 0): 8.0, ("b", 1): 16.0}
    pairs = [("a", (0, 1)), ("a", (0, 2)), ("a", (1, 2)), ("b", (0, 1))]
    baselines_of = kl_baselines([(g, p, (ratios[g, p[0]], ratios[g, p[1]])) for g, p in pairs])
    for (group, pair), both in zip(pairs, baselines_of, strict=True):
        for k, b in zip(pair, both, strict=True):
            assert b == pytest.approx(np.mean([r for key, r in ratios.items() if key != (group, k)]))


def test_kl_baseline_of_a_lone_pair_is_its_partner() -> None:
    assert kl_baselines([("a", (0, 1), (3.0, 5.0))]) == [(5.0, 3.0)]


def test_term_norms_are_those_of_the_terms(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """T2 is the gradient at c = 0, T1 what c adds; with accumulation they are those of the whole step."""

    def gradients(coefficient: float) -> dict[str, torch.Tensor]:
        trainer = build(coefficient, 4, 1)
        batch = first_step(trainer)[0]
        trainer._compute_loss(trainer.model, batch, False).backward()
        return {n: p.grad for n, p in trainer.model.named_parameters()}

    def build(coefficient: float, size: int, accumulation: int) -> Any:
        trainer = sail_trainer(
            tmp_path, load, tokenizer, rows(), preference=longest, pr_share=1.0, pr_coef=coefficient, max_steps=1,
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, term_norms_every=1,
        )  # fmt: skip
        perturb(trainer.model)
        return trainer

    plain, scored = gradients(0.0), gradients(0.5)
    t1 = sum(float((scored[n] - plain[n]).pow(2).sum()) for n in plain) ** 0.5
    t2 = sum(float(g.pow(2).sum()) for g in plain.values()) ** 0.5
    for size, accumulation in ((4, 1), (2, 2)):
        trainer = build(0.5, size, accumulation)
        trainer.train()
        log = trainer.state.log_history[0]
        assert log["norm/t1"] == pytest.approx(t1, rel=1e-3)
        assert log["norm/t2"] == pytest.approx(t2, rel=1e-3)
        assert log.get("norm/t3", 0) == 0


def test_max_length_limits_the_responses(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """What the collator would cut off is not sampled, so that the scored ids are the sampled ones."""
    trainer = sail_trainer(tmp_path, load, tokenizer, rows(), pp_share=0.9, max_new_tokens=20, max_length=12)
    perturb(trainer.model)
    batch = first_step(trainer)[0]
    online = batch["online"].bool().repeat(2)
    lengths = batch["attention_mask"].sum(1)[online]
    assert lengths.max() == 12
    trainer = sail_trainer(tmp_path, load, tokenizer, rows(), pp_share=0.9, max_length=4)
    with pytest.raises(ValueError, match="max_length=4 leaves no room"):
        first_step(trainer)


@pytest.mark.parametrize("loss", ["bt", "cdpo", "hinge", "ipo", "simpo"])
@pytest.mark.parametrize("estimator", ["score", "rao-blackwell", "official"])
def test_every_loss_and_estimator_trains(tmp_path: Path, load: Load, tokenizer: Any, loss: str, estimator: str) -> None:
    shares = {"dp_share": 0.25, "pp_share": 0.25, "pr_share": 0.25}
    trainer = sail_trainer(
        tmp_path,
        load,
        tokenizer,
        rows(),
        pair_loss=loss,
        estimator=estimator,
        preference=longest,
        max_steps=2,
        **shares,
    )
    trainer.train()
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_simpo_at_no_shares_is_the_closed_form(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = sail_trainer(tmp_path, load, tokenizer, rows(), pair_loss="simpo", simpo_gamma=0.4, beta=2.0)
    perturb(trainer.model)
    batch = first_step(trainer)[0]
    loss = float(trainer._compute_loss(trainer.model, batch, False))
    with torch.no_grad():
        logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    token = torch.log_softmax(logits, -1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
    mask = batch["completion_mask"][:, 1:]
    mean = (token * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.softplus(0.4 - 2.0 * (mean[:4] - mean[4:])).mean()
    assert loss == pytest.approx(float(expected), rel=1e-5)


def test_step_metrics(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """What a step logs: shares, margins, entropy, KL, the score term's spread, lengths and time per phase."""
    trainer = sail_trainer(
        tmp_path,
        load,
        tokenizer,
        rows(16),
        pr_share=1.0,
        preference=longest,
        per_device_train_batch_size=8,
        max_steps=2,
    )
    trainer.train()
    log = trainer.state.log_history[-2]
    for name in ("kl", "score/std", "score/std_no_baseline", "abs_u", "self_label_entropy", "share/pr"):
        assert np.isfinite(log[name]), name
    for name in ("generated/length", "generated/truncated", "seconds/generate", "seconds/label", "seconds/reference"):
        assert log[name] >= 0, name
    assert log["score/std"] < log["score/std_no_baseline"]
    first = trainer.state.log_history[0]
    assert first["kl"] == pytest.approx(0, abs=1e-4)
    assert first["self_label_entropy"] == pytest.approx(np.log(2), abs=1e-4)
