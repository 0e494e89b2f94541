"""The real trainer: equal to TRL where it must be, equal tokens, and the surrogate where it differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.training import EOS, dpo_trainer, longest, perturb, record_ids, rows, sail_trainer
from peft import LoraConfig, get_peft_model

from sail.losses import PairLoss
from sail.pairs import TokenisedPair
from sail.sampling import sample
from sail.types import Request

Load = Callable[[], Any]
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


def losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def step_gradients(trainer: Any, count: int = 4) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first optimiser step's batch, by the trainer's own path."""
    iterator = iter(trainer.get_train_dataloader())
    trainer.current_gradient_accumulation_steps = 1
    batches, items = trainer.get_batch_samples(iterator, 1, trainer.args.device)
    loss = trainer.training_step(trainer.model, batches[0], items)
    return float(loss), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_no_shares_is_trl_dpo(tmp_path: Path, load: Load, tokenizer: Any, lora: bool) -> None:
    """Loss and gradients at a perturbed policy, relative 1e-5 in float32."""
    changes = {"peft_config": LORA} if lora else {}
    results = []
    for build in (dpo_trainer, sail_trainer):
        trainer = build(tmp_path, load, tokenizer, rows(), **changes)
        perturb(trainer.model)
        results.append(step_gradients(trainer))
    (loss_a, grads_a), (loss_b, grads_b) = results
    assert loss_b == pytest.approx(loss_a, rel=1e-5)
    assert abs(loss_a - 0.6931) > 1e-3  # the policy really is away from the reference
    assert grads_a.keys() == grads_b.keys()
    for name, value in grads_a.items():
        torch.testing.assert_close(grads_b[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def test_leaving_prompt_positions_out_of_the_head_changes_nothing(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    from trl.trainer import utils

    results = []
    for compact in (False, True):
        trainer = dpo_trainer(tmp_path, load, tokenizer, rows())
        original = utils._use_triton
        utils._use_triton = lambda device, compact=compact: compact
        try:
            perturb(trainer.model)
            results.append(step_gradients(trainer))
        finally:
            utils._use_triton = original
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for name, value in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def test_dpo_and_sail_dp_consume_the_same_ids(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """At coefficient 0 with the data set's labels, SAIL-DP is DPO: same ids in the same order, same losses."""
    data = rows()
    one = dpo_trainer(tmp_path / "a", load, tokenizer, data)
    two = sail_trainer(tmp_path / "b", load, tokenizer, data, dp_share=0.4, dp_coef=0.0, dp_labels="dataset")
    ids_one, ids_two = record_ids(one), record_ids(two)
    one.train()
    two.train()
    assert ids_one == ids_two
    assert len(ids_one) == 3
    assert losses(one) == pytest.approx(losses(two), rel=1e-4)
    given = sorted(r["prompt_ids"] + r[k] for r in data for k in ("chosen_ids", "rejected_ids"))
    assert sorted(x for batch in ids_two for x in batch) == given


def test_truncated_answers_get_no_eos(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    data = rows()
    trainer = sail_trainer(tmp_path, load, tokenizer, data)
    seen = record_ids(trainer)
    trainer.train()
    ended = sum(ids[-1] == EOS for batch in seen for ids in batch)
    assert ended == sum(r[k][-1] == EOS for r in data for k in ("chosen_ids", "rejected_ids"))
    assert 0 < ended < 24
    assert all(ids.count(EOS) <= 1 for batch in seen for ids in batch)


@pytest.mark.parametrize("route", ["pp", "pr", "dp"])
def test_generated_ids_are_the_scored_ids(tmp_path: Path, load: Load, tokenizer: Any, route: str) -> None:
    """What the rollout sampled is what the loss sees; log-probabilities agree with the sampler's."""
    labelled: list[TokenisedPair] = []

    def prefer(pairs: Sequence[TokenisedPair]) -> list[float]:
        labelled.extend(pairs)
        return longest(pairs)

    shares = {f"{route}_share": 1.0}
    trainer = sail_trainer(tmp_path, load, tokenizer, rows(), max_new_tokens=7, preference=prefer, **shares)
    perturb(trainer.model)
    batches, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    batch = batches[0]
    completions = [
        tuple(ids[mask.bool()].tolist()) for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    by_prompt = {tuple(r["prompt_ids"]): r for r in rows()}
    for i in range(4):
        prompt = tuple(
            batch["input_ids"][i][(batch["attention_mask"][i] > 0) & (batch["completion_mask"][i] == 0)].tolist()
        )
        row = by_prompt[prompt]
        assert row["example_id"] == int(batch["example_id"][i])
        if route == "dp":
            assert completions[i] == tuple(row["chosen_ids"])
            assert completions[4 + i] == tuple(row["rejected_ids"])
        else:
            assert completions[i] != tuple(row["chosen_ids"])
            assert len(completions[i]) == 7 or completions[i][-1] == EOS
    if route == "pr":
        assert [(p.first, p.second) for p in labelled] == list(zip(completions[:4], completions[4:], strict=True))


def test_surrogate_of_a_step_by_hand(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """Gradient and logged value (the pair loss) are the surrogate's on log-probabilities from plain forwards."""
    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(), pr_share=1.0, pr_coef=0.3, max_new_tokens=6, preference=longest
    )
    perturb(trainer.model)
    trainer.current_gradient_accumulation_steps = 1
    batches, items = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    batch = batches[0]
    reported = float(trainer.training_step(trainer.model, dict(batch), items))

    def logps(model: Any) -> torch.Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        token = torch.log_softmax(logits[:, :-1].float(), -1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        return (token * batch["completion_mask"][:, 1:]).sum(1)

    lp_1, lp_2 = logps(trainer.model.eval()).chunk(2)
    ref_1, ref_2 = logps(trainer.ref_model).detach().chunk(2)
    torch.testing.assert_close(ref_1, batch["ref_chosen_logps"], rtol=0, atol=1e-3)
    loss = PairLoss("bt", 0.3)
    h = (lp_1 - ref_1) - (lp_2 - ref_2)
    z = batch["label"]
    assert set(z.tolist()) <= {0.0, 1.0}
    phi = z * loss.phi(h) + (1 - z) * loss.phi(-h)
    b = (phi.sum() - phi) / 3
    torch.testing.assert_close(b.detach(), batch["baseline"], rtol=0, atol=1e-4)
    assert reported == pytest.approx(float(phi.mean().detach()), rel=1e-4)
    expected = (phi + 0.3 * (phi - b).detach() * (lp_1 + lp_2)).mean()
    gradients = torch.autograd.grad(expected, list(trainer.model.parameters()))
    for parameter, value in zip(trainer.model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, value, rtol=1e-3, atol=1e-3 * float(value.abs().max()))


def test_resume_gives_the_same_weights(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """Stop after two of four steps and resume from the checkpoint: bitwise the same policy on a CPU."""
    settings = {"pr_share": 0.5, "pp_share": 0.25, "dp_share": 0.25, "preference": longest, "max_new_tokens": 5}
    whole = sail_trainer(tmp_path / "whole", load, tokenizer, rows(16), max_steps=4, **settings)
    whole.train()
    first = sail_trainer(
        tmp_path / "cut", load, tokenizer, rows(16), max_steps=2, save_strategy="steps", save_steps=2, **settings
    )
    first.train()
    second = sail_trainer(tmp_path / "cut", load, tokenizer, rows(16), max_steps=4, **settings)
    second.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    for (name, a), (_, b) in zip(whole.model.named_parameters(), second.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert whole.lagged.means == second.lagged.means
    assert whole._total_train_tokens == second._total_train_tokens > first._total_train_tokens, "num_tokens of the log"


def continued(load: Load, seed: int = 0) -> Any:
    """The tiny model with an adapter that has been trained before: its reference is the adapter, not the bare model."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(load(), LORA)
    return perturb(model, seed, 0.05)


def test_continuing_an_adapter_is_trl_dpo(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """With a PeftModel both take a frozen copy of its adapter as the reference: same loss and gradients at w = 0."""
    results = []
    for build in (dpo_trainer, sail_trainer):
        trainer = build(tmp_path, lambda: continued(load), tokenizer, rows(), ref_model=None)
        perturb_default(trainer.model)
        results.append(step_gradients(trainer))
    (loss_a, grads_a), (loss_b, grads_b) = results
    assert loss_b == pytest.approx(loss_a, rel=1e-5)
    assert abs(loss_a - 0.6931) > 1e-3
    assert any(float(g.abs().max()) > 0 for g in grads_a.values())
    for name, value in grads_a.items():
        torch.testing.assert_close(grads_b[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def perturb_default(model: Any) -> None:
    """Move the adapter that is trained, and not its frozen copy."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".default." in name:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def test_the_frozen_copy_of_the_adapter_stays(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """It is the reference of online pairs and never moves; the start generator samples from it."""
    settings = {"pr_share": 0.5, "pp_share": 0.4, "preference": longest, "max_new_tokens": 5, "ref_model": None}
    trainer = sail_trainer(tmp_path, lambda: continued(load), tokenizer, rows(), start_generator=0.5, **settings)
    before = {n: p.clone() for n, p in trainer.model.named_parameters()}
    frozen = continued(load).eval()
    batches, _ = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    with torch.no_grad():
        logits = frozen(input_ids=batches[0]["input_ids"], attention_mask=batches[0]["attention_mask"]).logits
    token = torch.log_softmax(logits[:, :-1], -1).gather(-1, batches[0]["input_ids"][:, 1:, None])[..., 0]
    expected = (token * batches[0]["completion_mask"][:, 1:]).sum(1)
    references = torch.cat([batches[0]["ref_chosen_logps"], batches[0]["ref_rejected_logps"]])
    torch.testing.assert_close(references, expected, rtol=0, atol=1e-3)
    trainer.train()
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(".default." in name for name in moved)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_gradient_checkpointing_changes_nothing(tmp_path: Path, load: Load, tokenizer: Any, lora: bool) -> None:
    """Online and offline rows, with and without: same ids, loss and gradients."""
    settings: dict[str, Any] = {"pr_share": 0.5, "dp_share": 0.2, "preference": longest, "max_new_tokens": 5}
    if lora:
        settings["peft_config"] = LORA
    results = []
    for checkpointing in (False, True):
        trainer = sail_trainer(tmp_path, load, tokenizer, rows(), gradient_checkpointing=checkpointing, **settings)
        perturb(trainer.model)
        if checkpointing:  # what the training loop does first
            trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
        assert trainer.model.is_gradient_checkpointing is checkpointing
        ids = record_ids(trainer)
        results.append((ids, *step_gradients(trainer)))
    assert results[0][0] == results[1][0]
    assert results[1][1] == pytest.approx(results[0][1], rel=1e-5)
    for name, value in results[0][2].items():
        torch.testing.assert_close(results[1][2][name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def test_older_weights_survive_a_resume(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """The lagged generator's copy is in the checkpoint: bitwise the same weights as without the stop."""
    settings = {"pp_share": 0.8, "lagged_generator": 0.7, "lag_steps": 3, "max_new_tokens": 5}
    whole = sail_trainer(tmp_path / "whole", load, tokenizer, rows(16), max_steps=5, **settings)
    whole.train()
    first = sail_trainer(
        tmp_path / "cut", load, tokenizer, rows(16), max_steps=2, save_strategy="steps", save_steps=2, **settings
    )
    first.train()
    second = sail_trainer(tmp_path / "cut", load, tokenizer, rows(16), max_steps=5, **settings)
    second.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    for (name, a), (_, b) in zip(whole.model.named_parameters(), second.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_model_without_end_is_refused_before_training(tmp_path: Path, load: Load, tiny_dir: Path) -> None:
    from harness.answer.load import load_tokenizer

    def endless() -> Any:
        model = load()
        model.generation_config.eos_token_id = None
        return model

    bare = load_tokenizer(tiny_dir)
    bare.eos_token = None
    with pytest.raises(ValueError, match="no end-of-sequence id"):
        sail_trainer(tmp_path, endless, bare, rows(), pp_share=0.5)
    sail_trainer(tmp_path, endless, bare, rows())  # offline, nothing has to end


def test_reference_is_named_not_guessed(tmp_path: Path, tiny_dir: Path, load: Load, tokenizer: Any) -> None:
    """Full fine-tuning wants the start policy's directory or a copy; with neither, or a wrong one, a sentence."""
    for missing, words in ((None, "full fine-tuning needs ref_model"), (str(tmp_path), "no config.json in it")):
        with pytest.raises(ValueError, match=words):
            sail_trainer(tmp_path, load, tokenizer, rows(), ref_model=missing)
    results = []
    for reference in (tiny_dir, load()):
        trainer = sail_trainer(tmp_path, load, tokenizer, rows(), ref_model=reference)
        perturb(trainer.model)
        results.append(step_gradients(trainer)[0])
    assert results[0] == results[1]
    assert abs(results[0] - 0.6931) > 1e-3


def test_every_online_pair_answers_its_own_prompt(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """Spec section 4, item 10, two epochs at learning rate 0: each pair carries the prompt of its example, sampling
    that prompt again with the pair's noise gives its responses, and the online prompts are as many as the share says.
    (The released code trains on some 13, most with the responses of other prompts.)"""
    data: list[dict[str, Any]] = rows(60)
    labelled: list[tuple[int, TokenisedPair]] = []

    def prefer(pairs: Sequence[TokenisedPair]) -> list[float]:
        labelled.extend((trainer.state.global_step, p) for p in pairs)
        return longest(pairs)

    trainer = sail_trainer(
        tmp_path, load, tokenizer, data, preference=prefer, pr_share=0.5, max_new_tokens=4, max_steps=30,
        learning_rate=0.0,
    )  # fmt: skip
    trainer.train()
    requests = [
        Request(p.prompt, 4, 1.0, (trainer.args.noise_seed, p.example, step, "token", k))
        for step, p in labelled
        for k in (0, 1)
    ]
    again = sample(load(), requests, eos_ids=[EOS], pad_id=tokenizer.pad_token_id)
    for place, (_, pair) in enumerate(labelled):
        assert pair.prompt == tuple(data[pair.example]["prompt_ids"])
        assert (pair.first, pair.second) == (again[2 * place].ids, again[2 * place + 1].ids)
    for first, last in ((0, 15), (15, 30)):
        online = [p.example for step, p in labelled if first <= step < last]
        assert len(online) == len(set(online)) == pytest.approx(30, abs=3 * 15**0.5)


def test_routes_take_their_shares(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = sail_trainer(
        tmp_path,
        load,
        tokenizer,
        rows(16),
        pr_share=0.5,
        dp_share=0.25,
        preference=longest,
        max_new_tokens=2,
        max_steps=12,
    )
    trainer.train()
    shares = {
        r: sum(row[f"share/{r}"] for row in trainer.state.log_history if "loss" in row) / 12
        for r in ("off", "dp", "pp", "pr")
    }
    assert shares["pp"] == 0
    assert shares["pr"] == pytest.approx(0.5, abs=3 * (0.25 / 48) ** 0.5)
    assert shares["dp"] == pytest.approx(0.25, abs=3 * (0.1875 / 48) ** 0.5)


def test_pr_needs_a_preference(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="preference"):
        sail_trainer(tmp_path, load, tokenizer, rows(), pr_share=0.3)
