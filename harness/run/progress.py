"""Progress: on a terminal live bars with stage and time left; else a line for each run that is over, and for its first
score if that takes minutes."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from harness.store.foreign_text import one_line, shown_text

FAILED = "FAILED"
"""What the line of a failed run begins with."""

PLAIN_EVERY_S = 600.0
"""Seconds after which a log that is no terminal gets a sign of life of a stage that takes so long."""

FIRST_AFTER_S = 60.0
"""Seconds from which such a log gets a line for the first score of a run. In a shorter comparison the lines of
the runs are enough."""

SHORTEST_S = 30.0
"""A time left that is shorter is not worth a word."""


def about(seconds: float) -> str:
    """A length of time in words, to no more figures than a prediction has."""
    if seconds < 60:
        return "less than a minute"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


class _Count(ProgressColumn):
    """How much of a stage is done: a percentage of the budget, or a number of the whole."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        if of := task.fields.get("of"):
            return Text(f"{task.completed:.0f}% of {of}")
        return Text(f"{task.completed:.0f}/{task.total:.0f}")


class _Left(TimeRemainingColumn):
    """Time left: of the whole as the display predicts it, of a stage by its speed."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def render(self, task: Task) -> Text:
        if not task.fields.get("whole"):
            return super().render(task)
        left = self._display.left()
        return Text("" if left is None else about(left), style="progress.remaining")


class Display:
    """Shows the runs of a comparison (or of ``what``), those side by side with a bar each. Use as a context manager.

    Args:
        runs: that there are.
        console: the standard error if None.
        what: they are runs of.
        predicted: seconds that all of them are predicted to take; None if that is not known.
        quiet: show notices and failures alone.
    """

    def __init__(
        self,
        runs: int,
        console: Console | None = None,
        what: str = "comparison",
        predicted: float | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.live = self.console.is_terminal and not quiet
        self.bar: Progress | None = None
        self._runs, self._done, self._what = runs, 0, what
        self._share, self._work, self._predicted = 0.0, runs, predicted
        self._began = time.monotonic()
        self._whole: Any = None

    def __enter__(self) -> Display:
        if self.live:
            self.bar = Progress(
                TextColumn("{task.description:<34}", markup=False),
                BarColumn(bar_width=28),
                _Count(),
                TimeElapsedColumn(),
                TextColumn("left"),
                _Left(self),
                console=self.console,
                speed_estimate_period=3600,
            )
            self.bar.start()
            self._whole = self.bar.add_task(self._what, total=self._runs, whole=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, text: str) -> None:
        """One line of its own, without keys; nothing in it acts on the terminal."""
        self.console.print(shown_text(text), markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line of progress."""
        if not self.quiet:
            self.say(text)

    def begin(self, name: str) -> Work:
        """A run begins, or a part of one.

        Args:
            name: how it is called.
        """
        return Work(self, name)

    def left(self) -> float | None:
        """Seconds until all is over: as predicted at first, and the more by the runs' own speed, the more of them are
        over. None while nothing is known."""
        spent = time.monotonic() - self._began
        share = min(1.0, self._share / self._work) if self._work else 1.0
        if self._predicted is None:
            return spent / share * (1 - share) if share else None
        if not share:
            return max(0.0, self._predicted - spent)
        return (1 - share) * (spent + (1 - share) * self._predicted)

    def skip(self, name: str, text: str) -> None:
        """A run was over before the command began.

        Args:
            name: how it is called.
            text: how it ended.
        """
        self._work -= 1
        self._count(1)
        self.note(f"[{self._done}/{self._runs}] {name}: {text}")

    def over(self, name: str, text: str, runs: int, share: float) -> None:
        """A run, or a part of one, is over. The first score of a run has a line on a terminal, and in the log of a
        comparison that takes minutes.

        Args:
            name: how it is called.
            text: how it ended.
            runs: how many are over with it: a lost trial fails all that need it.
            share: of the whole work that came with it, in runs.
        """
        self._share += share
        self._count(runs)
        spent, left = time.monotonic() - self._began, self.left()
        if not runs:
            if text and (self.live or spent >= FIRST_AFTER_S):
                if text.startswith(FAILED):
                    self.say(f"  {name} · {text}")
                else:
                    self.note(f"  {name} · first score: {text} ({spent / 60:.1f} min so far)")
            return
        tail = f", {about(left)} left" if self._done < self._runs and left and left >= SHORTEST_S else ""
        show = self.say if text.startswith(FAILED) else self.note
        show(f"[{self._done}/{self._runs}] {name}: {text} ({spent / 60:.1f} min so far{tail})")

    def _count(self, runs: int) -> None:
        self._done += runs
        if self.bar:
            self.bar.update(self._whole, completed=self._done)


class Work:
    """A run, or a part of one, as a display shows it."""

    def __init__(self, display: Display, name: str) -> None:
        self._display, self._name = display, one_line(name)
        self._stage, self._of, self._at = "", "", 0
        self._total: int | None = None
        self._stage_began = self._last = time.monotonic()
        self._task: Any = display.bar.add_task(self._name, total=None, visible=False) if display.bar else None

    def show(self, kind: str, value: Any) -> None:
        """An event of progress: ``stage`` (text, total), ``share`` (text, of what the percentages are), ``advance`` (so
        much more), ``at`` (so much); or ``say``, a line of its own."""
        if kind == "stage":
            self.stage(*value)
        elif kind == "share":
            self.stage(value[0], 100, of=value[1])
        elif kind == "say":
            self._display.say(f"  {value}")
        elif kind == "advance":
            self.advance(value)
        else:
            self.at(value)

    def stage(self, text: str, total: int | None, of: str = "") -> None:
        """A stage begins.

        Args:
            text: how it is called.
            total: how much there is to do; None if that is not known.
            of: what its progress is a percentage of, if it is one.
        """
        self._stage, self._total, self._of, self._at = text, total, of, 0
        self._stage_began = self._last = time.monotonic()
        bar = self._display.bar
        if bar:
            bar.reset(self._task, description=f"{self._name} · {one_line(text)}", total=total, visible=True, of=of)

    def advance(self, done: int) -> None:
        """Part of the stage is done."""
        self.at(self._at + done)

    def at(self, done: int) -> None:
        """So much of the stage is done (answers, optimiser steps, percent)."""
        self._at = done
        bar = self._display.bar
        if bar:
            bar.update(self._task, completed=done)
            return
        now = time.monotonic()
        if self._total and now - self._last >= PLAIN_EVERY_S:
            self._last = now
            left = (now - self._stage_began) / max(done, 1) * max(self._total - done, 0)
            count = f"{done}% of {self._of}" if self._of else f"{done} of {self._total}"
            tail = f", {about(left)} left" if left >= SHORTEST_S else ""
            self._display.note(f"  {self._name} · {self._stage}: {count}{tail}")

    def finished(self, text: str, runs: int = 1, share: float | None = None) -> None:
        """It is over.

        Args:
            text: how it ended.
            runs: how many runs are over with it.
            share: of the whole work that came with it, in runs; as many as are over if None.
        """
        if self._display.bar:
            self._display.bar.remove_task(self._task)
        self._display.over(self._name, text, runs, runs if share is None else share)
