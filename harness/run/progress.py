"""Progress on the terminal: live bars with stage, time left and spent budget; plain lines when not a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_S = 20.0
FAILED = "FAILED"


class Display:
    """Shows the runs of a comparison (or of ``what``), those side by side with a bar each. Use as a context manager.

    Where it is ``quiet``, it shows notices and failures alone.
    """

    def __init__(
        self, runs: int, console: Console | None = None, what: str = "comparison", *, quiet: bool = False
    ) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.live = self.console.is_terminal and not quiet
        self.bar: Progress | None = None
        self._runs, self._done, self._share, self._what = runs, 0, 0.0, what
        self._began = time.monotonic()
        self._overall: Any = None

    def __enter__(self) -> Display:
        if self.live:
            self.bar = Progress(
                TextColumn("{task.description:<34}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                speed_estimate_period=3600,
            )
            self.bar.start()
            self._overall = self.bar.add_task(self._what, total=self._runs)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, text: str) -> None:
        """One line of its own."""
        self.console.print(text, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A line of progress."""
        if not self.quiet:
            self.say(text)

    def begin(self, name: str, todo: list[str], *, counts: bool = True) -> Work:
        """A run begins, or a part of one.

        Args:
            name: how it is called.
            todo: what is still to be done of it.
            counts: whether a run is over with it.
        """
        if not self.live:
            number = f"[{self._done + 1}/{self._runs}] " if counts else ""
            self.note(f"{number}{name}: {', '.join(todo)}")
        return Work(self, name)

    def over(self, name: str, text: str, runs: int, share: float) -> None:
        """A run, or a part of one, is over.

        Args:
            name: how it is called.
            text: how it ended.
            runs: how many are over with it: a lost trial fails all that need it.
            share: of the whole work that came with it, in runs.
        """
        spent = time.monotonic() - self._began
        tail = ""
        self._done, self._share = self._done + runs, self._share + share
        if share:
            left = spent / self._share * (self._runs - self._share)
            tail = f"; about {left / 60:.0f} min left" if self._done < self._runs and left > 30 else ""
            if self.bar:
                self.bar.update(self._overall, completed=self._done)
        show = self.say if text.startswith(FAILED) else self.note
        show(f"  {name} · {text} ({spent / 60:.1f} min so far{tail})")


class Work:
    """A run, or a part of one, as a display shows it."""

    def __init__(self, display: Display, name: str) -> None:
        self._display, self._name = display, name
        self._stage, self._at = "", 0
        self._total: int | None = None
        self._stage_began = self._last = time.monotonic()
        self._task: Any = display.bar.add_task(name, total=None, visible=False) if display.bar else None

    def show(self, kind: str, value: Any) -> None:
        """An event of progress: ``stage`` (text, total), ``advance`` (so much more), ``at`` (so much); or ``say``, a
        line of its own."""
        if kind == "stage":
            self.stage(*value)
        elif kind == "say":
            self._display.say(f"  {value}")
        elif kind == "advance":
            self.advance(value)
        else:
            self.at(value)

    def stage(self, text: str, total: int | None) -> None:
        """A stage begins."""
        self._stage, self._total, self._at = text, total, 0
        self._stage_began = self._last = time.monotonic()
        bar = self._display.bar
        if bar:
            bar.reset(self._task, description=f"{self._name} · {text}", total=total, visible=True)
        else:
            self._display.note(f"  {self._name} · {text}{f' ({total})' if total else ''}")

    def advance(self, done: int) -> None:
        """Part of the stage is done."""
        self.at(self._at + done)

    def at(self, done: int) -> None:
        """So much of the stage is done (answers, optimiser steps)."""
        self._at = done
        bar = self._display.bar
        if bar:
            bar.update(self._task, completed=done)
            return
        now = time.monotonic()
        if self._total and now - self._last >= PLAIN_EVERY_S:
            self._last = now
            spent = now - self._stage_began
            left = spent / max(done, 1) * max(self._total - done, 0)
            self._display.note(f"  {self._name} · {self._stage}: {done}/{self._total}, about {left:.0f} s left")

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
