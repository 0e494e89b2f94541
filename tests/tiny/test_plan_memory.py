"""Predicted sizes and memory against transformers' own models and the allocator's peaks."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from harness.answer.load import Loading, without_input_casts
from harness.budget.memory import (
    PACKED_SHARE,
    PRECISIONS,
    TrainingBatch,
    packed_memory,
    sampling_memory,
    scoring_memory,
    training_memory,
)
from harness.budget.model_size import ModelSize, size_of_config
from harness.recipe.train import LoraSpec, Precision

SMALL = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "vocab_size": 300}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", **SMALL, **HEADS, "tie_word_embeddings": True},
        {"model_type": "llama", **SMALL, **HEADS, "tie_word_embeddings": False, "attention_bias": True},
        {"model_type": "mistral", **SMALL, **HEADS, "head_dim": 32, "tie_word_embeddings": False},
        {"model_type": "qwen2", **SMALL, **HEADS, "tie_word_embeddings": True},
        {"model_type": "qwen3", **SMALL, **HEADS, "head_dim": 16, "tie_word_embeddings": True},
        {"model_type": "llama", **SMALL, **HEADS, "tie_word_embeddings": True, "mlp_bias": True},
        {"model_type": "mistral", **SMALL, "num_attention_heads": 16, "tie_word_embeddings": False},
        {"model_type": "qwen2", **SMALL, "num_attention_heads": 64},
        {"model_type": "qwen3", **SMALL, **HEADS},
        {"model_type": "smollm3", **SMALL, "num_attention_heads": 8, "pad_token_id": 0},
        {"model_type": "gemma2", **SMALL, **HEADS, "head_dim": 16},
        {"model_type": "phi3", **SMALL, **HEADS, "pad_token_id": 0, "tie_word_embeddings": False},
        {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300},
        {"model_type": "mixtral", **SMALL, **HEADS, "num_local_experts": 4},
    ],
    ids=lambda value: value["model_type"],
)
def test_weights_are_counted_as_transformers_has_them(config: dict[str, Any]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    size = size_of_config(config, None, 0)
    assert size is not None
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.trained == size.parameters
    adapted = size_of_config(config, 1, 4)
    assert adapted is not None and 0 < adapted.trained < size.parameters / 10


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "phi3"])
def test_an_adapter_is_counted_as_peft_has_it(kind: str) -> None:
    """Experts have an adapter each; Phi-3 keeps queries, keys and values in one layer."""
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from harness.train.settings import lora_config

    config = {"model_type": kind, **SMALL, **HEADS, "pad_token_id": 0, "head_dim": 16}
    config |= {} if kind == "phi3" else {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        adapted = get_peft_model(model, lora_config(LoraSpec(r=4), model))
    size = size_of_config(config, 0, 4)
    assert size is not None
    assert size.adapter == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_an_unknown_kind_of_model_has_no_size() -> None:
    assert size_of_config({"model_type": "no-such-model"}, None, 0) is None
    assert size_of_config({"model_type": "llama", "hidden_size": "many"}, None, 0) is None


LLAMA: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 4096,
    "tie_word_embeddings": True,
}
LARGE = LLAMA | {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "vocab_size": 8192}


def allocated(work: Any) -> int:
    """Peak of the bytes that torch's CPU allocator has given out while ``work`` runs, from nothing."""
    gc.collect()  # what an earlier trainer left would be freed in between
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def built(config: dict[str, Any], eager: bool = False, dtype: str = "float32") -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    made = LlamaConfig(**config, eos_token_id=256, pad_token_id=257, bos_token_id=None)
    options = {"attn_implementation": "eager" if eager else "sdpa", "dtype": getattr(torch, dtype)}
    return LlamaForCausalLM._from_config(made, **options)


def sized(config: dict[str, Any], lora: LoraSpec | None) -> ModelSize:
    size = size_of_config(config, lora.layers if lora else None, lora.r if lora else 0)
    assert size is not None
    return size


def trained_peak(
    folder: Path,
    config: dict[str, Any],
    lora: LoraSpec | None,
    batch: TrainingBatch,
    precision: Precision,
    eager: bool = False,
) -> int:
    """Peak of two optimiser steps of DPO on random ids in plain rows, model and optimiser included."""
    from datasets import Dataset
    from trl import DPOConfig

    from harness.answer.tiny_model import build_tokenizer
    from harness.train.settings import lora_config
    from sail.dpo import TokenisedDPOTrainer

    ids = torch.randint(0, 250, (batch.length,), generator=torch.Generator().manual_seed(0)).tolist()
    prompt, answer = ids[: -batch.scored], ids[-batch.scored :]
    pairs = batch.rows // 2
    row = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer[::-1]}
    logps = {"ref_chosen_logps": -9.0, "ref_rejected_logps": -9.0}
    rows = [{"example_id": i} | row | logps for i in range(2 * pairs * batch.accumulation)]
    args = DPOConfig(
        output_dir=str(folder),
        max_steps=2,
        per_device_train_batch_size=pairs,
        gradient_accumulation_steps=batch.accumulation,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        max_length=None,
        bf16=precision != "float32",
        gradient_checkpointing=batch.checkpointing,
        precompute_ref_log_probs=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )

    def work() -> None:
        model = built(config, eager, Loading(precision).dtype)
        trainer = TokenisedDPOTrainer(
            model=model,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=build_tokenizer(),
            peft_config=lora_config(lora, model) if lora else None,
            share_prompts=False,
        )
        without_input_casts(trainer.model, precision)
        trainer.train()

    return allocated(work)


FULL, LORA, TOP = None, LoraSpec(r=16), LoraSpec(r=16, layers=2)


@pytest.mark.parametrize(
    ("lora", "batch", "precision"),
    [
        (FULL, TrainingBatch(4, 96, 48, fused_kernel=False), "float32"),
        (LORA, TrainingBatch(4, 192, 64, checkpointing=True, fused_kernel=False), "float32"),
        (LORA, TrainingBatch(4, 192, 64, fused_kernel=False), "bf16"),
        pytest.param(
            LORA,
            TrainingBatch(4, 192, 64, checkpointing=True, fused_kernel=False),
            "bf16",
            marks=pytest.mark.nightly,
        ),
        pytest.param(TOP, TrainingBatch(8, 256, 128, fused_kernel=False), "bf16", marks=pytest.mark.nightly),
        pytest.param(
            FULL,
            TrainingBatch(4, 192, 64, checkpointing=True, fused_kernel=False),
            "float32",
            marks=pytest.mark.nightly,
        ),
        pytest.param(FULL, TrainingBatch(2, 24, 8, 2, fused_kernel=False), "float32", marks=pytest.mark.nightly),
        pytest.param(LORA, TrainingBatch(4, 192, 64, fused_kernel=False), "float32", marks=pytest.mark.nightly),
        pytest.param(TOP, TrainingBatch(4, 192, 64, fused_kernel=False), "float32", marks=pytest.mark.nightly),
        pytest.param(FULL, TrainingBatch(4, 192, 64, fused_kernel=False), "bf16-mixed", marks=pytest.mark.nightly),
    ],
)
def test_training_memory_is_within_15_percent_of_the_measured_peak(
    tmp_path: Path, lora: LoraSpec | None, batch: TrainingBatch, precision: Precision
) -> None:
    predicted = training_memory(sized(LLAMA, lora), batch, PRECISIONS[precision]).total
    measured = trained_peak(tmp_path, LLAMA, lora, batch, precision)
    assert predicted == pytest.approx(measured, rel=0.15), f"{predicted / measured:.2f}"


@pytest.mark.parametrize(
    ("lora", "batch", "precision"),
    [
        (LORA, TrainingBatch(4, 512, 64, checkpointing=True, fused_kernel=False), "float32"),
        pytest.param(FULL, TrainingBatch(4, 256, 64, fused_kernel=False), "float32", marks=pytest.mark.nightly),
        pytest.param(FULL, TrainingBatch(4, 256, 64, fused_kernel=False), "bf16-mixed", marks=pytest.mark.nightly),
        pytest.param(
            LORA,
            TrainingBatch(4, 512, 64, checkpointing=True, fused_kernel=False),
            "bf16-mixed",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_eager_attention_holds_its_scores_in_training(
    tmp_path: Path, lora: LoraSpec | None, batch: TrainingBatch, precision: Precision
) -> None:
    number = replace(PRECISIONS[precision], eager=True)
    predicted = training_memory(sized(LLAMA, lora), batch, number).total
    measured = trained_peak(tmp_path, LLAMA, lora, batch, precision, eager=True)
    assert predicted == pytest.approx(measured, rel=0.15), f"{predicted / measured:.2f}"


@pytest.mark.nightly
@pytest.mark.parametrize("lora", [FULL, LORA])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("rows", "length"), [(2, 64), (8, 256)])
def test_training_memory_of_28_million_weights(
    tmp_path: Path, lora: LoraSpec | None, checkpointing: bool, rows: int, length: int
) -> None:
    batch = TrainingBatch(rows, length, length // 2, checkpointing=checkpointing, fused_kernel=False)
    predicted = training_memory(sized(LARGE, lora), batch, PRECISIONS["float32"]).total
    measured = trained_peak(tmp_path, LARGE, lora, batch, "float32")
    assert predicted == pytest.approx(measured, rel=0.15), f"{predicted / measured:.2f}"


@pytest.mark.parametrize(("eager", "rows", "length"), [(False, 16, 64), (True, 4, 256)])
def test_sampling_and_scoring_memory_are_within_25_percent(eager: bool, rows: int, length: int) -> None:
    """Of their own peaks, the model included. (Caches grow in steps, so these are less exact than training.)"""
    from harness.answer.policy import Policy
    from harness.answer.tiny_model import build_tokenizer
    from harness.budget.ledger import Ledger
    from harness.budget.meter import Meter
    from sail.sampling import sample
    from sail.types import Request

    size, number = sized(LLAMA, FULL), replace(PRECISIONS["float32"], eager=eager)
    prompts = [tuple((7 * i + j) % 250 for j in range(length)) for i in range(rows)]

    def sampled() -> None:
        requests = [Request(prompt, 64, 1.0, ("r", i)) for i, prompt in enumerate(prompts)]
        sample(built(LLAMA, eager), requests, eos_ids=[299], pad_id=257, batch_size=rows)

    def scored() -> None:
        policy = Policy(built(LLAMA, eager).eval(), build_tokenizer(), "p", meter=Meter(Ledger()), cache=None)
        policy.token_logps([(prompt, prompt) for prompt in prompts], rows)

    assert sampling_memory(size, rows, length, 64, number).total == pytest.approx(allocated(sampled), rel=0.25)
    scoring = scoring_memory(size, rows, 2 * length, length, number)
    assert scoring.total == pytest.approx(allocated(scored), rel=0.25)


@pytest.mark.parametrize("tied", [True, False])
def test_packed_copies_are_counted_as_they_are_made(tied: bool) -> None:
    from harness.answer.packed_weights import PackedLinear, best_kernel, pack_linears
    from harness.budget.machines import DEVICES, cpu
    from harness.run.fitting import MemorySettings, Texts, evaluation_memory

    if best_kernel() is None:
        pytest.skip("torch has no MKL here")
    config = LLAMA | {"tie_word_embeddings": tied, "num_hidden_layers": 1}
    size = sized(config, FULL)
    layers = [m for m in pack_linears(built(config)).modules() if isinstance(m, PackedLinear)]
    copies = sum(4.0 * layer.weight.numel() for layer in layers)
    assert {tuple(m.weight.shape) for m in layers} == {(704, 256), (256, 704), (4096, 256)}
    assert packed_memory(size, PRECISIONS["float32"], copies / PACKED_SHARE) == copies
    assert packed_memory(size, PRECISIONS["float32"], copies / PACKED_SHARE - 8) == 0
    assert packed_memory(size, PRECISIONS["bf16"], 1e12) == packed_memory(size, PRECISIONS["bf16-mixed"], 1e12) == 0
    settings = MemorySettings(4, 1, 256, None, "float32", False, 16, 16)
    machine, texts = replace(cpu(1), memory=2 * copies / PACKED_SHARE), Texts(20, 40, 20, 20, 20)
    for device, workers, expected in ((machine, 2, copies), (machine, 3, 0.0), (DEVICES["h100"], 1, 0.0)):
        for moment in evaluation_memory(size, replace(settings, workers=workers), texts, device):
            assert moment.parts.get("packed weights", 0.0) == expected
