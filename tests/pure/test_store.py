"""Stages appear whole or not at all; finished ones are never built twice; rows are cached by key."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import pytest
from kit.command import Finished, run_here

from harness.store.json_files import digest, read_rows, write_rows
from harness.store.row_cache import RowCache
from harness.store.stages import Stage, Store


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
