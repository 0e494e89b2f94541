"""A stage is what was written, or is made again with a sentence; one of an earlier version gets its hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from kit.command import run_here
from kit.damage import DAMAGES, damage, notices

from harness.run.nodes import EvaluationNodes, Node, set_aside_short
from harness.store import integrity
from harness.store.json_files import write_rows
from harness.store.row_cache import RowCache
from harness.store.sealed import copy_of, read_sealed, write_sealed
from harness.store.stages import LEDGER as UNDER_WAY
from harness.store.stages import Stage, Store
from harness.store.storage import QUARANTINE

STAGE = Stage("answers", {"a": 1})
ROWS = [{"id": i, "text": f"answer {i}"} for i in range(6)]
LEDGER = {"phases": {"eval": {"tokens": 9}}, "peak_memory_bytes": 1}


def build(work: Path) -> dict[str, Any]:
    write_rows(work / "rows.jsonl", list(ROWS))
    (work / "policy").mkdir()
    (work / "policy" / "model.safetensors").write_bytes(bytes(range(256)))
    (work / "checkpoints").mkdir()
    (work / "checkpoints" / "optimizer.pt").write_text("state")
    return {"ledger": LEDGER}


def again(work: Path) -> dict[str, Any]:
    """The same content, with what it costs to take it from a cache."""
    return build(work) | {"ledger": {"phases": {}, "peak_memory_bytes": 2}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.get(STAGE, build)
    return made


def test_weights_that_come_out_otherwise_are_named(store: Store) -> None:
    def otherwise(work: Path) -> dict[str, Any]:
        made = build(work)
        (work / "policy" / "model.safetensors").write_bytes(bytes(256))
        return made

    damage(store.path(STAGE) / "rows.jsonl", "halved")
    with notices() as heard:
        store.get(STAGE, otherwise)
    assert len(heard) == 2 and "policy/model.safetensors differs from the first time" in heard[1]


def test_a_manifest_names_every_file_but_scratch(store: Store) -> None:
    folder = store.path(STAGE)
    manifest = json.loads((folder / "manifest.json").read_text())
    paths = [folder / "policy" / "model.safetensors", folder / "rows.jsonl"]
    assert manifest["files"] == {
        path.relative_to(folder).as_posix(): [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in paths
    }
    assert store.manifest(STAGE) == {"kind": "answers", "inputs": {"a": 1}, "ledger": LEDGER}, "keys see no hashes"
    assert store.verified(STAGE)
    shutil.rmtree(folder / "checkpoints")
    assert store.done(STAGE)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["rows.jsonl", "policy/model.safetensors", "policy"])
def test_a_damaged_stage_is_moved_aside_and_made_again_at_its_first_cost(store: Store, name: str, how: str) -> None:
    damage(store.path(STAGE) / name, how)
    with notices() as heard:
        assert not store.done(STAGE)
        assert not store.done(STAGE)
    assert len(heard) == 1 and name.split("/")[0] in heard[0]
    assert f"It is now in {store.root / QUARANTINE / STAGE.key}, and 'sail-bench compare' makes it again" in heard[0]
    with notices() as later:
        folder = store.get(STAGE, again)
    assert not later and store.manifest(STAGE)["ledger"] == LEDGER
    assert [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()] == ROWS
    assert not list(folder.rglob("*earlier*"))
    damage(folder / "rows.jsonl", how)
    store.get(STAGE, again)
    assert len(list((store.root / QUARANTINE).iterdir())) == 2, "none is overwritten"


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_manifest_comes_back_from_its_copy(store: Store, how: str) -> None:
    path = store.path(STAGE) / "manifest.json"
    before = path.read_bytes()
    damage(path, how)
    with notices() as heard:
        assert store.done(STAGE) and store.manifest(STAGE)["ledger"] == LEDGER
    assert heard == [f"{path} was damaged: it is made again from its copy"] and path.read_bytes() == before
    damage(path, how)
    copy_of(path).unlink()
    with notices() as heard:
        assert store.get(STAGE, again).is_dir()
    assert "manifest.json is missing or damaged" in heard[0] if how != "flipped" else heard
    assert store.manifest(STAGE)["ledger"] != LEDGER, "what it cost the first time is not known"


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_no_flipped_bit_of_a_sealed_file_gives_another_value(tmp_path: Path, place: int) -> None:
    path, value = tmp_path / "ledger.json", {"phases": {"eval": {"tokens": 1234}}, "x": [1.5, None, "é"]}
    write_sealed(path, value)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << (place % 7)
    path.write_bytes(content)
    with notices():
        assert read_sealed(path) == value
    path.write_bytes(content)
    copy_of(path).unlink()
    read = read_sealed(path)
    assert read is None or (read["phases"] == value["phases"] and read["x"] == value["x"])


def test_large_files_are_hashed_where_they_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "LARGE", 100)
    damage(store.path(STAGE) / "policy" / "model.safetensors", "flipped")
    with notices() as heard:
        assert store.done(STAGE)
        store.get(STAGE, build)
    assert len(heard) == 1 and "policy/model.safetensors is not what was written" in heard[0]


def test_files_are_hashed_once_a_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(integrity, "file_digest", read)
    assert store.get(STAGE, build) and store.done(STAGE), "written and hashed in this process"
    os.utime(store.path(STAGE) / "rows.jsonl")
    with pytest.raises(AssertionError):
        store.done(STAGE)


def earlier(store: Store, stage: Stage = STAGE) -> dict[str, Any]:
    """Make a stage as earlier versions left it: no hashes, no seal, no copy. Its manifest."""
    path = store.path(stage) / "manifest.json"
    manifest = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("files", "seal", "unverified")}
    copy_of(path).unlink()
    path.write_text(json.dumps(manifest))
    return manifest


def test_a_stage_of_an_earlier_version_gets_its_hashes_when_it_is_read(store: Store) -> None:
    manifest = earlier(store)
    with notices() as heard:
        assert store.done(STAGE) and store.get(STAGE, again)
    assert not heard and store.manifest(STAGE) == manifest and not store.verified(STAGE)
    assert json.loads((store.path(STAGE) / "manifest.json").read_text())["files"].keys() == {
        *("rows.jsonl", "policy/model.safetensors")
    }
    damage(store.path(STAGE) / "policy" / "model.safetensors", "flipped")
    with notices() as heard:
        assert not store.done(STAGE)
    assert "policy/model.safetensors is not what was written" in heard[0]


@pytest.mark.parametrize("short", [0, 1])
def test_rows_that_are_too_few_are_seen_without_hashes(tmp_path: Path, short: int) -> None:
    """The file ends with a whole line: only the count tells."""
    store, stages = Store(tmp_path), (STAGE, Stage("judgments", {"answers": STAGE.key}))
    nodes = EvaluationNodes(*(Node("preference", stage) for stage in stages))
    for stage in stages:
        store.get(stage, build)
        earlier(store, stage)
    with notices() as heard:
        set_aside_short(nodes, store)
    assert not heard
    for stage in stages:
        earlier(store, stage)
    path = store.path(stages[short]) / "rows.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with notices() as heard:
        set_aside_short(nodes, store)
    assert len(heard) == 1 and heard[0].startswith(f"{stages[short].key}: rows.jsonl has 3 rows and must have 6.")
    assert not store.done(stages[short]) and store.done(stages[1 - short])


@pytest.mark.parametrize("how", ["halved", "flipped"])
def test_broken_rows_of_an_earlier_version_are_seen(store: Store, how: str) -> None:
    earlier(store)
    path = store.path(STAGE) / "rows.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-9] if how == "halved" else content.replace(b"}", b"|", 1))
    with notices() as heard:
        assert not store.done(STAGE)
    assert "rows.jsonl is cut or damaged" in heard[0]


def test_a_store_that_cannot_be_written_is_read_all_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier(store)
    monkeypatch.setattr(Store, "_lock", lambda *given, **options: (_ for _ in ()).throw(OSError(30, "Read-only")))
    assert store.done(STAGE)
    path = store.path(STAGE) / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with notices() as heard:
        assert not store.done(STAGE)
    assert "rows.jsonl is cut or damaged, and it cannot be moved aside (Read-only): it is left out" in heard[0]


class KilledError(BaseException):
    """The process dies."""


def killed_at(step: str, stage: Stage, store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The work folder of a stage whose process died when it came to a step of :mod:`harness.store.stages`."""

    def die(*given: Any, **options: Any) -> None:
        raise KilledError

    def spend(work: Path) -> dict[str, Any]:
        write_sealed(work / UNDER_WAY, LEDGER)
        return build(work)

    with monkeypatch.context() as patch:
        patch.setattr(f"harness.store.stages.{step}", die)
        with pytest.raises(KilledError):
            store.get(stage, spend)
    return store.work(stage)


def test_a_stage_that_only_lacks_its_name_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is paid again, and its cost is what the attempt that built it spent."""
    store = Store(tmp_path)
    killed_at("Store._publish", STAGE, store, monkeypatch)
    assert not store.done(STAGE)
    folder = store.get(STAGE, lambda work: pytest.fail("it was built"))
    assert store.manifest(STAGE)["ledger"] == LEDGER
    assert store.verified(STAGE) and not list(folder.glob("*ledger.json*"))
    assert not (tmp_path / "work" / STAGE.key).exists()


def test_a_built_stage_that_was_damaged_before_it_had_its_name_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    work = killed_at("Store._publish", STAGE, store, monkeypatch)
    damage(work / "rows.jsonl", "flipped")
    shutil.rmtree(work / "policy")
    shutil.rmtree(work / "checkpoints")
    folder = store.get(STAGE, again)
    assert (folder / "rows.jsonl").read_text().count("answer") == len(ROWS)
    assert store.manifest(STAGE)["ledger"] == {"phases": {}, "peak_memory_bytes": 2}


def test_the_ledger_stays_until_the_manifest_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = killed_at("write_manifest", STAGE, Store(tmp_path), monkeypatch)
    assert read_sealed(work / UNDER_WAY) == LEDGER


def test_what_a_killed_attempt_began_to_write_is_not_published(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.work(STAGE) / ".rows.jsonl.123.part").write_text("half")
    folder = store.get(STAGE, build)
    assert not list(folder.rglob("*.part"))


def test_verify_reads_everything_and_names_what_is_damaged(store: Store) -> None:
    def run(*, code: int = 0) -> str:
        done = run_here("store", "verify", "--store", store.root)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    other = Stage("pairs", {"b": 2})
    store.get(other, build)
    cache = RowCache(store.root / "rows.sqlite")
    cache.put([("a", 1), ("b", 2)])
    assert run().startswith("2 stages are as they were written (")
    earlier(store)
    assert "1 stages are as they were written; 1 unverified: of a version without hashes" in run()
    assert not store.verified(STAGE), "and they are recorded now"
    damage(store.path(other) / "policy" / "model.safetensors", "flipped")
    (rows,) = (store.root / "rows").iterdir()
    rows.write_bytes(rows.read_bytes().replace(b"\t2\n", b"\t3\n"))
    output = run(code=2)
    assert f"stages/{other.key}: policy/model.safetensors is not what was written\n" in output
    assert "Cached rows: 1 are not as they were written\n" in output
    assert f"Damaged parts of the store {store.root}: 2. The 'sail-bench compare' that made them" in output
    assert store.path(other).is_dir(), "nothing is moved"
