"""Jobs as files of a folder that several machines share: whatever starts ``sail-bench run-job`` there works on them."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.errors import UserError
from harness.run.job import Event, Job
from harness.run.job_file import load_event, write_job
from harness.run.pool import RETRIES, Happening, Pool, Ticket
from harness.run.worker import ALIVE, CLAIM, EVENTS, LEFT, OVER
from harness.store.claims import held
from harness.store.json_files import write_text
from harness.store.leases import leases_in

MOST_JOBS = 64
"""Jobs that lie in the folder at once, unless ``--workers`` says it."""

LOST_S = 120.0
"""A worker that says nothing for so long is lost."""

LOOK_S = 0.25
"""The driver looks for events so often."""

OURS = re.compile(r"\d{5}-.*-[0-9a-f]{8}\.(json|events|claim)")
"""Names of files that a driver and its workers write; others in the folder stay."""

LONELY_S = 60.0
"""After so long without a worker the driver says how to start one."""


@dataclass
class _Posted:
    """A job in the folder.

    Attributes:
        ticket: of the job; path: its file; lost: how many workers were lost at it.
        offset: bytes of its events that were read; heard: when the last ones came, None before the first.
    """

    ticket: Ticket
    path: Path
    lost: int = 0
    offset: int = 0
    heard: float | None = None


class FolderPool(Pool):
    """Writes jobs into a folder and follows the events that workers write beside them.

    Args:
        folder: on a file system that all machines share; it is made.
        count: jobs that lie in it at once; None for :data:`MOST_JOBS`.

    Raises:
        UserError: another driver uses the folder.
    """

    sharing = 1

    def __init__(self, folder: Path, count: int | None = None) -> None:
        self.count = count or MOST_JOBS
        self._folder, self._name = folder.resolve(), secrets.token_hex(4)
        self._running: dict[int, _Posted] = {}
        self._submitted, self._files = 0, 0
        self._lonely_at = time.monotonic() + LONELY_S
        self._lock = held(self._folder / "driver", alone=True)

    def __enter__(self) -> FolderPool:
        if not self._lock.__enter__():
            self._lock.__exit__(None, None, None)
            raise UserError(f"Another comparison uses {self._folder}: give --cluster jobs: a folder of its own")
        for path in self._folder.iterdir():  # of a driver that was killed; its workers end without their file
            if OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)
        return self

    @property
    def room(self) -> int:
        """How many more jobs may lie in the folder."""
        return self.count - len(self._running)

    def submit(self, job: Job) -> Ticket:
        """Write a job into the folder.

        Args:
            job: what is to be done.
        """
        ticket = Ticket(job, self._submitted)
        self._submitted += 1
        self._running[ticket.number] = self._post(ticket, 0)
        return ticket

    def _post(self, ticket: Ticket, lost: int) -> _Posted:
        """Write the file of a job, under a name that no worker has seen."""
        self._files += 1
        path = self._folder / f"{self._files:05d}-{Path(ticket.job.log).stem}-{self._name}.json"
        write_job(path, ticket.job)
        return _Posted(ticket, path, lost)

    def events(self) -> Iterator[Happening]:
        """Events as workers write them, until no job is left in the folder."""
        while self._running:
            for posted in list(self._running.values()):
                for event in self._news(posted):
                    happening = Happening(posted.ticket, event)
                    if happening.last:
                        self._remove(posted)
                        del self._running[posted.ticket.number]
                    yield happening
                    if happening.last:
                        break
            time.sleep(LOOK_S)

    def _news(self, posted: _Posted) -> list[Event]:
        """The events of a job since the last look; one whose worker is lost, or left, is posted again."""
        events = [event for event in self._read(posted) if event.kind != ALIVE]
        if any(event.kind == LEFT for event in events):
            return [*[e for e in events if e.kind != LEFT], self._again(posted, posted.lost, "ended")]
        now = time.monotonic()
        if posted.heard is None:
            if now < self._lonely_at or any(other.heard for other in self._running.values()):
                return []
            self._lonely_at = float("inf")
            return [Event("say", f"no worker has taken a job yet: start `sail-bench run-job {self._folder}`")]
        if now - posted.heard < LOST_S:
            return events
        if posted.lost == RETRIES:
            return [Event("failed", f"its worker was lost {RETRIES + 1} times")]
        return [self._again(posted, posted.lost + 1, "was lost")]

    def _again(self, posted: _Posted, lost: int, how: str) -> Event:
        """Post a job again, and say so.

        Args:
            posted: before.
            lost: how many workers were lost at it by now.
            how: its worker went.
        """
        owner = posted.path.with_suffix(CLAIM)
        host = owner.read_text(encoding="utf-8").partition(" ")[0] if owner.exists() else ""
        self._remove(posted)
        self._running[posted.ticket.number] = self._post(posted.ticket, lost)
        return Event("say", f"the worker on {host or 'a machine'} {how}: another goes on from the last checkpoint")

    def _read(self, posted: _Posted) -> list[Event]:
        """The events that were written since the last look."""
        try:
            with posted.path.with_suffix(EVENTS).open("rb") as file:
                file.seek(posted.offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            if posted.heard is None and posted.path.with_suffix(CLAIM).exists():
                posted.heard = time.monotonic()  # a worker can be lost before its first event
            return []
        if not newline:
            return []
        posted.offset += len(whole) + 1
        posted.heard = time.monotonic()
        return [load_event(*json.loads(line)) for line in whole.splitlines()]

    def _remove(self, posted: _Posted) -> None:
        """Take a job out of the folder; a worker that is still at it ends."""
        for kind in (".json", CLAIM, EVENTS):
            posted.path.with_suffix(kind).unlink(missing_ok=True)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for posted in self._running.values():
            self._remove(posted)
        write_text(self._folder / OVER, f"{self._name} {os.getpid()}\n")
        self._lock.__exit__(None, None, None)
        leases_in(self._folder).end()
