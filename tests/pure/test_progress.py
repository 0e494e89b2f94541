"""What a user sees of a comparison under way: the first line, those of its runs, and times left that mean something."""

from __future__ import annotations

import io
import os
import signal
import sys
import time

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from harness.cli import _Group
from harness.run import progress
from harness.run.progress import Display, about


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress.time, "monotonic", made)
    return made


def plain(runs: int, predicted: float | None = None) -> tuple[Display, io.StringIO]:
    text = io.StringIO()
    return Display(runs, Console(file=text, width=200), predicted=predicted), text


def test_a_log_has_one_line_a_run(clock: Clock) -> None:
    """None for stages and parts, and for a first score within a minute; runs that were done before come once."""
    display, log = plain(3)
    with display as shown:
        shown.skip("start seed 0", "already done")
        first = shown.begin("dpo seed 0")
        first.show("stage", ("answers", 16))
        first.show("advance", 16)
        first.show("share", ("train lr=0.001", "64 pairs"))
        first.show("at", 44)
        clock.now += 59
        first.finished("MT-Bench 5.0 (4.0 to 6.0)", 0, 0.5)
        rest = shown.begin("dpo seed 0")
        clock.now += 61
        rest.finished("MT-Bench 5.0 (4.0 to 6.0)", 1, 0.5)
        clock.now += 60
        shown.begin("sail seed 0").finished("FAILED: it was made to")
    assert log.getvalue().splitlines() == [
        "[1/3] start seed 0: already done",
        "[2/3] dpo seed 0: MT-Bench 5.0 (4.0 to 6.0) (2.0 min so far, about 2 min left)",
        "[3/3] sail seed 0: FAILED: it was made to (3.0 min so far)",
    ]


def test_a_log_has_first_scores_of_a_comparison_that_takes_minutes(clock: Clock) -> None:
    display, log = plain(1)
    with display as shown:
        first = shown.begin("dpo seed 0")
        clock.now += 90
        first.finished("MT-Bench 5.0 (4.0 to 6.0)", 0, 0.5)
        shown.begin("dpo seed 0").finished("", 0, 0.1)
        shown.begin("dpo seed 0").finished("FAILED: it was made to", 0, 0.1)
    assert log.getvalue().splitlines() == [
        "  dpo seed 0 · first score: MT-Bench 5.0 (4.0 to 6.0) (1.5 min so far)",
        "  dpo seed 0 · FAILED: it was made to",
    ]


def test_a_long_stage_gives_a_sign_of_life(clock: Clock) -> None:
    """Every ten minutes, with a percentage as one and no `about 0 s left`."""
    display, log = plain(1)
    with display as shown:
        work = shown.begin("dpo seed 0")
        work.show("share", ("train lr=0.001", "64 pairs"))
        for percent in (1, 44, 99, 100):
            clock.now += 599 if percent == 1 else 601
            work.show("at", percent)
        work.show("stage", ("mmlu: answering", 400))
        clock.now += 601
        work.show("at", 100)
    assert log.getvalue().splitlines() == [
        "  dpo seed 0 · train lr=0.001: 44% of 64 pairs, about 25 min left",
        "  dpo seed 0 · train lr=0.001: 99% of 64 pairs",
        "  dpo seed 0 · train lr=0.001: 100% of 64 pairs",
        "  dpo seed 0 · mmlu: answering: 100 of 400, about 30 min left",
    ]


def test_time_left_is_predicted_and_then_measured(clock: Clock) -> None:
    """As predicted until a run is over; then a mean of both, weighted by how much is over. Runs that were over before
    say nothing about the speed."""
    display, _ = plain(5, predicted=400.0)
    assert display.left() == 400.0
    clock.now += 100
    assert display.left() == 300.0
    display.skip("start seed 0", "already done")
    assert display.left() == 300.0
    clock.now += 100
    display.begin("dpo seed 0").finished("done")
    measured, predicted = 3 * 200.0, 0.75 * 400.0  # three runs of four are open
    assert display.left() == pytest.approx(0.25 * measured + 0.75 * predicted)
    unpredicted, _ = plain(2)
    assert unpredicted.left() is None
    clock.now += 50
    unpredicted.begin("dpo seed 0").finished("done")
    assert unpredicted.left() == pytest.approx(50.0)


def test_a_time_in_words() -> None:
    words = {20.0: "less than a minute", 150.0: "about 2 min", 5300.0: "about 88 min", 9000.0: "about 2.5 h"}
    assert {seconds: about(seconds) for seconds in words} == words


def test_a_terminal_shows_percentages_and_the_whole(clock: Clock) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160, highlight=False)
    with Display(2, console, predicted=1200.0) as shown:
        work = shown.begin("dpo seed 0")
        work.show("share", ("train lr=0.001", "64 pairs"))
        work.show("at", 44)
        assert shown.bar is not None
        shown.bar.refresh()
        work.finished("MT-Bench 5.0", 0, 0.5)
    out = text.getvalue()
    assert "44% of 64 pairs" in out and "44/100" not in out
    assert "about 20 min" in out and "0/2" in out
    assert "dpo seed 0 · first score: MT-Bench 5.0" in out


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_ended_command_says_how_to_go_on(how: signal.Signals, code: int) -> None:
    @click.group(cls=_Group)
    def group() -> None:
        """A command line."""

    @group.command()
    def work() -> None:
        """Is ended."""
        os.kill(os.getpid(), how)
        signal.pause() if hasattr(signal, "pause") else None

    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # as it is where a shell began us aside
    try:
        result = CliRunner().invoke(group, ["work"])
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert result.exit_code == code
    assert "Finished work is kept: the same command resumes." in result.stderr
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_that_a_destructor_swallows_comes_again() -> None:
    """Python ignores an exception in ``__del__``, so that the command would go on."""

    class Ended:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # the handler runs here

    @click.group(cls=_Group)
    def group() -> None:
        """A command line."""

    @group.command()
    def work() -> None:
        """Clears an object away, and goes on."""
        ended = Ended()
        del ended
        for _ in range(200):
            time.sleep(0.01)
        click.echo("it went on")

    before = sys.unraisablehook
    result = CliRunner().invoke(group, ["work"])
    assert result.exit_code == 143
    assert "it went on" not in result.stdout
    assert sys.unraisablehook is before
