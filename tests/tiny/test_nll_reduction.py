"""The likelihood terms of SFT and ORPO beside TRL's: where they differ, and by how much."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from kit.training import arguments, perturb
from trl import DPOConfig

from harness.train.losses import odds_ratio, sft
from harness.train.pair_trainers import PairTrainer
from sail.losses import Sides

Load = Callable[[], Any]
LENGTHS = (1, 9, 2, 6)


def pairs() -> list[dict[str, Any]]:
    """Four pairs whose chosen responses differ much in length."""
    generator = torch.Generator().manual_seed(3)

    def ids(count: int) -> list[int]:
        return torch.randint(0, 256, (count,), generator=generator).tolist()

    reference = {"ref_chosen_logps": 0.0, "ref_rejected_logps": 0.0}
    return [
        {"prompt_ids": ids(4 + i), "chosen_ids": ids(n), "rejected_ids": ids(4)} | reference
        for i, n in enumerate(LENGTHS)
    ]


def token_logps(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Of every token but the first, by one plain forward without padding."""
    ids = torch.tensor([prompt + response])
    with torch.no_grad():
        logps = torch.log_softmax(model(input_ids=ids).logits[0, :-1].double(), -1)
    return logps.gather(-1, ids[0, 1:, None])[:, 0]


def first_loss(trainer: Any) -> float:
    """The logged loss of the first step, which is computed before the weights move."""
    perturb(trainer.model, scale=0.1)
    trainer.train()
    return float(trainer.state.log_history[0]["loss"])


def test_the_difference_in_numbers() -> None:
    """The example of docs/methods.md: responses of 2 and 8 tokens at 1 and 3 nats a token."""
    zero, length = torch.zeros(2), torch.tensor([2.0, 8.0])
    sides = Sides(torch.tensor([-2.0, -24.0]), torch.tensor([-2.0, -24.0]), zero, zero, length, length)
    assert float(sft(sides).mean()) == 2.0
    assert float(torch.tensor([1.0] * 2 + [3.0] * 8).mean()) == pytest.approx(2.6)


def test_sft_weighs_responses_alike_and_trl_weighs_tokens_alike(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    """One step of two micro-batches: ours is the mean of the responses' means, TRL's the mean over all tokens."""
    from trl import SFTConfig, SFTTrainer

    layout = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 1}
    settings = arguments(tmp_path, train_sampling_strategy="sequential", **layout)
    ours = PairTrainer(
        model=load(), ref_model=load(), args=DPOConfig(**settings), train_dataset=Dataset.from_list(pairs()),
        processing_class=tokenizer, pair_loss=sft, chosen_only=True,
    )  # fmt: skip
    sequences = [
        {"input_ids": p["prompt_ids"] + p["chosen_ids"],
         "completion_mask": [0] * len(p["prompt_ids"]) + [1] * len(p["chosen_ids"])} for p in pairs()
    ]  # fmt: skip
    theirs = SFTTrainer(
        model=load(), args=SFTConfig(**{k: v for k, v in settings.items() if k != "beta"}, completion_only_loss=True),
        train_dataset=Dataset.from_list(sequences), processing_class=tokenizer,
    )  # fmt: skip
    model = perturb(load(), scale=0.1)
    chosen = [token_logps(model, p["prompt_ids"], p["chosen_ids"])[-n:] for p, n in zip(pairs(), LENGTHS, strict=True)]
    by_response = -float(torch.stack([c.mean() for c in chosen]).mean())
    by_token = -float(torch.cat(chosen).mean())
    assert abs(by_response - by_token) > 0.05
    assert first_loss(ours) == pytest.approx(by_response, rel=1e-4)
    assert first_loss(theirs) == pytest.approx(by_token, rel=1e-4)


def test_orpos_likelihood_leaves_the_prompt_out_and_trls_does_not(load: Load) -> None:
    """The odds-ratio terms are equal; the likelihood is ours by response, TRL's over all tokens, prompts included."""
    from trl.experimental.orpo import ORPOTrainer

    model, weight = perturb(load(), scale=0.1), 0.5
    batch: dict[str, Any] = {}
    for side in ("chosen", "rejected"):
        ids = [torch.tensor(p["prompt_ids"] + p[f"{side}_ids"]) for p in pairs()]
        labels = [torch.tensor([-100] * len(p["prompt_ids"]) + p[f"{side}_ids"]) for p in pairs()]
        pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        batch |= {
            f"{side}_input_ids": pad(ids), f"{side}_labels": pad(labels, padding_value=-100),
            f"{side}_attention_mask": pad([torch.ones_like(i) for i in ids]),
        }  # fmt: skip
    trl = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x), beta=weight, padding_value=0,
        is_encoder_decoder=False, aux_loss_enabled=False,
        concatenated_inputs=ORPOTrainer.concatenated_inputs, get_batch_logps=ORPOTrainer.get_batch_logps,
    )  # fmt: skip
    for name in ("concatenated_forward", "odds_ratio_loss"):
        setattr(trl, name, partial(getattr(ORPOTrainer, name), trl))
    with torch.no_grad():
        theirs, _ = ORPOTrainer.get_batch_loss_metrics(trl, model, batch)
    whole = [token_logps(model, p["prompt_ids"], p["chosen_ids"]) for p in pairs()]
    chosen = [w[-n:] for w, n in zip(whole, LENGTHS, strict=True)]
    rejected = [token_logps(model, p["prompt_ids"], p["rejected_ids"])[-4:] for p in pairs()]
    zero, length = torch.zeros(4, dtype=torch.float64), torch.tensor(LENGTHS, dtype=torch.float64)
    lp_1, lp_2 = (torch.stack([c.sum() for c in side]) for side in (chosen, rejected))
    ours = odds_ratio(Sides(lp_1, lp_2, zero, zero, length, zero + 4), weight).mean()
    by_response = -torch.stack([c.mean() for c in chosen]).mean()
    with_prompts = -torch.cat(whole).mean()
    assert abs(float(by_response - with_prompts)) > 0.05
    assert float(ours - by_response) == pytest.approx(float(theirs - with_prompts), rel=1e-4)
