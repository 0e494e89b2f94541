"""What a comparison sends to the process of a tracker, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Row = Mapping[str, float]
"""A row of a training log."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker shows it.

    Attributes:
        project: name of the project, unless the tracker's own variable names another.
        name: of the run.
        key: of what it shows; something else under the same name is another run.
        group: of runs that belong together: a method under a budget.
        config: settings to filter and sort by; no text from the environment.
    """

    project: str
    name: str
    key: str
    group: str
    config: Mapping[str, Any] = field(default_factory=dict)


class LoggedRow(NamedTuple):
    """A row of a training log, as a run process sends it while it trains.

    Attributes:
        point: of the training, by :meth:`harness.recipe.search.Point.record`; seed: of the training.
        number: of the row, from 1.
        row: the row.
    """

    point: Mapping[str, Any]
    seed: int
    number: int
    row: Row


class Table(NamedTuple):
    """A table of texts and numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Logged(NamedTuple):
    """Rows of a training log as they come, the first with the number ``first``, from 1."""

    run: TrackedRun
    first: int
    rows: Sequence[Row]


class Over(NamedTuple):
    """A run that is over: its whole training log and its scores, by name. Without ``complete`` it has failed, and what
    is there of it stays as it is."""

    run: TrackedRun
    rows: Sequence[Row] = ()
    scores: Row = {}
    complete: bool = True


class Tables(NamedTuple):
    """Tables of a comparison, by name."""

    run: TrackedRun
    tables: Mapping[str, Table]


Message = Logged | Over | Tables
"""What a tracker is sent; None is the last."""


class Answer(NamedTuple):
    """What a tracker's process answers. ``ready`` and ``refused`` (a sentence) come first, ``notice`` (a sentence) at
    most once in between, ``failed`` (a reason) or ``done`` last."""

    kind: Literal["ready", "refused", "notice", "failed", "done"]
    text: str = ""
