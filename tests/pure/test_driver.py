"""What the driver of a comparison tells the processes that it starts, with a pool in place of processes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from rich.console import Console

from harness.recipe.load import load_recipe
from harness.run.compare import CompareOptions, _Driver
from harness.run.pool import Happening, Ticket
from harness.run.process import Event, Job
from harness.run.progress import Display
from harness.run.schedule import Schedule
from harness.run.trackers.tracking import Tracking


class Failing:
    """A pool with one worker, in which every job checks what it needs to and then fails."""

    count = sharing = 1

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.open: list[Ticket] = []

    @property
    def room(self) -> int:
        return 1 - len(self.open)

    def submit(self, job: Job, gpus: int = 1) -> Ticket:
        self.jobs.append(job)
        self.open.append(Ticket(job, len(self.jobs)))
        return self.open[-1]

    def events(self) -> Iterator[Happening]:
        while self.open:
            ticket = self.open[0]
            if not ticket.job.checked:
                yield Happening(ticket, Event("checked"))
            self.open.clear()
            yield Happening(ticket, Event("failed", "it was made to"))

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        pass


def test_one_process_checks_for_all(tmp_path: Path) -> None:
    options = CompareOptions(load_recipe("tiny"), results=tmp_path / "results", store=tmp_path / "store")
    plans, pool = options.runs(), Failing()
    with Display(len(plans), Console(file=io.StringIO())) as shown:
        _Driver(Schedule(plans, split=False), pool, shown, options.results, options.page, Tracking()).drive()
    assert [job.method for job in pool.jobs] == [plan.name for plan in plans]
    assert [job.checked for job in pool.jobs] == [False, *[True] * (len(plans) - 1)]
    assert "it was made to" in (options.page.folder / "LEADERBOARD.md").read_text()
