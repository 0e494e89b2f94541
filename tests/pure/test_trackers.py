"""Reporting to trackers: names, keys that do not change, what is sent once, failures, secrets."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from kit.command import Cli, tiny_recipe, write_tiny

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.recipe.trackers import tracker_names
from harness.run.job import Job
from harness.run.plan import make_runs
from harness.run.publish import run_key
from harness.run.trackers import kinds
from harness.run.trackers.keeper import Keeper
from harness.run.trackers.messages import Answer, Logged, LoggedRow, Over, Table, Tables, TrackedRun
from harness.run.trackers.process import redacted, serve
from harness.run.trackers.tracking import Tracking
from harness.store.stages import Store

RUN = TrackedRun("p", "p/b/dpo/seed-0", "key-1", "b/dpo", {"learning_rate": 1e-3})
ROWS = [{"loss": 1.0 / step, "epoch": step / 4, "step": step} for step in range(1, 7)]


class Recorded:
    """A tracker that keeps what it is given: by opening, the steps with their values, and how it was closed."""

    place = "memory"

    def __init__(self, fails_at: int = 10**9) -> None:
        self.opened: list[tuple[str, str, bool]] = []
        self.logged: list[list[tuple[int, dict[str, Any]]]] = []
        self.closed: list[bool] = []
        self.ended, self.fails_at = False, fails_at

    def open(self, run: TrackedRun, *, again: bool) -> Recorded:
        self.opened.append((run.name, run.key, again))
        self.logged.append([])
        return self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise ConnectionError(f"no network for token {'x' * 8}")
        self.logged[-1].append((step, dict(values)))

    def table(self, step: int, name: str, table: Table) -> None:
        self.logged[-1].append((step, {name: table}))

    def close(self, complete: bool) -> None:
        self.closed.append(complete)

    def end(self) -> None:
        self.ended = True

    @property
    def losses(self) -> list[tuple[int, float]]:
        """All losses, over all openings."""
        rows = [row for part in self.logged for row in part]
        return [(step, values["train/loss"]) for step, values in rows if "train/loss" in values]


def test_names_are_those_of_trl() -> None:
    assert tracker_names("trackio, wandb") == ["trackio", "wandb"]
    assert tracker_names(["tensorboard", "tensorboard"]) == ["tensorboard"]
    assert tracker_names("none") == tracker_names([]) == []
    with pytest.raises(ValueError, match=r"Unknown tracker 'wanb': did you mean 'wandb'\?"):
        tracker_names(["wanb"])
    with pytest.raises(ValueError, match="none stands beside other trackers"):
        tracker_names("none,wandb")
    with pytest.raises(ValueError, match="neither a name nor a list of names"):
        tracker_names([1])


def test_trackers_enter_no_key(tmp_path: Path) -> None:
    """Neither of the comparison, a stage or a result, nor what a run process is given."""
    plain = Recipe.model_validate(tiny_recipe())
    tracked = Recipe.model_validate(tiny_recipe(report_to=["wandb", "trackio"]))
    assert tracked.report_to == ["wandb", "trackio"] and plain.report_to == []
    assert plain.hash == tracked.hash
    sides = []
    for recipe in (plain, tracked):
        run = make_runs(recipe, recipe.budget, ["dpo"], 1, ["preference"], Store(tmp_path))[0]
        keys = [run.comparison.key, run.comparison.setting, run_key(run), *(node.key for node in run.nodes)]
        sides.append((keys, Job.of(run)))
    assert sides[0] == sides[1]


class Sent(list[Any]):
    """Stands for the process of a tracker: keeps its messages."""

    def send(self, message: Any) -> None:
        self.append(message)


def test_runs_are_named_by_recipe_budget_method_seed_and_trial(tmp_path: Path) -> None:
    """A trial of several is a run of its own; a search of one trial is the run itself. Keys are those of the stages."""
    for rates, trial in (([1e-3, 3e-3], "/trial-lr=0.003"), ([3e-3], "")):
        recipe = Recipe.model_validate(tiny_recipe(tune={"learning_rates": rates}))
        zero, one = make_runs(recipe, recipe.budget, ["dpo"], 2, ["preference"], Store(tmp_path))
        sent = Sent()
        reported = Tracking([sent])  # type: ignore[list-item]
        point = zero.trials[-1].point
        reported.logged(zero, LoggedRow(point.record(), 0, 1, {"loss": 0.7}))
        reported.logged(one, LoggedRow(point.record(), 1, 1, {"loss": 0.6}))
        reported.failed(one)
        names = [f"tiny/pairs-16/dpo/seed-0{trial}", "tiny/pairs-16/dpo/seed-1", "tiny/pairs-16/dpo/seed-1"]
        assert [message.run.name for message in sent] == names
        assert sent[0].run.key == zero.trials[-1].train.key != sent[1].run.key
        assert sent[0].run.config == {
            "recipe": "tiny", "budget": "pairs-16", "method": "dpo", "seed": 0, "trial": bool(trial),
            "learning_rate": 3e-3,
        }  # fmt: skip
        assert [sent[0].first, sent[0].rows, sent[2].complete] == [1, [{"loss": 0.7}], False]


def test_a_tracker_that_is_not_installed_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    recipe = write_tiny(tmp_path / "t.yaml", report_to="trackio")
    done = cli("compare", recipe, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: report_to: trackio is not installed here: python -m pip install trackio, or leave it out.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["t.yaml"]
    assert "wandb is not installed" in cli("compare", recipe, "--report-to", "wandb", cwd=tmp_path).stderr
    assert "--report-to: Unknown tracker 'tracio'" in cli("compare", recipe, "--report-to", "tracio").stderr


def test_the_folder_that_wandb_writes_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb_of_a_test").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match="wandb_of_a_test is not installed"):
        kinds.check_installed(["wandb_of_a_test"])


def test_nothing_is_imported_for_trackers_that_nobody_wants() -> None:
    code = (
        "import sys, harness.cli, harness.run.compare\n"
        "print([n for n in ('trackio', 'wandb', 'tensorboard', 'torch', 'transformers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_rows_are_sent_once_whatever_is_repeated(tmp_path: Path) -> None:
    """As they come; again after a resume from an earlier checkpoint, by another process; and all at the end."""
    first = Recorded()
    keeper = Keeper(first, tmp_path)
    keeper.take(Logged(RUN, 1, ROWS[:2]))
    keeper.take(Logged(RUN, 3, ROWS[2:4]))
    keeper.close()
    second = Recorded()
    keeper = Keeper(second, tmp_path)
    keeper.take(Logged(RUN, 3, ROWS[2:5]))
    keeper.take(Over(RUN, ROWS, {"eval/preference/win_rate": 0.5}))
    keeper.take(Over(RUN, ROWS, {"eval/preference/win_rate": 0.5}))
    assert first.losses == [(step, 1.0 / step) for step in range(1, 5)] and first.closed == [False] and first.ended
    assert second.losses == [(5, 1 / 5), (6, 1 / 6)] and second.closed == [True]
    assert first.logged[0][0][1] == {"train/loss": 1.0, "train/epoch": 0.25, "train/global_step": 1}
    assert second.logged[0][-1] == (7, {"eval/preference/win_rate": 0.5})
    assert (first.opened, second.opened) == ([(RUN.name, "key-1", False)], [(RUN.name, "key-1", True)])
    third = Recorded()
    keeper = Keeper(third, tmp_path)
    keeper.take(Over(RUN, ROWS, {"eval/preference/win_rate": 0.5}))
    assert third.opened == []
    keeper.take(Over(RUN, ROWS, {"eval/preference/win_rate": 0.5, "eval/mmlu/acc": 0.25}))
    assert third.logged == [[(8, {"eval/mmlu/acc": 0.25})]]


def test_another_training_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    tracker = Recorded()
    keeper = Keeper(tracker, tmp_path)
    keeper.take(Over(RUN, ROWS))
    other = TrackedRun("p", RUN.name, "key-2", "b/dpo")
    keeper.take(Logged(other, 1, ROWS[:1]))
    keeper.take(Over(other, complete=False))
    assert tracker.opened == [(RUN.name, "key-1", False), (RUN.name, "key-2", False)]
    assert tracker.losses[-1] == (1, 1.0) and tracker.closed == [True, False]


def test_rows_after_a_gap_wait_for_the_whole_log(tmp_path: Path) -> None:
    """A training that went on from a checkpoint which the tracker knows nothing of."""
    tracker = Recorded()
    keeper = Keeper(tracker, tmp_path)
    keeper.take(Logged(RUN, 4, ROWS[3:]))
    assert tracker.opened == []
    keeper.take(Over(RUN, ROWS))
    assert [step for step, _ in tracker.losses] == [1, 2, 3, 4, 5, 6]


def test_a_table_is_sent_when_it_changes(tmp_path: Path) -> None:
    tracker = Recorded()
    table = Table(["method", "win rate"], [["dpo", 0.5], ["sail-pr", None]])
    for keeper in (Keeper(tracker, tmp_path), Keeper(tracker, tmp_path)):
        keeper.take(Tables(RUN, {"leaderboard": table}))
    keeper.take(Tables(RUN, {"leaderboard": Table(table.columns, table.rows[:1])}))
    assert [rows[0][0] for rows in tracker.logged] == [1, 2]
    assert tracker.logged[0] == [(1, {"leaderboard": table})]


def answers(tracker: Recorded, records: Path, *messages: Any) -> list[Answer]:
    """What a tracker's process answers to messages, with the process's body in a thread."""
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=serve, args=(lambda: tracker, records, theirs))
    thread.start()
    for message in (*messages, None):
        ours.send(message)
    thread.join(10)
    assert not thread.is_alive()
    return list(drained(ours))


def drained(connection: Connection) -> list[Answer]:
    values = []
    while connection.poll(0):
        values.append(Answer(*connection.recv()))
    return values


def test_a_failure_is_one_answer_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 8)
    good = answers(Recorded(), tmp_path / "good", Over(RUN, ROWS))
    assert good == [Answer("ready"), Answer("done")]
    bad = answers(Recorded(fails_at=2), tmp_path / "bad", Logged(RUN, 1, ROWS), Over(RUN, ROWS))
    assert bad == [Answer("ready"), Answer("failed", "ConnectionError: no network for token ***")]
    assert "x" * 8 not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_secrets_are_left_out() -> None:
    environment = {"TRACKIO_WRITE_TOKEN": "abcdef123", "HOME": "/home/me", "HF_TOKEN": "ab"}
    text = "cannot reach https://me:pass@host/?write_token=zyx987&a=1\nwith abcdef123 from /home/me ab"
    assert redacted(text, environment) == "cannot reach https://***host/?***&*** with *** from /home/me ab"
