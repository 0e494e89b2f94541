"""What a method is given to train with, on the tiny model and random pairs, without a recipe and a store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.answer.load import Loading, load_model, load_tokenizer
from harness.budget.budget import Budget
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.recipe.train import Precision, TrainSpec
from harness.train.context import TrainContext
from kit.training import rows


def longer(rows: Any, firsts: list[str], seconds: list[str]) -> list[float]:
    """An oracle's verdicts: the longer text is better."""
    return [0.5 + 0.5 * ((len(a) > len(b)) - (len(a) < len(b))) for a, b in zip(firsts, seconds, strict=True)]


def context(
    start: Path, folder: Path, train: TrainSpec, budget: Budget, *, precision: Precision = "float32", **more: Any
) -> TrainContext:
    """A context; the start policy gives each token of a response a log-probability of -5.

    Args:
        start: folder of the tiny model.
        folder: of the training.
        train: settings.
        budget: what may be spent.
        precision: of the recipe.
        more: fields of the context.
    """
    ledger = Ledger()
    meter = Meter(ledger)
    pairs = [
        {k: v for k, v in row.items() if k != "example_id"}
        | {"id": str(i)}
        | {f"ref_{side}_logps": -5.0 * len(row[f"{side}_ids"]) for side in ("chosen", "rejected")}
        for i, row in enumerate(rows())
    ]
    fields: dict[str, Any] = {
        "start": start,
        "tokenizer": load_tokenizer(start),
        "pairs": pairs,
        "prompts": {p["id"]: {"id": p["id"]} for p in pairs},
        "oracle": SimpleNamespace(prefer=longer),
        "meter": meter,
        "ledger": ledger,
        "budget": budget,
        "seed": 0,
        "learning_rate": 1e-6,
        "max_new_tokens": 6,
        "train": train,
        "directory": folder,
        "load_model": lambda folder=None: meter.attach(load_model(folder or start, None, Loading(precision))),
        "precision": precision,
    }
    return TrainContext(**fields | more)
