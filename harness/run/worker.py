"""A worker of another machine: works through a job in a process of its own and hands its events on."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.run.devices import Workers, device_groups, threads_chosen, usable_cores, visible_devices
from harness.run.job import Event, Job
from harness.run.job_file import read_job
from harness.run.pool import LocalPool
from harness.store.json_files import write_text

BEAT_S = 5.0
"""A worker says so often that it is alive."""

FLUSH_S = 0.5
"""Events are written together, so often."""

GRACE_S = 2.0
"""A scheduler ends all processes of a worker together: one whose job got SIGTERM waits so long for its own."""

LOOK_S = 1.0
"""A worker without a job looks for one so often."""

EVENTS, CLAIM, OVER = ".events", ".claim", "over"
"""Beside FILE.json in a folder of jobs: FILE.events, a JSON array a line; FILE.claim, who works on it. ``over`` holds
the name of the driver that ended last."""

ALIVE, LEFT = "alive", "left"
"""Kinds of events that say nothing else: a worker is there, or a scheduler ended it and the job is open again."""


def one_worker(processes: int = 1) -> Workers:
    """The first GPUs that this process may use, one for each process of a run's training, or its CPU.

    Raises:
        UserError: there are some, and too few.
    """
    devices = device_groups(visible_devices(), processes)
    return Workers((devices[0] if devices else None,), None if threads_chosen() else usable_cores())


def stream(job: Job, watch: Callable[[], bool] | None = None) -> Iterator[Event]:
    """Work through a job in a process of its own, so that nothing of it stays in this one; gives its events.

    Args:
        job: what is to be done.
        watch: asked every :data:`BEAT_S` seconds; the job is ended once it says no.
    """
    with LocalPool(one_worker(job.processes)) as pool:
        ticket, over = pool.submit(job), threading.Event()

        def keep_watch() -> None:
            while watch and not over.wait(BEAT_S):
                if not watch():
                    pool.stop(ticket)
                    return

        threading.Thread(target=keep_watch, daemon=True).start()
        try:
            yield from (happening.event for happening in pool.events())
        finally:
            over.set()


class EventFile:
    """Appends the events of a job to a file that the driver follows.

    The file is opened for each writing: other hosts see what a closed file holds.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lines = path, list[str]()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> EventFile:
        self.send(Event(ALIVE))
        self.flush()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.flush()

    def send(self, event: Event) -> None:
        """Add an event."""
        with self._lock:
            self._lines.append(json.dumps([event.kind, event.value]) + "\n")

    def flush(self) -> None:
        """Write what was added."""
        with self._lock:
            if self._lines:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write("".join(self._lines))
                self._lines.clear()

    def _keep(self) -> None:
        while not self._over.wait(FLUSH_S):
            if time.monotonic() - self._beat > BEAT_S:
                self._beat = time.monotonic()
                self.send(Event(ALIVE))
            self.flush()


def work_file(path: Path, show: Callable[[Event], None]) -> Event:
    """Work through the job in a file; its events go to a file beside it too.

    Args:
        path: of the job. When it is removed meanwhile, its driver has given the job up, and the work ends.
        show: gets each event.

    Returns:
        the last event.

    Raises:
        UserError: it is no job, or was written by other versions.
    """
    job = read_job(path)
    write_text(path.with_suffix(CLAIM), f"{socket.gethostname()} {os.getpid()}\n")
    last = Event("failed", "it gave no event")
    with EventFile(path.with_suffix(EVENTS)) as events:
        try:
            for last in stream(job, path.exists):
                if last.kind == "failed" and "(SIGTERM" in last.value:
                    time.sleep(GRACE_S)
                events.send(last)
                show(last)
        except KeyboardInterrupt:  # and SIGTERM
            events.send(Event(LEFT))
            raise
    return last


def work_folder(folder: Path, idle_minutes: float, say: Callable[[str], None]) -> int:
    """Take jobs from a folder, one after the other, until its driver has ended or none came for a while.

    Args:
        folder: that ``compare --cluster jobs:FOLDER`` writes to.
        idle_minutes: how long to wait for a job.
        say: gets a line for each job.

    Returns:
        how many jobs were worked through.

    Raises:
        UserError: a job was written by other versions.
    """
    count, ended_before, since = 0, _ended(folder), time.monotonic()
    while time.monotonic() - since < 60 * idle_minutes and _ended(folder) in (None, ended_before):
        for path in sorted(folder.glob("*.json")):
            if not path.with_suffix(CLAIM).exists() and (event := _take(path)):
                say(f"{path.stem}: {event.kind}" + (f": {event.value}" if event.value else ""))
                count, since = count + 1, time.monotonic()
                break
        else:
            time.sleep(LOOK_S)
    return count


def _take(path: Path) -> Event | None:
    """Work through a job unless another worker has it; the last event."""
    if not path.exists():
        return None
    read_job(path)  # before it is claimed: another worker may have the versions that it wants
    try:
        with path.with_suffix(CLAIM).open("x", encoding="utf-8"):
            pass
    except FileExistsError:
        return None
    return work_file(path, lambda event: None)


def _ended(folder: Path) -> str | None:
    """The driver that ended last, if one did."""
    path = folder / OVER
    return path.read_text(encoding="utf-8") if path.exists() else None
