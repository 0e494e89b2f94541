"""A pair's prompt computed once: losses, gradients and metrics as with plain rows, and plain rows where need be."""

from __future__ import annotations

import math
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from kit.random_models import ARCHITECTURES, WINDOW, random_model
from kit.training import arguments, longest, perturb, rows, sail_trainer
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.methods.orpo import ORPO
from harness.methods.sft import SFT
from harness.methods.simpo import SimPO
from harness.train.pair_trainers import PairKTOTrainer, PairTrainer
from sail.dpo import TokenisedDPOTrainer
from sail.prefill import backbone
from sail.shared_prompts import PromptSharing

VOCABULARY = {"vocab_size": 300}  # the tokenizer of these tests has 261 tokens
REFERENCE = {"ref_chosen_logps": -30.0, "ref_rejected_logps": -31.0}


def pairs(count: int = 4, prompt: int = 24, answer: int = 9) -> list[dict[str, Any]]:
    """Of different lengths: one without an answer, one whose answers begin alike, one whose answers are the same."""
    rng = np.random.default_rng(0)

    def ids(low: int, high: int) -> list[int]:
        drawn: list[int] = rng.integers(3, 200, rng.integers(low, high + 1)).tolist()
        return drawn

    made = [
        {"prompt_ids": ids(prompt // 2, prompt), "chosen_ids": ids(1, answer), "rejected_ids": ids(1, answer)}
        for _ in range(count)
    ]
    made[0]["rejected_ids"] = []
    made[1]["rejected_ids"] = [*made[1]["chosen_ids"], 7, 8]
    made[2]["rejected_ids"] = made[2]["chosen_ids"]
    return [pair | REFERENCE for pair in made]


def trainer(
    folder: Path, model: Any, tokenizer: Any, share: bool | None = None, kind: Any = TokenisedDPOTrainer, **changes: Any
) -> Any:
    """A trainer on pairs; ``share`` None: without the option."""
    names = ("peft_config", "ref_model", "pair_loss", "rewards", "chosen_only", "desirable", "undesirable", "data")
    options = {name: changes.pop(name) for name in names if name in changes}
    data = options.pop("data", None) or pairs()
    if kind is PairKTOTrainer:
        options["beta"] = 0.3
    if share is not None:
        options["share_prompts"] = share
    args = DPOConfig(**arguments(folder, **{"precompute_ref_log_probs": True} | changes))
    return kind(model=model, args=args, train_dataset=Dataset.from_list(data), processing_class=tokenizer, **options)


class Seen(list[tuple[int, int]]):
    """Rows and tokens of each forward that a backbone has computed."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        backbone(model).register_forward_hook(self.note, with_kwargs=True)

    def note(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        self.append(tuple(kwargs["input_ids"].shape))


def stepped(made: Any, batch: dict[str, Any] | None = None) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, Any]]:
    """Loss, gradients and metrics of a batch of the trainer's first pairs."""
    seen = made.data_collator(made.train_dataset.to_list()) if batch is None else batch
    made.model.train()
    loss = made.compute_loss(made.model, made._prepare_inputs(dict(seen)))
    loss.backward()
    gradients = [p.grad for p in made.model.parameters() if p.grad is not None]
    return loss.detach(), gradients, {k: v[-1] for k, v in made._metrics["train"].items() if v}


def both(
    folder: Path, tokenizer: Any, model: Any, tolerance: float = 1e-5, shared: bool = True, **settings: Any
) -> None:
    """A step with shared prompts equals one with plain rows; ``model``: makes a fresh one."""
    results, computed = [], []
    for share in (False, True):
        made = trainer(folder, model(), tokenizer, share, **settings)
        perturb(made.model, scale=0.05)
        if made.args.gradient_checkpointing:
            made.model.gradient_checkpointing_enable()
            made.model.enable_input_require_grads()
        seen = Seen(made.model)
        results.append(stepped(made))
        computed.append(seen)
    (loss, gradients, metrics), (loss_1, gradients_1, metrics_1) = results
    assert {rows for rows, _ in computed[0]} == {8}
    assert {rows for rows, _ in computed[1]} == ({4} if shared else {8})
    torch.testing.assert_close(loss_1, loss, rtol=tolerance, atol=tolerance)
    assert len(gradients) == len(gradients_1) > 0
    scale = max(float(g.abs().max()) for g in gradients)
    for one, other in zip(gradients, gradients_1, strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance * scale)
    assert metrics.keys() == metrics_1.keys() and len(metrics) > 5
    for name, value in metrics.items():
        assert metrics_1[name] == pytest.approx(value, rel=tolerance, abs=tolerance * 10), name


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        *(("Llama", "sdpa"), ("Llama", "eager"), ("Qwen2", "sdpa"), ("Qwen3", "sdpa")),
        *(("GPT2", "sdpa"), ("GPT2", "eager"), ("Gemma2", "eager")),
    ],
)
def test_a_step_is_the_same(name: str, attention: str, tmp_path: Path, tokenizer: Any) -> None:
    wide = {"sliding_window": 64} if "sliding_window" in ARCHITECTURES[name] else {}
    both(tmp_path, tokenizer, lambda: random_model(name, attn_implementation=attention, **VOCABULARY, **wide))


LORA = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj", "down_proj"])


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 20},
        {"pad_to_multiple_of": 16},
        {"gradient_checkpointing": True},
        {"peft_config": LORA},
        {"peft_config": LORA, "precompute_ref_log_probs": False},
        {"peft_config": LORA, "gradient_checkpointing": True, "precompute_ref_log_probs": False},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},  # RPO
        {"ld_alpha": 0.5, "use_weighting": True},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_a_step_is_the_same_with(settings: dict[str, Any], tmp_path: Path, tokenizer: Any) -> None:
    both(tmp_path, tokenizer, lambda: random_model("Llama", **VOCABULARY), **settings)


def test_rows_that_lose_their_beginning_share_what_is_left(tmp_path: Path, tokenizer: Any) -> None:
    """Cut at the start, the rows of a pair begin at different tokens, if their answers differ in length."""
    settings = {"max_length": 20, "truncation_mode": "keep_end"}
    both(tmp_path, tokenizer, lambda: random_model("Llama", **VOCABULARY), shared=False, **settings)
    alike = [pair | {"rejected_ids": pair["chosen_ids"][::-1]} for pair in pairs()]
    both(tmp_path, tokenizer, lambda: random_model("Llama", **VOCABULARY), data=alike, **settings)


def test_in_full_fine_tuning_the_reference_shares_prompts_too(tmp_path: Path, tokenizer: Any) -> None:
    reference = random_model("Llama", **VOCABULARY)
    settings = {"ref_model": reference, "precompute_ref_log_probs": False}
    seen = Seen(reference)
    both(tmp_path, tokenizer, lambda: random_model("Llama", **VOCABULARY), **settings)
    assert [rows for rows, _ in seen] == [8, 4]


def test_in_bfloat16_a_step_is_the_same_up_to_rounding(tmp_path: Path, tokenizer: Any) -> None:
    both(tmp_path, tokenizer, lambda: random_model("Llama", **VOCABULARY).bfloat16(), 0.1)


@pytest.mark.parametrize("kind", ["simpo", "orpo", "kto", "sft"])
def test_offline_losses_are_the_same(kind: str, tmp_path: Path, tokenizer: Any) -> None:
    """SFT leaves the rejected responses out: its rows are no pairs."""
    method = {"simpo": SimPO(), "orpo": ORPO()}.get(kind, SFT())
    if kind == "kto":
        settings: dict[str, Any] = {"kind": PairKTOTrainer, "desirable": 1.0, "undesirable": 0.7, "peft_config": LORA}
    else:
        settings = {"kind": PairTrainer, "pair_loss": method.loss(0.1), "rewards": method.rewards(0.1)}
    if kind == "sft":
        made = trainer(tmp_path, random_model("Llama", **VOCABULARY), tokenizer, chosen_only=True, **settings)
        seen = Seen(made.model)
        stepped(made)
        assert [rows for rows, _ in seen] == [4]
        return
    both(tmp_path, tokenizer, lambda: random_model("Llama", **VOCABULARY), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"dp_share": 0.5, "peft_config": LORA, "precompute_ref_log_probs": True},
        {"pp_share": 0.6, "kl_penalty": 0.1, "peft_config": LORA},
        {"pr_share": 0.6, "num_samples": 3},
    ],
    ids=["dp", "pp", "pr"],
)
def test_sail_trains_the_same_policy(settings: dict[str, Any], tmp_path: Path, load: Any, tokenizer: Any) -> None:
    """Sampled pairs and their references too, over steps of plain gradient descent."""
    logs, weights, least = [], [], []
    for share in (False, True):
        options = settings | {"preference": longest, "max_new_tokens": 6, "optim": "sgd", "share_prompts": share}
        meter = Meter(Ledger())
        made = sail_trainer(tmp_path, lambda m=meter: m.attach(load()), tokenizer, rows(), **options)
        perturb(made.model)  # margins of 0 would have no sign
        made.train()
        logs.append([row for row in made.state.log_history if "loss" in row])
        weights.append([p.detach().clone() for p in made.model.parameters() if p.requires_grad])
        least.append([meter.ledger.get(phase, "tokens") for phase in ("train", "reference")])
    assert all(shared < 0.9 * plain for plain, shared in zip(*least, strict=True) if plain)
    for one, other in zip(*logs, strict=True):
        for name, value in one.items():
            if not name.startswith("seconds/"):
                assert other[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_a_step_equals_stock_trl(tmp_path: Path, tokenizer: Any) -> None:
    """TRL's own trainer on the same tensors knows nothing of packed rows."""

    class OnTokenIds(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *more: Any, **options: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *more: Any, **options: Any) -> Any:
            return dataset

    (loss, gradients, metrics), (loss_1, gradients_1, metrics_1) = (
        stepped(trainer(tmp_path, random_model("Llama", **VOCABULARY), tokenizer, kind=kind))
        for kind in (OnTokenIds, TokenisedDPOTrainer)
    )
    torch.testing.assert_close(loss_1, loss, rtol=1e-5, atol=1e-5)
    for one, other in zip(gradients, gradients_1, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
    assert metrics_1 == pytest.approx(metrics, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["Mpt", "Mamba", "Bamba", "FalconH1", "Lfm2", "Llama4"])
def test_these_architectures_get_plain_rows(name: str) -> None:
    """ALiBi, states, convolutions and chunks go by places of a row."""
    assert PromptSharing([random_model(name)]).refused


def test_an_undeclared_dependence_on_places_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the probe alone: a backbone that leaves the mask, or the positions, unread."""
    for unread in ("attention_mask", "position_ids"):
        model = random_model("Llama")
        body = backbone(model)
        original = body.forward

        def deaf(unread: str = unread, original: Any = original, **inputs: Any) -> Any:
            return original(**{name: value for name, value in inputs.items() if name != unread})

        assert not PromptSharing([model]).refused
        monkeypatch.setattr(body, "forward", deaf)
        assert PromptSharing([model]).refused == {"LlamaModel": "a packed row gives other hidden states"}


def test_dropout_gets_plain_rows() -> None:
    model = random_model("GPT2")
    assert "dropout" in PromptSharing([model]).refused["GPT2Model"]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert not PromptSharing([model]).refused
    assert PromptSharing([random_model("Llama", attention_dropout=0.1)]).refused


@pytest.mark.parametrize(("window", "shared"), [(WINDOW, False), (64, True)])
def test_a_sliding_window_gets_plain_rows_where_it_does_something(
    window: int, shared: bool, tmp_path: Path, tokenizer: Any
) -> None:
    both(
        tmp_path,
        tokenizer,
        lambda: random_model("Mistral", sliding_window=window, **VOCABULARY),
        shared=shared,
    )


def test_a_mixture_of_experts_with_a_loss_of_its_routers_gets_plain_rows(tmp_path: Path, tokenizer: Any) -> None:
    for coefficient, shared in ((0.1, False), (0.0, True)):
        settings = {"router_aux_loss_coef": coefficient}
        both(tmp_path, tokenizer, lambda: random_model("Mixtral", **VOCABULARY), shared=shared, **settings)


@pytest.mark.parametrize("change", ["left", "other input", "too large", "no gain", "odd"])
def test_a_batch_gets_plain_rows(change: str, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model("Llama", **VOCABULARY)
    sharing, seen = PromptSharing([model]), Seen(model)
    ids = torch.randint(3, 200, (4, 24), generator=torch.Generator().manual_seed(0))
    ids[2:, :12] = ids[:2, :12]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with sharing.on():
        model(**inputs, use_cache=False)
        if change == "left":
            inputs["attention_mask"][0, :2] = 0
        elif change == "other input":
            inputs["position_ids"] = torch.arange(24).expand(4, -1)
        elif change == "too large":
            monkeypatch.setattr("sail.prompt_rules.MOST_MASK_ENTRIES", 2 * 36**2 - 1)
        elif change == "no gain":
            ids[2:] = ids[2:].flip(0)
        else:
            inputs = {name: value[:3] for name, value in inputs.items()}
        model(**inputs, use_cache=False)
    model(**inputs, use_cache=False)
    assert seen == [(2, 36), *[tuple(inputs["input_ids"].shape)] * 2]


def test_the_ledger_counts_what_is_computed(tmp_path: Path, tokenizer: Any) -> None:
    data = pairs()
    for attention in ("sdpa", "eager"):
        spent = []
        for share in (False, True):
            meter = Meter(Ledger())
            model = meter.attach(random_model("Llama", attn_implementation=attention, **VOCABULARY))
            stepped(trainer(tmp_path, model, tokenizer, share, data=data))
            spent.append(meter.ledger.entries["train"])
        plain, shared = spent
        assert shared["rows"] == plain["rows"] == 8
        both_rows = [[p["prompt_ids"] + p[s] for s in ("chosen_ids", "rejected_ids")] for p in data]
        assert plain["tokens"] - shared["tokens"] == sum(len(commonprefix(two)) for two in both_rows) > 0  # noqa: RUF071
        assert shared["forward_flops"] < 0.8 * plain["forward_flops"]
        assert shared["backward_flops"] < 0.8 * plain["backward_flops"]


def test_nothing_of_it_stays_on_the_model(tmp_path: Path, tokenizer: Any) -> None:
    made = trainer(tmp_path, random_model("Llama", **VOCABULARY), tokenizer)
    stepped(made)
    body = backbone(made.model)
    assert not body._forward_pre_hooks and not body._forward_hooks
    assert math.isfinite(float(stepped(made)[0]))
