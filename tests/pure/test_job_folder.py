"""A folder of jobs as its driver sees it: events of workers, workers that are lost or leave, and who may use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.run import job_folder
from harness.run.job import Event, Job
from harness.run.job_file import read_job
from harness.run.job_folder import FolderPool
from harness.run.plan import make_runs
from harness.run.pool import RETRIES
from harness.run.ray_pool import _look
from harness.store.stages import Store


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    recipe, store = load_recipe("tiny"), Store(tmp_path_factory.mktemp("store"))
    return Job.of(make_runs(recipe, recipe.budget, ["start"], 1, ["mmlu"], store)[0])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_folder, "LOOK_S", 0.001)


def only(folder: Path) -> Path:
    """The one job in the folder."""
    (path,) = folder.glob("*.json")
    return path


def write(path: Path, *lines: list[Any], end: str = "") -> None:
    """Events as a worker writes them, and perhaps the beginning of one more."""
    path.with_suffix(".claim").write_text("node7 123\n")
    with path.with_suffix(".events").open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines) + end)


def test_events_come_whole_and_in_order(job: Job, tmp_path: Path) -> None:
    with FolderPool(tmp_path, 3) as pool:
        ticket = pool.submit(job)
        assert pool.room == 2
        path, events = only(tmp_path), pool.events()
        assert read_job(path) == job
        write(path, ["alive", None], ["stage", ["train", 4]], ["at", 1], end='["at"')
        assert next(events).event == Event("stage", ["train", 4])
        assert next(events).event == Event("at", 1)
        write(path, end=", 2]\n")
        assert next(events).event == Event("at", 2)
        write(path, ["done", None], ["at", 9])
        last = next(events)
        assert (last.ticket, last.event, last.last) == (ticket, Event("done"), True)
        assert list(events) == []
        assert pool.room == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["over"]


def test_a_job_of_a_lost_worker_is_posted_again_a_few_times(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_folder, "LOST_S", 0.02)
    with FolderPool(tmp_path) as pool:
        pool.submit(job)
        events, names = pool.events(), set()
        for _ in range(RETRIES):
            path = only(tmp_path)
            names.add(path.name)
            write(path, ["alive", None])
            assert next(events).event == Event(
                "say", "the worker on node7 was lost: another goes on from the last checkpoint"
            )
            assert not path.exists(), "a worker that is alive after all sees that its job was given up"
        assert len(names) == RETRIES
        write(only(tmp_path), ["alive", None])
        assert next(events).event == Event("failed", "its worker was lost 4 times")


def test_a_worker_that_its_scheduler_ended_is_no_lost_one(job: Job, tmp_path: Path) -> None:
    with FolderPool(tmp_path) as pool:
        pool.submit(job)
        events = pool.events()
        for _ in range(RETRIES + 2):
            write(only(tmp_path), ["at", 1], ["left", None])
            assert next(events).event == Event("at", 1)
            assert "ended: another goes on" in next(events).event.value
        write(only(tmp_path), ["done", None])
        assert next(events).last


def test_without_a_worker_it_says_how_to_start_one(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_folder, "LONELY_S", 0.0)
    with FolderPool(tmp_path) as pool:
        pool.submit(job)
        assert f"sail-bench run-job {tmp_path}" in next(pool.events()).event.value


def test_a_folder_has_one_driver_and_forgets_one_that_was_killed(job: Job, tmp_path: Path) -> None:
    for name in ("00001-tiny-0123abcd.json", "00001-tiny-0123abcd.claim", "of-the-user.json"):
        (tmp_path / name).write_text("{}")
    with FolderPool(tmp_path):
        assert [path.name for path in tmp_path.glob("*.*[mn]")] == ["of-the-user.json"]
        with pytest.raises(UserError, match="Another comparison uses"), FolderPool(tmp_path):
            pass


def test_a_node_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a Ray node is asked before it gets a job: names of keys, and a file that it must see."""
    monkeypatch.setenv("HERE", "a secret")
    monkeypatch.delenv("AWAY", raising=False)
    answer = _look(["HERE", "AWAY"], str(tmp_path / "probe"))
    assert (answer["absent"], answer["store"]) == (["AWAY"], False)
    assert "a secret" not in str(answer)
