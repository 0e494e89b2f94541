"""A store that several hosts share: rows, stages and calibration, with real processes on simulated hosts."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from kit.damage import notices
from kit.hosts import Process, grow_old, stand_here

from harness.budget.calibration import Calibration
from harness.errors import UserError
from harness.run.housekeeping import dispensable, holdings, stage_folders
from harness.store import hosts, leases
from harness.store.claims import claims_in
from harness.store.row_cache import RowCache
from harness.store.sealed import write_sealed
from harness.store.stages import Stage, Store
from harness.store.storage import remove_partial_files

STAGE = Stage("train", {"a": 1})


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_here(monkeypatch)


def test_rows_are_read_on_other_hosts_while_they_are_written(tmp_path: Path) -> None:
    code = """
from harness.store.row_cache import RowCache
cache = RowCache(folder / "rows.sqlite")
for number in range(10**6):
    cache.put([(str(number), {"n": number, "text": "x" * 3000})])
    print(number, flush=True)
"""
    cache = RowCache(tmp_path / "rows.sqlite")
    writer = Process("there", code, tmp_path)
    for number in range(20):
        assert writer.line() == str(number)
        assert cache.get([str(number)])[str(number)]["n"] == number, "what it said is on the disk"
    last = int((writer.kill() or ["19"])[-1])
    keys = [str(number) for number in range(last + 1)]
    assert cache.get(keys).keys() == set(keys)
    (log,) = (tmp_path / "rows").iterdir()
    with log.open("ab") as file:  # the process was killed in the middle of a row
        file.write(b"0123abcd\t0\tcut")
    with notices() as heard:
        assert cache.get([*keys, "cut"]).keys() == set(keys)
        cache.put([("mine", 1), ("0", "later")])
        follower = Process("there", code.replace("10**6", "3").replace("str(number)", "f'n{number}'"), tmp_path)
        assert follower.lines() == ["0", "1", "2"]
        assert len(list((tmp_path / "rows").iterdir())) == 2, "its file is continued"
        assert RowCache(tmp_path / "rows.sqlite").get([*keys, "cut", "mine", "n2"]).keys() == {*keys, "mine", "n2"}
    assert not heard and cache.get(["0"])["0"]["n"] == 0


def test_a_row_counts_as_it_was_replaced_last_on_any_host(tmp_path: Path) -> None:
    code = """
from harness.store.row_cache import RowCache
cache = RowCache(folder / "rows.sqlite")
cache.put([("a", "there"), ("b", "there")], replace=True)
"""
    cache = RowCache(tmp_path / "rows.sqlite")
    cache.put([("a", "first"), ("a", "second"), ("c", 1)])
    assert cache.get(["a"]) == {"a": "first"}
    Process("there", code, tmp_path).lines()
    cache.put([("b", "here")])
    expected = {"a": "there", "b": "there", "c": 1}
    assert cache.get(["a", "b", "c"]) == RowCache(tmp_path / "rows.sqlite").get(["a", "b", "c"]) == expected
    cache.put([("a", "last")], replace=True)
    assert RowCache(tmp_path / "rows.sqlite").get(["a"]) == cache.get(["a"]) == {"a": "last"}


def test_a_file_of_rows_that_was_removed_is_not_written_on(tmp_path: Path) -> None:
    cache = RowCache(tmp_path / "rows.sqlite")
    cache.put([("a", 1)])
    shutil.rmtree(tmp_path / "rows")
    cache.put([("b", 2)])
    assert RowCache(tmp_path / "rows.sqlite").get(["a", "b"]) == cache.get(["a", "b"]) == {"b": 2}


def test_changes_of_a_row_are_counted_on_all_hosts(tmp_path: Path) -> None:
    code = """
from harness.store.row_cache import RowCache
cache = RowCache(folder / "rows.sqlite")
for _ in range(25):
    cache.change("spent", lambda value: (value or 0) + 1)
"""
    for process in [Process(f"host-{number % 2}", code, tmp_path) for number in range(4)]:
        process.lines()
    assert RowCache(tmp_path / "rows.sqlite").get(["spent"]) == {"spent": 100}


def test_a_file_that_another_host_writes_is_not_moved_aside(tmp_path: Path) -> None:
    """On a network file system a line may come in pieces: what looks damaged is read again."""
    code = """
from harness.store.row_cache import RowCache
cache = RowCache(folder / "rows.sqlite")
cache.put([("a", 1), ("b", 2), ("c", 3)])
print("done", flush=True)
sys.stdin.read()
"""
    other = Process("there", code, tmp_path)
    assert other.line() == "done"
    (log,) = (tmp_path / "rows").iterdir()
    whole = log.read_bytes()
    log.write_bytes(whole.replace(b"\tb\t2", b"\0\0\0\0"))
    cache = RowCache(tmp_path / "rows.sqlite")
    with notices() as heard:
        assert cache.get(["a", "b", "c"]) == {"a": 1, "c": 3}
        log.write_bytes(whole)
        assert cache.get(["a", "b", "c"]) == {"a": 1, "b": 2, "c": 3}
    assert not heard
    other.kill()


def test_three_hosts_calibrate_at_once_and_all_counts(tmp_path: Path) -> None:
    code = """
from harness.budget.calibration import Calibration
from harness.budget.flops import Shape
from harness.budget.forecast import Forecast
from harness.budget.ledger import Ledger
ledger = Ledger({"train": {"steps": 2, "seconds": 4.0, "pairs": 8}})
shape = Shape((), 1, 1, 1, 1, 1, True, 0)
name = os.environ["SAIL_BENCH_HOST"]
calibration = Calibration(folder, {"system": "Linux"})
print("ready", flush=True)
wait_for("go")
for method in (name, "all"):
    for _ in range(5):
        calibration.record("s", method, shape, ledger, lambda seen: Forecast({"seconds": 1.0}, {}, 1, 8))
"""
    names = ["one", "two", "three"]
    processes = [Process(name, code, tmp_path) for name in names]
    assert [process.line() for process in processes] == ["ready"] * 3
    (tmp_path / "go").touch()
    for process in processes:
        process.lines()
    kept = Calibration(tmp_path, {"system": "Linux"})
    runs = {name: kept.corrections("s", name).ratios for name in (*names, "all")}
    assert {name: ratios["runs"] for name, ratios in runs.items()} == dict.fromkeys(names, 5) | {"all": 15}
    assert all(ratios["seconds"] == pytest.approx(2.0) for ratios in runs.values())


BUILD = """
from harness.store.stages import Stage, Store
def build(work):
    with (folder / "built").open("a") as file:
        file.write("x")
    (work / "half").touch()
    print("building", flush=True)
    time.sleep(SECONDS)
Store(folder / "s").get(Stage("train", {"a": 1}), build)
print("there", flush=True)
"""


def test_a_stage_is_built_once_on_all_hosts(tmp_path: Path) -> None:
    processes = [Process(f"host-{number}", BUILD.replace("SECONDS", "0.3"), tmp_path) for number in range(3)]
    assert [process.lines()[-1] for process in processes] == ["there"] * 3
    assert (tmp_path / "built").read_text() == "x"
    assert Store(tmp_path / "s").done(STAGE) and not Store(tmp_path / "s").under_way()


def test_a_stage_of_a_host_that_died_is_built_on_from_its_work(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    other = Process("there", BUILD.replace("SECONDS", "60"), tmp_path)
    assert other.line() == "building"
    other.kill()
    assert store.under_way() == [STAGE.key]
    grow_old(tmp_path / "s" / "locks", "there", 2 * leases.STALE_S)
    assert store.under_way() == []
    folder = store.get(STAGE, lambda work: {"kept": (work / "half").exists()})
    assert store.done(STAGE) and store.manifest(STAGE)["kept"] and folder.is_dir()


def test_who_was_taken_for_dead_does_not_publish(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def build(work: Path) -> None:
        (lease,) = (tmp_path / "locks").glob("train-*.lease")
        lease.unlink()
        lease.symlink_to("there-0~1~2~aa~0")

    with pytest.raises(UserError, match="was taken over by another host, because this one gave no sign for a minute"):
        store.get(STAGE, build)
    assert not store.done(STAGE)


def test_a_command_of_another_host_keeps_its_stages(tmp_path: Path) -> None:
    code = """
from harness.store.stages import Store
with Store(folder).in_use():
    print("in use", flush=True)
    sys.stdin.read()
"""
    other, store = Process("there", code, tmp_path), Store(tmp_path)
    assert other.line() == "in use"
    with store.cleared() as alone:
        assert not alone
    other.kill()
    grow_old(tmp_path / "locks", "there", 2 * leases.STALE_S)
    with store.cleared() as alone:
        assert alone
        waiting = Process("there", code, tmp_path)
        time.sleep(0.2)
    assert waiting.line() == "in use"
    waiting.kill()


def test_what_dead_processes_left_goes_with_the_next_command(tmp_path: Path) -> None:
    claims = tmp_path / "locks" / "asking"
    code = """
from harness.store.claims import claims_in
print(claims_in(folder / "locks" / "asking").take(7), flush=True)
sys.stdin.read()
"""
    other = Process("there", code, tmp_path)
    assert other.line() == "True" and len(list(claims.iterdir())) == 1
    other.kill()
    with Store(tmp_path).in_use():
        assert len(list(claims.iterdir())) == 1
    grow_old(tmp_path / "locks", "there", 2 * leases.STALE_S)
    with Store(tmp_path).in_use():
        assert not list(claims.iterdir()) and not list(tmp_path.glob("locks/sessions/there-*"))
    assert claims_in(claims).take(7)


def test_a_store_of_an_earlier_version_is_used(tmp_path: Path) -> None:
    """It has files where folders are now, a lock for each stage, and perhaps a log that a killed process left."""
    (tmp_path / "locks").mkdir()
    for name in ("commands", "questions", "requests", "calibration.lock", "rows.sqlite.lock", f"{STAGE.key}.lock"):
        (tmp_path / "locks" / name).touch()
    code = """
import sqlite3
db = sqlite3.connect(folder / "rows.sqlite", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE rows (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID")
db.execute("INSERT INTO rows VALUES ('a', '1', NULL)")
print("written", flush=True)
sys.stdin.read()
"""
    writer = Process("here", code, tmp_path)
    assert writer.line() == "written"
    writer.kill()
    assert (tmp_path / "rows.sqlite-wal").stat().st_size
    store = Store(tmp_path)
    with store.in_use():
        assert store.under_way() == []
        cache = RowCache(tmp_path / "rows.sqlite")
        assert cache.get(["a"]) == {"a": 1}
        cache.put([("a", 2), ("b", 3)])
        assert cache.get(["a", "b"]) == {"a": 1, "b": 3}
        cache.put([("a", 4)], replace=True)
        assert RowCache(tmp_path / "rows.sqlite").get(["a"]) == {"a": 4}
        store.get(STAGE, lambda work: None)
    with closing(sqlite3.connect(tmp_path / "rows.sqlite")) as kept:
        assert kept.execute("SELECT * FROM rows").fetchall() == [("a", "1", None)], "it is only read"


def test_partial_files_of_other_hosts_stay_a_day(tmp_path: Path) -> None:
    now = time.time()
    names = {
        f".a.{hosts.writer()}.part": 1e6,
        f".b.there-01234567-{os.getpid()}.part": 3600.0,
        ".c.there-01234567-999999999.part": 3600.0,
        f".d.{hosts.writer(999999999)}.part": 3600.0,
        ".e.there-01234567-1.part": 2 * 86400.0,
    }
    for name, age in names.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    remove_partial_files(tmp_path)
    assert sorted(path.name[1] for path in tmp_path.iterdir()) == ["a", "b", "c"]


@pytest.mark.nightly
def test_a_store_with_10000_runs_is_listed_and_asked_in_3_seconds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stages = [Stage(kind, {"run": run}) for run in range(10_000) for kind in ("train", "answers", "judgments")]
    for stage in stages:
        folder = store.path(stage)
        (folder / "policy").mkdir(parents=True)
        (folder / "rows.jsonl").write_text("{}\n")
        write_sealed(folder / "manifest.json", {"kind": stage.kind, "inputs": stage.inputs, "files": {}})
    begun = time.process_time()
    assert {holding.number for holding in holdings(store)} == {10_000} and not dispensable(store)
    assert len(stage_folders(store)) == 30_000
    listed = time.process_time() - begun
    with store.in_use():
        begun = time.process_time()
        assert all(store.done(stage) for stage in stages[:: len(stages) // 3000])
        asked = time.process_time() - begun
    print(f"listed in {listed:.2f} s, 3,000 stages asked for in {asked:.2f} s")
    assert listed < 3 and asked < 3
