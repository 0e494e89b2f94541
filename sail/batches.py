"""Between the data loader's batches and the pairs of a step: taken apart, weighed, and put together again.

A collated batch of TRL holds rows [chosen..., rejected...] of shape (2B, L).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sail.config import SAILConfig
from sail.data import MADE, may_use_label
from sail.noise import uniform
from sail.pairs import StepPair, TokenisedPair
from sail.ranks import all_ranks
from sail.routes import OFF, flipped, route_of, source_of

COLUMNS = "columns"
"""In a batch: the rows of the data set without their token ids, for functions that label texts."""

CARRIED = ("example_id", COLUMNS)
"""What this collator adds to a batch; no input of a model."""


class ExampleCollator:
    """Carries ``example_id`` through TRL's collator.

    Args:
        inner: TRL's collator.
        texts: carry the other columns of the data set too, as :data:`COLUMNS`.
    """

    def __init__(self, inner: Any, texts: bool = False) -> None:
        self.inner, self.texts = inner, texts

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = self.inner(examples)
        batch["example_id"] = torch.tensor([e["example_id"] for e in examples])
        if self.texts:
            batch[COLUMNS] = [{k: v for k, v in e.items() if k not in MADE} for e in examples]
        return batch


def unpack(batch: dict[str, Any]) -> list[TokenisedPair]:
    """The pairs of a collated batch, padding removed."""
    ids, attention, completion = batch["input_ids"], batch["attention_mask"].bool(), batch["completion_mask"].bool()
    count = len(ids) // 2
    return [
        TokenisedPair(
            int(batch["example_id"][i]),
            tuple(ids[i][attention[i] & ~completion[i]].tolist()),
            tuple(ids[i][completion[i]].tolist()),
            tuple(ids[count + i][completion[count + i]].tolist()),
        )
        for i in range(count)
    ]


def step_pairs(batch: dict[str, Any], step: int, args: SAILConfig) -> list[StepPair]:
    """The pairs of a collated batch, each with its route and label noise; nothing is sampled yet.

    Args:
        batch: by :class:`ExampleCollator`, with ``ref_chosen_logps`` and ``ref_rejected_logps`` if they are stored.
        step: number of finished optimiser steps.
        args: route shares and noise settings.
    """
    seed = args.key_seed
    refs: list[Any] = [None] * len(batch["example_id"])
    if "ref_chosen_logps" in batch:
        refs = list(zip(batch["ref_chosen_logps"].tolist(), batch["ref_rejected_logps"].tolist(), strict=True))
    rows = batch.get(COLUMNS) or [{}] * len(refs)
    pairs = []
    for pair, ref, row in zip(unpack(batch), refs, rows, strict=True):
        labelled = may_use_label(seed, pair.example, args.label_fraction)
        pairs.append(
            StepPair(
                *pair,
                route=route_of(seed, pair.example, step, args.shares, labelled),
                source=source_of(seed, pair.example, step, args.generators),
                label_draw=uniform((seed, pair.example, step, "label")),
                ref_logps=ref,
                label=flipped(1.0, uniform((seed, pair.example, "flip")), args.flip_rate),
                columns=row,
            )
        )
    return pairs


def weighed(batches: list[list[StepPair]], accelerator: Any, batch_size: int) -> list[list[StepPair]]:
    """Each pair of the global step weighs 1/N, times the number of ranks since their gradients are averaged.

    In the last batch of an epoch the sampler may repeat rows to fill the ranks: they weigh 0.

    Args:
        batches: this rank's micro-batches of the step.
        accelerator: accelerate's; knows the ranks and whether the epoch ends here.
        batch_size: pairs of a micro-batch on each rank.
    """
    state = accelerator.gradient_state
    if state.end_of_dataloader and state.remainder > 0:
        first = accelerator.process_index * batch_size
        batches = [
            *batches[:-1],
            [
                pair if first + place < state.remainder else replace(pair, weight=0.0)
                for place, pair in enumerate(batches[-1])
            ],
        ]
    total = sum(all_ranks(sum(pair.weight for batch in batches for pair in batch)))
    scale = accelerator.num_processes / total
    return [[replace(pair, weight=pair.weight * scale) for pair in batch] for batch in batches]


def padded(pairs: Sequence[StepPair], collator: ExampleCollator) -> dict[str, Tensor]:
    """Token ids and masks of pairs, by TRL's collator."""
    examples = [
        {"prompt_ids": list(p.prompt), "chosen_ids": list(p.first), "rejected_ids": list(p.second)} for p in pairs
    ]
    batch: dict[str, Tensor] = collator.inner(examples)
    return batch


def collated(pairs: Sequence[StepPair], collator: ExampleCollator, coefs: tuple[float, ...]) -> dict[str, Tensor]:
    """A batch with all that the surrogate needs beside token ids: columns of shape (B,).

    Args:
        pairs: with reference log-probabilities; the columns are left out if a pair has none.
        collator: of the trainer.
        coefs: added-gradient coefficients of DP, PP and PR, in this order.
    """

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)

    all_computed = all(p.ref_logps is not None for p in pairs)
    references = {
        f"ref_{side}_logps": torch.tensor([p.references[i] for p in pairs])
        for i, side in enumerate(("chosen", "rejected"))
        if all_computed
    }
    return {
        **padded(pairs, collator),
        **references,
        "example_id": torch.tensor([p.example for p in pairs]),
        "route": torch.tensor([p.route for p in pairs]),
        "draw": column([p.label_draw for p in pairs]),
        "label": column([p.label for p in pairs]),
        "online": column([float(p.on_policy) for p in pairs]),
        "coefficient": column([coefs[p.route] if p.route != OFF else 0.0 for p in pairs]),
        "baseline": column([p.baseline for p in pairs]),
        "baseline_1": column([p.response_baselines[0] for p in pairs]),
        "baseline_2": column([p.response_baselines[1] for p in pairs]),
        "kl_baseline_1": column([p.kl_baselines[0] for p in pairs]),
        "kl_baseline_2": column([p.kl_baselines[1] for p in pairs]),
        "u_baseline_1": column([p.u_baselines[0] for p in pairs]),
        "u_baseline_2": column([p.u_baselines[1] for p in pairs]),
        "weight": column([p.weight for p in pairs]),
    }
