"""Progress on the terminal: a live bar with stage, time left and spent budget; plain lines when not a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_S = 20.0


class Display:
    """Shows the runs of a comparison (or of ``what``). Use as a context manager."""

    def __init__(self, runs: int, console: Console | None = None, what: str = "comparison") -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal
        self._runs, self._done, self._what = runs, 0, what
        self._name, self._stage, self._at = "", "", 0
        self._total: int | None = None
        self._began = self._stage_began = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._overall: Any = None
        self._current: Any = None

    def __enter__(self) -> Display:
        if self.live:
            self._bar = Progress(
                TextColumn("{task.description:<34}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                speed_estimate_period=3600,
            )
            self._bar.start()
            self._overall = self._bar.add_task(self._what, total=self._runs)
            self._current = self._bar.add_task("", total=None, visible=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """One line of its own."""
        self.console.print(text, markup=False, soft_wrap=True)

    def run(self, name: str, todo: list[str]) -> None:
        """A run begins."""
        self._name = name
        if not self.live:
            self.say(f"[{self._done + 1}/{self._runs}] {name}: {', '.join(todo)}")

    def stage(self, text: str, total: int | None) -> None:
        """A stage of the current run begins."""
        self._stage, self._total, self._at = text, total, 0
        self._stage_began = self._last = time.monotonic()
        if self._bar:
            self._bar.reset(self._current, description=f"{self._name} · {text}", total=total, visible=True)
        else:
            self.say(f"  {self._name} · {text}{f' ({total})' if total else ''}")

    def advance(self, done: int) -> None:
        """Part of the stage is done."""
        self.at(self._at + done)

    def at(self, done: int) -> None:
        """So much of the stage is done (answers, optimiser steps)."""
        self._at = done
        if self._bar:
            self._bar.update(self._current, completed=done)
            return
        now = time.monotonic()
        if self._total and now - self._last >= PLAIN_EVERY_S:
            self._last = now
            spent = now - self._stage_began
            left = spent / max(done, 1) * max(self._total - done, 0)
            self.say(f"  {self._name} · {self._stage}: {done}/{self._total}, about {left:.0f} s left")

    def finished(self, text: str) -> None:
        """The current run is over."""
        self._done += 1
        if self._bar:
            self._bar.update(self._overall, completed=self._done)
            self._bar.update(self._current, visible=False)
        spent = time.monotonic() - self._began
        left = spent / self._done * (self._runs - self._done)
        tail = f"; about {left / 60:.0f} min left" if self._done < self._runs and left > 30 else ""
        self.say(f"  {self._name} · {text} ({spent / 60:.1f} min so far{tail})")
