"""bf16: all that scores with the policy runs under the autocast of the training forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from kit.training import arguments, longest, rows, sail_trainer
from trl import DPOConfig

from harness.train.pair_trainers import PairKTOTrainer
from sail import trainer as sail_trainer_module

Load = Callable[[], Any]
BF16 = {"bf16": True, "use_cpu": True, "learning_rate": 0.0, "max_steps": 1}


def watch(model: Any) -> set[torch.dtype]:
    """The dtypes of the products of a model's first layer, as they come."""
    seen: set[torch.dtype] = set()
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    return seen


@pytest.mark.parametrize("source", ["current", "start", "lagged"])
def test_every_forward_of_sail_is_bf16(tmp_path: Path, load: Load, tokenizer: Any, source: str) -> None:
    """Prompts, sampled tokens, references and the loss; float32 anywhere would be another policy's sampling law."""
    shares = {} if source == "current" else {f"{source}_generator": 1.0}
    data, length = rows(), 9  # prompts that share a prefix are read through the backbone alone
    data = [row | {"prompt_ids": list(range(length)) + row["prompt_ids"]} for row in data]
    trainer = sail_trainer(
        tmp_path, load, tokenizer, data, pr_share=0.9, preference=longest, eval_dataset=Dataset.from_list(rows(4)),
        **BF16, **shares,
    )  # fmt: skip
    seen = [watch(trainer.model), watch(trainer.ref_model)]
    trainer.train()
    trainer.evaluate()
    assert seen == [{torch.bfloat16}, {torch.bfloat16}]


def test_ktos_reference_point_is_bf16(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    trainer = PairKTOTrainer(
        model=load(),
        ref_model=load(),
        args=DPOConfig(**arguments(tmp_path, precompute_ref_log_probs=True, **BF16)),
        train_dataset=Dataset.from_list(rows()).remove_columns("example_id"),
        processing_class=tokenizer,
        beta=0.1,
        desirable=1.0,
        undesirable=1.0,
    )
    seen = [watch(trainer.model), watch(trainer.ref_model)]
    trainer.train()
    assert seen == [{torch.bfloat16}, {torch.bfloat16}]


def test_sampled_log_probabilities_are_the_trained_ones(
    tmp_path: Path, load: Load, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nats a token: 0.0038 with prompts read in float32, 0.0019 under autocast (bf16 rounding of two forwards)."""
    sampled: list[Any] = []
    trained: list[Any] = []
    pairs_of_samples, pair_scores = sail_trainer_module.pairs_of_samples, sail_trainer_module.pair_scores

    def pairs(*args: Any) -> Any:
        out = pairs_of_samples(*args)
        sampled.extend(out)
        return out

    def scores(*args: Any) -> Any:
        out = pair_scores(*args)
        trained.append(out.sides)
        return out

    monkeypatch.setattr(sail_trainer_module, "pairs_of_samples", pairs)
    monkeypatch.setattr(sail_trainer_module, "pair_scores", scores)
    trainer = sail_trainer(
        tmp_path, load, tokenizer, rows(32), pr_share=1.0, preference=longest, max_new_tokens=20,
        per_device_train_batch_size=16, **BF16,
    )  # fmt: skip
    trainer.train()
    (sides,) = trained
    lp, length = torch.stack([sides.lp_1, sides.lp_2], 1), torch.stack([sides.len_1, sides.len_2], 1)
    error = ((torch.tensor([p.logps for p in sampled]) - lp.detach()) / length).abs().mean()
    assert 1e-6 < float(error) < 0.0028
