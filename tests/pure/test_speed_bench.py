"""The comparisons of speed: ratios and their intervals against closed forms, turns, pages, ends of processes."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.speed.bench import COMPARISONS, ROOT, SKIPPED, Comparison, outcome_of, run_part
from tests.speed.limited import Ended, run_limited
from tests.speed.machine import Limits, machine_name
from tests.speed.measure import Ratio, Setting, by_turns, ratio_of
from tests.speed.page import Outcome, Record, change, write_record

CAUCHY = math.tan(0.475 * math.pi)
"""The 97.5% quantile of Student's distribution with one degree of freedom."""

TWO_DEGREES = 0.95 / math.sqrt(2 * 0.975 * 0.025)
"""With two."""


def test_two_repeats_give_cauchys_interval() -> None:
    ratio = ratio_of("x", "s", [2.0, 8.0], [1.0, 1.0])
    half = CAUCHY * math.log(4) / 2  # deviation log(4) / sqrt(2), over sqrt(2)
    assert (ratio.ours, ratio.theirs, ratio.ratio, ratio.repeats) == (pytest.approx(4), 1, pytest.approx(4), 2)
    assert (ratio.low, ratio.high) == (pytest.approx(4 * math.exp(-half)), pytest.approx(4 * math.exp(half)))


def test_three_repeats_give_students_interval_with_two_degrees() -> None:
    ratio = ratio_of("x", "s", [math.e, 1.0, 1.0], [1.0, 1.0, math.e])
    assert ratio.ratio == pytest.approx(1)
    assert ratio.high == pytest.approx(math.exp(TWO_DEGREES / math.sqrt(3)))  # logarithms 1, 0, -1: deviation 1
    assert ratio.low == pytest.approx(1 / ratio.high)


def test_what_slows_a_repeat_as_a_whole_cancels() -> None:
    plain = ratio_of("x", "s", [2.0, 3.0, 4.0], [1.0, 2.0, 2.0])
    slowed = ratio_of("x", "s", [2.0, 30.0, 4.0], [1.0, 20.0, 2.0])
    assert (slowed.ratio, slowed.low, slowed.high) == pytest.approx((plain.ratio, plain.low, plain.high))


def test_one_repeat_has_no_interval_and_wrong_values_are_refused() -> None:
    assert ratio_of("x", "s", [3.0], [2.0])[4:] == (pytest.approx(1.5), None, None, 1)
    for ours, theirs in (([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0])):
        with pytest.raises(ValueError, match="positive values"):
            ratio_of("x", "s", ours, theirs)


def test_sides_take_turns_after_an_uncounted_run() -> None:
    calls: list[tuple[str, int]] = []

    def side(name: str, values: list[float]) -> Callable[[int], float]:
        return lambda place: calls.append((name, place)) or values[place]  # type: ignore[func-returns-value]

    ratio = by_turns("x", "s", side("a", [99.0, 2.0, 4.0]), side("b", [0.01, 1.0, 2.0]), 2)
    assert (ratio.ratio, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    assert calls == [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2)]


def a_ratio(name: str, value: float, low: float | None = None, high: float | None = None) -> Ratio:
    return Ratio(name, value, 1.0, "s", value, low, high, 3)


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (None, a_ratio("x", 1.0), "new"),
        (a_ratio("x", 1.0), a_ratio("x", 1.04), "+4%"),
        (a_ratio("x", 1.0, 0.9, 1.1), a_ratio("x", 1.2, 1.15, 1.25), "**+20%**"),
        (a_ratio("x", 1.0, 0.9, 1.1), a_ratio("x", 0.9, 0.8, 1.0), "**-10%** (intervals overlap)"),
        (a_ratio("x", 1.0), a_ratio("x", 0.5), "**-50%**"),
    ],
)
def test_a_change_beyond_5_percent_is_marked(before: Ratio | None, now: Ratio, text: str) -> None:
    assert change(before, now) == text


def a_record(*outcomes: Outcome) -> Record:
    environment = {"cores": 2, "threads": 2, "device": "cpu", "libraries": {"torch": "2"}}
    return Record("m", "command", environment, [Limits(2e11, 1e10), Limits(1e11, 1e10)], outcomes)


def test_a_page_compares_with_the_file_that_was_there(tmp_path: Path) -> None:
    first = a_record(Outcome("a", "ok", 1, (a_ratio("one", 1.0), a_ratio("two", 1.0))))
    assert "one | 1 | 1 | s | 1 | 3 |  |" in write_record(tmp_path, "speed-m", first)
    second = a_record(Outcome("a", "ok", 1, (a_ratio("one", 1.5),)), Outcome("b", "failed", 2, reason="a | b"))
    page = write_record(tmp_path, "speed-m", second)
    assert "one | 1.5 | 1 | s | 1.5 | 3 | **+50%** |" in page
    assert "| b | | | | **failed**: a / b | | |" in page
    assert "In the earlier file only: two." in page
    assert "before the comparisons: 200 GFLOP/s in float32 products, 10 GB/s copied" in page
    assert (tmp_path / "speed-m.md").read_text() == page


def start_and_wait(mark: Path) -> int:
    """Start a process that makes a file after a second, and return 3 before."""
    command = f"import time, pathlib; time.sleep(1); pathlib.Path({str(mark)!r}).touch()"
    subprocess.Popen([sys.executable, "-c", command])
    print("started")
    return 3


def test_a_process_is_ended_with_what_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert run_limited(start_and_wait, (mark,), tmp_path / "log", 60)[0::2] == (3, "started")
    time.sleep(1.5)
    assert not mark.exists()
    assert run_limited(time.sleep, (600,), tmp_path / "log", 1.0).code is None


def test_only_a_process_that_ends_well_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "ratios.json"
    assert outcome_of("x", Ended(1, 2.0, "why"), file, 9) == Outcome("x", "failed", 2.0, (), "why")
    assert outcome_of("x", Ended(SKIPPED, 2.0, "why"), file, 9) == Outcome("x", "skipped", 2.0, (), "why")
    late = outcome_of("x", Ended(None, 9.0, "why"), file, 9)
    assert (late.status, late.reason) == ("out of time", "over 9 s; its last line: why")
    assert outcome_of("x", Ended(-9, 2.0, ""), file, 9).status == "failed"


def test_what_a_comparison_raises_is_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_part(Comparison("measure.no_such_function", 1, 1), Setting(tmp_path, True)) == 1
    assert capsys.readouterr().out.strip().startswith("AttributeError: module 'tests.speed.measure'")
    if find_spec("vllm") is None:
        assert run_part(COMPARISONS["vllm"], Setting(tmp_path, True)) == SKIPPED
        assert capsys.readouterr().out.strip().startswith("vllm is not installed: ")


def test_every_comparison_exists_and_is_documented() -> None:
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    for name, comparison in COMPARISONS.items():
        module, _, function = comparison.function.partition(".")
        assert callable(getattr(import_module(f"tests.speed.{module}"), function))
        assert f"| `{name}` |" in page


def test_a_machine_is_named_by_what_it_is_made_of() -> None:
    name = machine_name()
    assert name == name.lower()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
