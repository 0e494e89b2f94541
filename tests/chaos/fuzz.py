"""Odd input by hypothesis: recipes, data files, official files, judge replies. Each ends in a result or a sentence."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.strategies import SearchStrategy

from harness.errors import UserError
from tests.chaos.outcome import Fault, Line, Outcome

CASE_S = 20.0
"""Seconds after which a case hangs."""

LONGEST_SENTENCE = 4000
"""Characters; a longer one nobody reads."""

SHOWN = 300
"""Characters of an input that a fault shows."""

ROOT = str(Path(__file__).resolve().parents[2])


class Subject(NamedTuple):
    """Something that reads input.

    Attributes:
        name: of the input.
        sound: input of which it makes a result: what is changed.
        inputs: that it gets.
        read: reads one; returns, or raises a user error.
        share: of all cases.
    """

    name: str
    sound: Sequence[Any]
    inputs: SearchStrategy[Any]
    read: Callable[[Any], object]
    share: float


class _HangError(BaseException):
    """The deadline of a case has passed."""


def run(folder: Path, cases: int, seed: int) -> Outcome:
    """Feed every subject.

    Args:
        folder: for files.
        cases: over all subjects.
        seed: of the inputs.
    """
    from tests.chaos.fuzz_files import subjects as of_files
    from tests.chaos.fuzz_replies import replies

    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    outcome = Outcome("fuzz")
    with replies() as subject, Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        for one in (*of_files(folder), subject):
            began = time.monotonic()
            outcome.lines.append(feed(one, max(1, round(cases * one.share)), seed))
            print(f"{one.name}: {time.monotonic() - began:.0f} s", file=sys.__stderr__, flush=True)
    return outcome


def feed(subject: Subject, cases: int, seed: int) -> Line:
    """Give a subject so many inputs.

    Args:
        subject: reads them.
        cases: how many.
        seed: of the inputs.

    Raises:
        UserError: sound input is refused, so that nothing would be shown.
    """
    for value in subject.sound:
        subject.read(value)
    line, ends = Line(subject.name), Counter[str]()
    seen: dict[str, Fault] = {}

    def one(value: Any) -> None:
        line.cases += 1
        end, place, fault = _read(subject, value)
        ends[end] += 1
        if fault is not None:
            seen.setdefault(place, fault)
            ends[place] += 1

    settings = hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    hypothesis.seed(seed)(settings(hypothesis.given(subject.inputs)(one)))()
    line.faults = [fault._replace(text=f"{ends[place]} cases: {fault.text}") for place, fault in seen.items()]
    line.note = f"{ends['result']} ended in a result, {ends['sentence']} in a sentence"
    return line


def _read(subject: Subject, value: Any) -> tuple[str, str, Fault | None]:
    """How the reading of an input ended, where in the code it went wrong, and what was wrong."""
    try:
        with _deadline():
            subject.read(value)
    except UserError as error:
        worst = next((s for s in error.sentences if "\n" in s or not s.strip() or len(s) > LONGEST_SENTENCE), None)
        if worst is None:
            return "sentence", "", None
        text = f"{len(worst)} characters, {worst.count(chr(10))} line breaks: {worst[:SHOWN]!r}"
        return "fault", f"sentence {worst[:40]}", Fault("no fix", text)
    except _HangError as error:
        return "fault", "hang", Fault("hang", f"{error} {_shown(value)}")
    except BaseException as error:  # noqa: BLE001 - what is looked for
        place = _place(error)
        text = f"{place}: {type(error).__name__}: {str(error)[:SHOWN]}; {_shown(value)}"
        return "fault", place, Fault("traceback", text)
    return "result", "", None


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text):,} characters)"


def _place(error: BaseException) -> str:
    """The last line of the project that an exception went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(ROOT)]
    frames = [frame for frame in frames if "/tests/" not in frame.filename] or frames
    return f"{frames[-1].filename.removeprefix(ROOT).lstrip('/')}:{frames[-1].lineno}" if frames else "outside"


@contextmanager
def _deadline() -> Iterator[None]:
    """Raise if the context takes too long."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _HangError(f"longer than {CASE_S:.0f} s:")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, CASE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
