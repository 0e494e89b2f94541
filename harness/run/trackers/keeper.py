"""Sends each row, score and table to a tracker once, however often a comparison is taken up again."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from harness.run.trackers.kinds import Tracker, Writer
from harness.run.trackers.messages import Logged, Message, Over, Row, Tables, TrackedRun
from harness.store.json_files import digest, read_json, write_json

RECORD_EVERY_S = 1.0
"""How often the record of an open run is written, at most."""


@dataclass
class Sent:
    """What a tracker has of a run.

    Attributes:
        name: of the run; key: of what it shows.
        rows: of the training log; step: the last that anything was sent at.
        scores: by name; tables: hash of the tables sent last.
    """

    name: str
    key: str
    rows: int = 0
    step: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    tables: str = ""


class _Open(NamedTuple):
    run: TrackedRun
    writer: Writer


class Keeper:
    """Opens runs in a tracker when there is something new for them.

    Args:
        tracker: gets it.
        records: folder of the records of what was sent, one file a run and place.
    """

    def __init__(self, tracker: Tracker, records: Path) -> None:
        self._tracker, self._records = tracker, records
        self._sent: dict[str, Sent] = {}
        self._open: dict[str, _Open] = {}
        self._recorded: dict[str, float] = {}

    def take(self, message: Message) -> None:
        """Send what is new in a message."""
        if isinstance(message, Logged):
            self._log(message)
        elif isinstance(message, Over):
            self._over(message)
        else:
            self._tables(message)

    def record(self) -> None:
        """Write down what was sent of the runs that are open."""
        for run, _ in self._open.values():
            self._record(run, self._sent[run.name])

    def close(self) -> None:
        """Close the runs that are still open, which are not complete, and end the tracker."""
        for run, _ in list(self._open.values()):
            self._close(run, complete=False)
        self._tracker.end()

    def _log(self, message: Logged) -> None:
        """Rows as they come. Rows that follow a gap wait for the whole log: a tracker takes no earlier steps later."""
        sent = self._of(message.run)
        for number, row in enumerate(message.rows, message.first):
            if number == sent.rows + 1:
                self._row(message.run, sent, row)
        if message.run.name in self._open and time.monotonic() > self._recorded.get(message.run.name, 0):
            self._record(message.run, sent)

    def _over(self, message: Over) -> None:
        run, sent = message.run, self._of(message.run)
        if message.complete:
            for row in message.rows[sent.rows :]:
                self._row(run, sent, row)
            new = {name: value for name, value in message.scores.items() if sent.scores.get(name) != value}
            if new:
                self._writer(run, sent).log(sent.step + 1, new)
                sent.step += 1
                sent.scores |= new
        if run.name in self._open:
            self._close(run, complete=message.complete)

    def _tables(self, message: Tables) -> None:
        run, sent = message.run, self._of(message.run)
        content = digest({name: [list(t.columns), [list(r) for r in t.rows]] for name, t in message.tables.items()})
        if content == sent.tables:
            return
        writer = self._writer(run, sent)
        sent.step += 1
        for name, table in message.tables.items():
            writer.table(sent.step, name, table)
        sent.tables = content
        self._close(run, complete=True)

    def _row(self, run: TrackedRun, sent: Sent, row: Row) -> None:
        number = sent.rows + 1
        self._writer(run, sent).log(number, shown(row) | {"train/global_step": number})
        sent.rows = sent.step = number

    def _of(self, run: TrackedRun) -> Sent:
        """What was sent of a run; nothing if it shows something else than the one of this name before."""
        sent = self._sent.get(run.name) or self._read(run)
        if sent.key != run.key:
            if run.name in self._open:
                self._close(self._open[run.name].run, complete=False)
            sent = Sent(run.name, run.key)
        self._sent[run.name] = sent
        return sent

    def _writer(self, run: TrackedRun, sent: Sent) -> Writer:
        if run.name not in self._open:
            self._open[run.name] = _Open(run, self._tracker.open(run, again=sent.step > 0))
        return self._open[run.name].writer

    def _close(self, run: TrackedRun, *, complete: bool) -> None:
        self._open.pop(run.name).writer.close(complete)
        self._record(run, self._sent[run.name])

    def _file(self, run: TrackedRun) -> Path:
        return self._records / f"{digest([self._tracker.place, run.project, run.name])}.json"

    def _read(self, run: TrackedRun) -> Sent:
        try:
            value: dict[str, Any] = read_json(self._file(run))
            return Sent(**{part.name: value[part.name] for part in fields(Sent)})
        except (OSError, ValueError, KeyError, TypeError):
            return Sent(run.name, run.key)

    def _record(self, run: TrackedRun, sent: Sent) -> None:
        write_json(self._file(run), asdict(sent))
        self._recorded[run.name] = time.monotonic() + RECORD_EVERY_S


def shown(row: Row) -> dict[str, float]:
    """A row of a training log under the names that transformers' own callbacks give to trackers."""
    return {f"train/{name}": float(value) for name, value in row.items() if name != "step"}
