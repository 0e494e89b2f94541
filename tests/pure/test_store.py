"""Stages appear whole or not at all; finished ones are never built twice; rows are cached by key."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.command import Finished, run_here

from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.run.plan import make_run, train_node
from harness.run.publish import publish_failure
from harness.run.run import Run
from harness.store.json_files import digest, read_rows, write_rows
from harness.store.row_cache import RowCache
from harness.store.stages import Stage, Store
from harness.store.tensor_cache import HIDDEN_STATES, TensorCache


def test_a_finished_stage_is_not_built_again(tmp_path: Path) -> None:
    store, stage, built = Store(tmp_path), Stage("kind", {"a": 1}), []

    def build(work: Path) -> dict[str, object]:
        built.append(1)
        (work / "x").write_text("data")
        return {"ledger": {"phases": {}}}

    first = store.get(stage, build)
    assert store.get(stage, build) == first
    assert built == [1]
    assert (first / "x").read_text() == "data"
    assert store.manifest(stage)["ledger"] == {"phases": {}}


def test_a_failed_stage_never_appears_and_keeps_its_work(tmp_path: Path) -> None:
    store, stage = Store(tmp_path), Stage("kind", {"a": 1})

    def fail(work: Path) -> None:
        (work / "checkpoint").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.get(stage, fail)
    assert not store.done(stage)
    seen = []

    def go_on(work: Path) -> None:
        seen.append((work / "checkpoint").read_text())

    store.get(stage, go_on)
    assert seen == ["half"]
    assert store.done(stage)


def test_keys_depend_on_every_input() -> None:
    keys = {Stage("k", {"a": a, "b": [b]}).key for a in (1, 2) for b in ("x", "y")}
    assert len(keys) == 4
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def _build_in_process(root: str, log: str) -> None:
    def build(work: Path) -> None:
        with Path(log).open("a") as handle:
            handle.write("built\n")

    Store(Path(root)).get(Stage("kind", {}), build)


def test_two_processes_build_once(tmp_path: Path) -> None:
    context = get_context("spawn")
    log = tmp_path / "log"
    workers = [context.Process(target=_build_in_process, args=(str(tmp_path / "s"), str(log))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_rows_survive_line_separators(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\u0085c\r\nd"}, {"text": "é"}]
    write_rows(tmp_path / "r.jsonl", rows)
    assert read_rows(tmp_path / "r.jsonl") == rows


def test_cache_returns_what_was_put_first(tmp_path: Path) -> None:
    cache = RowCache(tmp_path / "rows.sqlite")
    cache.put([("a", [1, 2.5, True]), ("b", {"x": "\u2028"})])
    cache.put([("a", "other")])
    assert cache.get(["a", "b", "c"]) == {"a": [1, 2.5, True], "b": {"x": "\u2028"}}
    keys = [str(i) for i in range(1200)]
    cache.put([(k, int(k)) for k in keys])
    assert cache.get(keys) == {k: int(k) for k in keys}
    cache.close()
    assert RowCache(tmp_path / "rows.sqlite").get(["b"]) == {"b": {"x": "\u2028"}}


def gc(store: Store, *arguments: str) -> Finished:
    return run_here("store", "gc", "--store", store.root, *arguments)


def test_what_no_recipe_needs_goes_only_while_nothing_is_at_work(tmp_path: Path) -> None:
    """Another command's work folder, and stages that it has read, are not needed by the recipe that is kept."""
    store, stage, other = Store(tmp_path), Stage("train", {"a": 1}), Stage("train", {"a": 2})

    def build(work: Path) -> None:
        (work / "checkpoints").mkdir()
        (work / "checkpoints" / "optimizer.pt").write_text("state")

    def building(work: Path) -> None:
        build(work)
        assert store.under_way() == [other.key]
        done = gc(store, "--keep", "tiny", "--yes")
        assert done.returncode == 2 and f"at work in the store {tmp_path} ({other.key})" in done.stderr
        done = gc(store, "--yes")  # checkpoints of finished trainings alone
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 1

    kept = store.get(stage, build)
    store.get(other, building)
    assert (store.path(other) / "checkpoints" / "optimizer.pt").is_file() and not (kept / "checkpoints").exists()
    assert store.under_way() == []
    assert gc(store, "--keep", "tiny").stdout.splitlines()[-1] == "Nothing is removed yet: add --yes."
    assert gc(store, "--keep", "tiny", "--yes").returncode == 0
    assert not list((tmp_path / "stages").iterdir())
    assert gc(store, "--keep", "tiny", "--yes").stdout == "Nothing to remove.\n"


def test_hidden_states_are_listed_and_can_go(tmp_path: Path) -> None:
    store, states = Store(tmp_path), tmp_path / HIDDEN_STATES
    TensorCache(states).put("a", {"0": torch.zeros(500)})
    (line, hint) = run_here("store", "ls", "--store", tmp_path).stdout.splitlines()
    assert line.split() == ["hidden", "states", "1", "2.1", "kB"] and hint.startswith("2.1 kB of it are")
    assert gc(store).stdout.startswith("would remove hidden-states (2.1 kB)") and states.is_dir()
    assert gc(store, "--yes").returncode == 0 and not states.exists()


def test_a_tensor_cache_gives_what_it_was_given_or_nothing(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path / "c", limit=1000)
    assert cache.get("a") is None
    given = {"x": torch.arange(6.0).view(2, 3).T, "half": torch.ones(2, dtype=torch.bfloat16)}
    cache.put("a", given)
    cache.put("b", {"y": torch.zeros(250)})
    read = cache.get("a")
    assert read is not None and all(torch.equal(read[name], tensor) for name, tensor in given.items())
    assert {name: tensor.dtype for name, tensor in read.items()} == {"x": torch.float32, "half": torch.bfloat16}
    assert cache.get("b") is None and len(list(cache.folder.iterdir())) == 1, "it would pass the limit"
    (tmp_path / "file").touch()
    TensorCache(tmp_path / "file").put("a", given)  # no folder can be made there
    assert TensorCache(tmp_path / "file").get("a") is None


def _use(root: str, ready: str) -> None:
    with Store(Path(root)).in_use():
        Path(ready).touch()
        time.sleep(60)


def test_stages_stay_while_a_command_uses_the_store_until_it_ends_however(tmp_path: Path) -> None:
    """Between two stages of its run a command holds no stage's lock."""
    store, stage = Store(tmp_path / "s"), Stage("train", {"a": 1})
    store.get(stage, lambda work: None)
    user = get_context("spawn").Process(target=_use, args=(str(store.root), str(tmp_path / "ready")))
    user.start()
    while not (tmp_path / "ready").exists():
        assert user.is_alive()
        time.sleep(0.01)
    with store.in_use() as held:
        assert held, "several commands at once"
        assert store.under_way() == []
        done = gc(store, "--keep", "tiny", "--yes")
        assert done.returncode == 2 and f"A command is at work in the store {store.root}, and may" in done.stderr
        assert gc(store, "--keep", "tiny").returncode == 0, "it says what would go"
    assert user.pid is not None and store.done(stage)
    with store.cleared() as alone:
        assert not alone, "the other one still has it"
    os.kill(user.pid, signal.SIGKILL)
    user.join()
    assert gc(store, "--keep", "tiny", "--yes").returncode == 0
    assert not store.done(stage)


def trained(store: Store, budget: str, method: str, seed: int) -> Stage:
    """A trial of a method of `tiny` under a budget, as if it were done; for a later seed the training by itself."""
    plan = make_run(load_recipe("tiny"), budget, method, seed, [], store)
    stage = train_node(plan, plan.trials[0].point, seed).stage
    store.get(stage, lambda work: None)
    return stage


def test_stages_of_other_budgets_stay_where_a_flag_or_a_result_names_them(tmp_path: Path) -> None:
    store, results = Store(tmp_path / "store"), tmp_path / "results"
    own = trained(store, "pairs-16", "dpo", 0)
    small, other = trained(store, "small", "dpo", 0), trained(store, "small", "simpo", 0)

    def left(*arguments: object) -> set[str]:
        where = () if "--results" in arguments else ("--results", results)
        done = gc(store, "--keep", "tiny", *map(str, (*where, *arguments)))
        assert done.returncode == 0, done.stderr
        return {s.key for s in (own, small, other) if f"stages/{s.key} " not in done.stdout}

    assert left() == {own.key}
    assert left("--budget", "small") == {own.key, small.key}
    assert left("--budget", "small", "--methods", "simpo") == {own.key, small.key, other.key}
    plan = make_run(load_recipe("tiny"), "small", "simpo", 0, [], store)
    publish_failure(plan, results, "broken")
    assert left() == {own.key, other.key}
    assert left("--results", tmp_path / "elsewhere") == {own.key}
    done = gc(store, "--budget", "small")
    assert done.returncode == 2 and "--budget says what --keep keeps of a recipe: add --keep RECIPE" in done.stderr
    done = gc(store, "--keep", "tiny", "--budget", "smal")
    assert done.returncode == 2 and "Unknown budget 'smal': did you mean 'small'?" in done.stderr


def test_checkpoints_of_a_diverged_trial_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a run that diverges with another seed stay: the next command goes on from them."""

    def diverge(resources: Any, plan: Any, point: Any, seed: int, pairs: Path, prompts: Any, work: Path) -> None:
        for folder in ("checkpoints", "round-1/checkpoints"):
            (work / folder / "checkpoint-1").mkdir(parents=True)
        raise FloatingPointError("the loss is nan at step 2")

    monkeypatch.setattr("harness.run.run.train_policy", diverge)
    monkeypatch.setattr(Run, "pairs", lambda self: tmp_path)
    monkeypatch.setattr(Run, "prompts", {"tune": []})
    store = Store(tmp_path)
    plan = make_run(load_recipe("tiny"), "pairs-16", "dpo", 0, [], store)
    trial = plan.trials[0]
    run = Run(plan, lambda kind, value: None)
    run.resources.open_ledger(None)
    run.tune(trial)
    assert "the loss is nan" in (store.path(trial.tune.stage) / "scores.json").read_text()
    assert not list(tmp_path.rglob("checkpoints"))
    with pytest.raises(FloatingPointError):
        run.train(plan.trials[1].train)
    assert len(list(tmp_path.rglob("checkpoints"))) == 2


@pytest.mark.parametrize(
    ("place", "command"),
    [("compare._compare", ["compare", "tiny"]), ("train_reward._train", ["train-reward", "tiny", "--out", "out"])],
)
def test_commands_use_their_store(
    place: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*given: Any) -> None:
        with Store(tmp_path / ".sail-bench").cleared() as alone:
            raise UserError(f"alone: {alone}")

    monkeypatch.setattr(f"harness.run.{place}", work)
    done = run_here(*command, cwd=tmp_path)
    assert done.returncode == 2 and "alone: False" in done.stderr
