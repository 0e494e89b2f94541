"""What the driver of a comparison tells the processes that it starts, with a pool in place of processes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType

import pytest
from rich.console import Console

from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.report.kept_page import KeptPage
from harness.run import process
from harness.run.compare import CompareOptions, _compare, _Driver
from harness.run.job import Event, Job
from harness.run.plan import RunPlan
from harness.run.pool import Happening, Ticket
from harness.run.progress import Display
from harness.run.schedule import Schedule
from harness.run.target import ThisMachine
from harness.run.trackers.tracking import Tracking
from harness.store.settings import Settings, using


class Failing:
    """A pool with one worker, in which every job checks what it needs to and then fails."""

    count = sharing = 1

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.open: list[Ticket] = []

    @property
    def room(self) -> int:
        return 1 - len(self.open)

    def prepare(self) -> None:
        """Nothing waits for anything."""

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


class Interrupted(Failing):
    """Ctrl-C comes while the first job is at work."""

    def events(self) -> Iterator[Happening]:
        raise KeyboardInterrupt


def test_ctrl_c_ends_the_command_though_the_page_cannot_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it cut off the import of matplotlib, of which half is there then."""
    options = CompareOptions(load_recipe("tiny"), results=tmp_path / "results", store=tmp_path / "store")
    tried = []

    def draw(page: KeptPage) -> None:
        tried.append(page)
        raise AttributeError("module 'matplotlib' has no attribute 'get_data_path'")

    plans = options.runs()
    with Display(len(plans), Console(file=io.StringIO())) as shown:
        driver = _Driver(Schedule(plans, split=False), Interrupted(), shown, options.results, options.page, Tracking())
        monkeypatch.setattr(KeptPage, "write", draw)
        driver._page_open = True
        driver._next_page = math.inf
        with pytest.raises(KeyboardInterrupt):
            driver.drive()
    assert len(tried) == 1


def test_one_process_checks_for_all(tmp_path: Path) -> None:
    options = CompareOptions(load_recipe("tiny"), results=tmp_path / "results", store=tmp_path / "store")
    plans, pool = options.runs(), Failing()
    with Display(len(plans), Console(file=io.StringIO())) as shown:
        _Driver(Schedule(plans, split=False), pool, shown, options.results, options.page, Tracking()).drive()
    assert [job.method for job in pool.jobs] == [plan.name for plan in plans]
    assert [job.checked for job in pool.jobs] == [False, *[True] * (len(plans) - 1)]
    assert "it was made to" in (options.page.folder / "LEADERBOARD.md").read_text()


@pytest.mark.parametrize(("cluster", "offline"), [(None, True), ("slurm", False)])
def test_the_hub_that_a_command_could_not_reach_is_switched_off_in_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str | None, offline: bool
) -> None:
    """Their server may have begun before that came to light. Another host may reach it."""
    options = CompareOptions(
        load_recipe("tiny"), results=tmp_path / "results", store=tmp_path / "store", cluster=cluster
    )
    plans, pool = options.runs(), Failing()
    with using(Settings()):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as harness.store.hub leaves it
        _compare(options, plans, ThisMachine(plans), pool, Display(len(plans), Console(file=io.StringIO())), None)
    assert [job.settings["offline"] for job in pool.jobs] == [offline] * len(plans)


@pytest.mark.parametrize("offline", [True, False])
def test_a_run_process_switches_the_hub_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    switched: list[bool] = []
    for name in ("ignore_ctrl_c", "die_with_parent", "write_output_to", "claim"):
        monkeypatch.setattr(process, name, lambda *given: None)
    monkeypatch.setattr(process, "switch_off", lambda: switched.append(True))
    with using(Settings(offline=offline)):
        job = Job.of(CompareOptions(load_recipe("tiny"), store=tmp_path).runs()[0])
    receiver, sender = Pipe(duplex=False)
    process.run_job(replace(job, method="none of these"), sender, None, None)
    assert receiver.recv()[0] == "failed"
    assert switched == [True] * offline


class Finishing(Failing):
    """The same, with jobs that end well, though they leave nothing behind."""

    def events(self) -> Iterator[Happening]:
        while self.open:
            yield Happening(self.open.pop(), Event("done"))


def test_a_run_whose_scores_are_none_has_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a benchmark of others makes of its rows comes to light when the run is published."""

    def publish(plan: RunPlan, results: Path) -> None:
        raise UserError(f"The benchmark odd has no score for {plan.name}")

    monkeypatch.setattr("harness.run.compare.publish", publish)
    options = CompareOptions(load_recipe("tiny"), results=tmp_path / "results", store=tmp_path / "store")
    plans, pool, text = options.runs(), Finishing(), io.StringIO()
    schedule = Schedule(plans, split=False)
    with Display(len(plans), Console(file=text, width=200)) as shown:
        _Driver(schedule, pool, shown, options.results, options.page, Tracking()).drive()
    reasons = {plans[place].name: reason for place, reason in schedule.failed.items()}
    assert reasons == {plan.name: f"The benchmark odd has no score for {plan.name}" for plan in plans}
    assert [job.method for job in pool.jobs] == [plan.name for plan in plans], "the rest of none is begun"
    assert all(f"FAILED: {reason}" in text.getvalue() for reason in reasons.values())
    assert "The benchmark odd has no score" in (options.page.folder / "LEADERBOARD.md").read_text()
