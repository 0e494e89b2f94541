"""Rows of the training log as they are passed on while a method trains: those that the stored log has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.contexts import context

from harness.budget.budget import Budget
from harness.recipe.train import LoraSpec, TrainSpec
from harness.run.plugins import load as plugin

TRAIN = TrainSpec(batch_size=4, lora=LoraSpec(r=4, alpha=8, layers=1))
STEPS = Budget("b", "steps", 6)


class KilledError(Exception):
    """Stands for kill -9: nothing after it is run."""


@pytest.mark.parametrize("method", ["dpo", "sail-dp", "spin"])
def test_every_row_is_passed_on_once_with_its_number(method: str, tiny_dir: Path, tmp_path: Path) -> None:
    """In one go, and over the rounds of `spin`, in each of which the trainer's own steps begin again."""
    rows: list[tuple[int, dict[str, Any]]] = []
    given = context(tiny_dir, tmp_path, TRAIN, STEPS, on_log=lambda number, row: rows.append((number, dict(row))))
    plugin("methods", method)().train(given)
    assert [number for number, _ in rows] == list(range(1, 7))
    assert len(given.log) == 6
    for (_, row), stored in zip(rows, given.log, strict=True):
        assert row == {name: value for name, value in stored.items() if name != "step"}


def test_after_a_kill_rows_go_on_with_their_numbers(tiny_dir: Path, tmp_path: Path) -> None:
    """The checkpoint is that of step 3: rows 4 and 5 come again, with the same numbers and values."""
    train = TRAIN.model_copy(update={"checkpoints": 2})
    rows: list[tuple[int, float]] = []

    def on_log(number: int, row: Any) -> None:
        rows.append((number, row["loss"]))
        if len(rows) == 5:
            raise KilledError

    with pytest.raises(KilledError):
        plugin("methods", "dpo")().train(context(tiny_dir, tmp_path, train, STEPS, on_log=on_log))
    given = context(tiny_dir, tmp_path, train, STEPS, on_log=on_log)
    plugin("methods", "dpo")().train(given)
    assert [number for number, _ in rows] == [1, 2, 3, 4, 5, 4, 5, 6]
    stored = dict(enumerate((row["loss"] for row in given.log), 1))
    assert [loss for _, loss in rows] == pytest.approx([stored[number] for number, _ in rows])
