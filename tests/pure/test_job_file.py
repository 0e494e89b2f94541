"""Jobs as JSON files: whole and short ones, what driver and worker must share, and which files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.run.job import Event, Job
from harness.run.job_file import code_versions, difference, dump_job, load_event, load_job, read_job, write_job
from harness.run.plan import make_runs
from harness.run.trackers.messages import LoggedRow
from harness.store.stages import Store

KEY = "OPENAI_API_KEY"


def a_job(store: Path) -> Job:
    recipe = load_recipe("tiny")
    plans = make_runs(recipe, recipe.budget, list(recipe.methods), 2, list(recipe.benchmarks), Store(store))
    return Job.of(next(plan for plan in plans if (plan.name, plan.seed) == ("dpo", 1)), "first", checked=True)


def test_a_job_is_the_same_after_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-of-nobody")
    job, path = a_job(tmp_path / "store"), tmp_path / "job.json"
    write_job(path, job)
    with pytest.raises(UserError, match="store is not there: put --store on a disk that all machines share"):
        read_job(path)
    (tmp_path / "store").mkdir(exist_ok=True)
    assert read_job(path) == job
    assert "sk-of-nobody" not in path.read_text()


def test_a_short_job_is_the_one_of_the_comparison(tmp_path: Path) -> None:
    short = {"recipe": "tiny", "method": "dpo", "seed": 1, "part": "first", "store": str(tmp_path / "store")}
    job = load_job(short, "job.json")
    expected = a_job(tmp_path / "store")
    assert job.nodes == expected.nodes
    assert (job.store, job.log, job.seed, job.part) == (expected.store, expected.log, 1, "first")
    assert not job.checked


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "is no job"),
        ({"method": "dpo"}, "lacks recipe"),
        ({"recipe": "tiny", "method": "dpo", "sed": 1}, "does not know sed"),
        ({"recipe": "tiny", "method": "dpo", "seed": True}, "seed must be a whole number"),
        ({"recipe": "tiny", "method": "dpo", "part": "trial-x"}, "part must be"),
        ({"recipe": "tiny", "method": "dpo", "part": "trial-99"}, "lower the number in trial-99"),
        ({"recipe": "tiny", "method": "start", "seed": 1}, "set seed to 0"),
        ({"recipe": "tiny", "method": "dop"}, "did you mean 'dpo'"),
        ({"versions": code_versions(), "job": {}}, "no job of this version"),
        ({"job": {}}, "the driver has sail-bench absent"),
    ],
)
def test_what_is_no_job_is_refused_in_a_sentence(value: Any, words: str, tmp_path: Path) -> None:
    if isinstance(value, dict) and "recipe" in value:
        value = value | {"store": str(tmp_path)}
    with pytest.raises(UserError, match=words):
        load_job(value, "job.json")


def test_another_version_of_the_driver_is_refused(tmp_path: Path) -> None:
    value = json.loads(json.dumps(dump_job(a_job(tmp_path))))
    value["versions"]["trl"] = "0.1"
    with pytest.raises(UserError, match=r"the driver has trl 0\.1, and the worker has trl \d.*install the same"):
        load_job(value, "job.json")
    assert difference(code_versions(), code_versions()) is None
    assert "+" not in "".join(code_versions().values()), "a build for another device is the same version"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_job(tmp_path / "absent.json")
    (tmp_path / "cut.json").write_text('{"recipe": ')
    with pytest.raises(UserError, match="is no JSON"):
        read_job(tmp_path / "cut.json")


def test_events_come_back_as_they_were() -> None:
    row = LoggedRow({"learning_rate": 1e-3}, 0, 1, {"loss": 0.5})
    for event in (Event("logged", row), Event("at", 3), Event("done")):
        again = load_event(*json.loads(json.dumps([event.kind, event.value])))
        assert again == event
        assert type(again.value) is type(event.value)
