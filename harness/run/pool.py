"""Where jobs are worked on: the interface of all pools, and the processes of this machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from harness.recipe.recipe import Recipe
from harness.run.child import processes
from harness.run.devices import Workers
from harness.run.job import SHARED, Event, Job
from harness.run.out_of_memory import settings_to_lower
from harness.run.process import run_job

PATIENCE_S = 30.0
"""For a process to end that has said its last word."""

RETRIES = 3
"""A job whose machine is lost begins again so often; finished stages and checkpoints are not lost with it."""


@dataclass(frozen=True)
class Ticket:
    """A job that was submitted, and its number."""

    job: Job
    number: int


@dataclass(frozen=True)
class Happening:
    """An event of a job. The last one of each is ``done``, ``failed`` or ``user error``."""

    ticket: Ticket
    event: Event

    @property
    def last(self) -> bool:
        """Whether the job is over."""
        return self.event.kind in ("done", "failed", "user error")


class Pool(AbstractContextManager["Pool"], Protocol):
    """Takes jobs as long as it has room, and gives their events.

    Attributes:
        count: jobs that it works on at once, at most.
        sharing: how many of them share a machine, as far as that is for this command to say.
    """

    count: int
    sharing: int

    @property
    def room(self) -> int:
        """How many more jobs could begin now."""

    def prepare(self) -> None:
        """Begin what the first job would wait for, and do not wait. Nothing, where jobs begin elsewhere."""
        return

    def submit(self, job: Job) -> Ticket:
        """Begin a job. It is ended, and has failed, after the minutes that it may take.

        Args:
            job: what is to be done.
        """

    def events(self) -> Iterator[Happening]:
        """Events as they come, until no job is under way. Jobs may be submitted in between."""


@dataclass
class _Process:
    """A process under way."""

    ticket: Ticket
    process: Any
    receiver: Any
    device: str | None
    deadline: float | None


class LocalPool(Pool):
    """Processes of this machine, each with a device of its own.

    Args:
        workers: devices and threads.
    """

    def __init__(self, workers: Workers) -> None:
        self._free, self._threads, self.count = list(workers.devices), workers.threads, workers.count
        self.sharing = self.count
        self._running: dict[int, _Process] = {}
        self._submitted = 0

    def __enter__(self) -> LocalPool:
        return self

    @property
    def room(self) -> int:
        """How many more jobs could begin now."""
        return len(self._free)

    def prepare(self) -> None:
        """Start the server of processes, which takes seconds to import its libraries."""
        processes()

    def submit(self, job: Job) -> Ticket:
        """Begin a job in a process of its own.

        Args:
            job: what is to be done.
        """
        context = processes()
        device = self._free.pop(0)
        receiver, sender = context.Pipe(duplex=False)
        threads = None if job.part == SHARED else self._threads  # what all runs share is worked on alone
        arguments = (job, sender, device, threads)
        process = context.Process(target=run_job, args=arguments, name=Path(job.log).stem)
        process.start()
        sender.close()
        ticket, minutes = Ticket(job, self._submitted), job.minutes
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._running[ticket.number] = _Process(ticket, process, receiver, device, deadline)
        self._submitted += 1
        return ticket

    def stop(self, ticket: Ticket) -> None:
        """End a job, if it is under way; it has failed."""
        if running := self._running.get(ticket.number):
            running.process.kill()

    def events(self) -> Iterator[Happening]:
        """Events as they come, until no process is under way. Jobs may be submitted in between."""
        while self._running:
            by_receiver = {running.receiver: running for running in self._running.values()}
            ready: list[Any] = wait(list(by_receiver), self._patience())
            for receiver in ready:
                running = by_receiver[receiver]
                happening = Happening(running.ticket, self._next(running))
                if happening.last:
                    self._end(running)
                yield happening
            for running in [r for r in self._running.values() if r.deadline and time.monotonic() > r.deadline]:
                running.process.kill()
                self._end(running)
                reason = f"it worked longer than the recipe's time_limit of {running.ticket.job.minutes:g} minutes"
                yield Happening(running.ticket, Event("failed", reason))

    def _patience(self) -> float | None:
        """Seconds until the next deadline, if there is one."""
        deadlines = [r.deadline for r in self._running.values() if r.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _next(self, running: _Process) -> Event:
        """The next event of a process; one that vanished has failed."""
        try:
            return Event(*running.receiver.recv())
        except (EOFError, OSError):  # it may have ended within an event
            running.process.join()
            code = running.process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            reason = f"the process ended without a result ({how}"
            if how != "SIGKILL":
                return Event("failed", f"{reason})")
            cure = settings_to_lower(Recipe.model_validate(running.ticket.job.recipe), self.count)
            return Event("failed", f"{reason}; out of memory? {cure})")

    def _end(self, running: _Process) -> None:
        """Take a process that is over off the books; its device is free again."""
        running.process.join(PATIENCE_S)
        if running.process.is_alive():  # a library's thread, or its clean-up, hangs
            running.process.kill()
            running.process.join()
        running.receiver.close()
        self._free.append(running.device)
        del self._running[running.ticket.number]

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for running in self._running.values():
            running.process.kill()
        for running in list(self._running.values()):
            self._end(running)
