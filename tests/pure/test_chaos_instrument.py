"""``nox -s chaos`` sees what it looks for: a number that differs, a traceback, a hang, an end without a sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from harness.errors import UserError
from tests.chaos import fuzz
from tests.chaos.compared import differences
from tests.chaos.outcome import Fault, Line, Outcome, table

RESULT = {"value": 0.25, "seconds": 3, "ledger": {"phases": {"train": {"pairs": 8}, "eval": {"tokens": 9}}}}
ROWS = [{"id": 0, "text": "answer", "logp": -1.25}]


def comparison(folder: Path, result: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    seed = folder / "results/local/chaos/pairs-8/dpo/seed-0.json"
    stage = folder / ".sail-bench/stages/answers-1"
    for parent in (seed.parent, stage):
        parent.mkdir(parents=True)
    seed.write_text(json.dumps(result))
    (stage / "manifest.json").write_text(json.dumps({"kind": "answers", "inputs": {"a": 1}, "ledger": {"any": 1}}))
    (stage / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (stage / "weights.bin").write_bytes(b"weights")
    return folder


def test_what_a_clock_decides_is_no_difference_and_all_else_is(tmp_path: Path) -> None:
    whole = comparison(tmp_path / "whole", RESULT, ROWS)
    later = {"value": 0.25, "seconds": 5, "ledger": {"phases": {"train": {"pairs": 8}, "eval": {"tokens": 1}}}}
    assert differences(comparison(tmp_path / "later", later, ROWS), whole) == []
    other = comparison(tmp_path / "other", RESULT | {"value": 0.26}, [ROWS[0] | {"logp": -1.250001}])
    assert differences(other, whole) == [
        "dpo/seed-0.json/value: 0.26 for 0.25",
        "answers-1/rows.jsonl[0]/logp: -1.250001 for -1.25",
    ]
    assert differences(other, whole, tolerance=2e-6) == ["dpo/seed-0.json/value: 0.26 for 0.25"]
    (other / ".sail-bench/stages/answers-1/weights.bin").write_bytes(b"weightz")
    (other / "results/local/chaos/pairs-8/dpo/seed-0.json").unlink()
    found = differences(other, whole, tolerance=2e-6)
    assert found[0] == "dpo/seed-0.json is not there" and found[1].startswith("answers-1/weights.bin: ")


def refuse(value: int) -> None:
    raise UserError(f"In x.yaml, key 'n': {value} is wrong: take another")


def rambling(value: int) -> None:
    raise UserError("one line\nand another")


def broken(value: int) -> int:
    return 1 // (value * 0)


@pytest.mark.parametrize(
    ("read", "kind"),
    [(lambda value: value, ""), (refuse, ""), (rambling, "no fix"), (broken, "traceback"), (time.sleep, "hang")],
)
def test_each_end_of_an_odd_input_is_counted(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[Any], object], kind: str
) -> None:
    monkeypatch.setattr(fuzz, "CASE_S", 0.05)
    line = fuzz.feed(fuzz.Subject("numbers", [], st.integers(5, 10**6), read, 1.0), cases=3, seed=0)
    assert line.cases == 3
    assert [fault.kind for fault in line.faults] == ([kind] if kind else [])
    assert line.note.endswith(f"{3 if read is refuse else 0} in a sentence")


def test_sound_input_that_is_refused_ends_the_part() -> None:
    with pytest.raises(UserError):
        fuzz.feed(fuzz.Subject("numbers", [1], st.integers(), refuse, 1.0), cases=1, seed=0)


def test_the_table_has_every_fault_and_what_is_skipped_is_not_passed() -> None:
    line = Line("kill -9 of the group")
    line.add("cycle 1", [Fault("hang", "no end"), Fault("difference", "value: 1 for 2")])
    kills, disk = Outcome("kills", [line]), Outcome("full disk", [Line("sizes of the disk", skipped="it needs root")])
    shown = table([kills, disk, Outcome("two", broken="its process ended")])
    assert "| kills | kill -9 of the group | 1 | 1 | 0 | 1 | 0 | 0 | 0 |  |" in shown
    assert "| full disk | sizes of the disk | 0 |  |  |  |  |  |  | skipped: it needs root |" in shown
    assert "broken: its process ended" in shown
    assert "1 cases, 2 faults." in shown and "- kills, kill -9 of the group, hang: cycle 1: no end" in shown
    assert not kills.sound and disk.sound and not Outcome("two", broken="its process ended").sound
