"""Caches, records and partial files: what is damaged is dropped with a sentence, and never gives another value."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.command import run_here
from kit.damage import DAMAGES, damage, notices

from harness.budget.calibration import Calibration
from harness.errors import UserError
from harness.store import row_database
from harness.store.json_files import write_text
from harness.store.row_cache import RowCache
from harness.store.sealed import copy_of, write_sealed
from harness.store.storage import QUARANTINE, check_writable, remove_partial_files, storage_fault
from harness.store.tensor_cache import TensorCache
from harness.train.checkpoints import LEDGER, newest_checkpoint, read_record, write_record

VALUES = {f"key {i}": {"text": f"answer {i} " + "é" * i, "tokens": i} for i in range(300)}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The file of an earlier version."""
    path = tmp_path / "rows.sqlite"
    old = sqlite3.connect(path)
    old.execute("CREATE TABLE rows (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER) WITHOUT ROWID")
    texts = {key.encode(): json.dumps(value, ensure_ascii=False).encode() for key, value in VALUES.items()}
    table = [(key.decode(), text.decode(), zlib.crc32(text, zlib.crc32(key))) for key, text in texts.items()]
    old.executemany("INSERT INTO rows VALUES (?, ?, ?)", table)
    old.commit()
    old.close()
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    cache = RowCache(tmp_path / "rows.sqlite")
    cache.put(VALUES.items())
    cache.close()
    (path,) = (tmp_path / "rows").iterdir()
    return path


@pytest.mark.parametrize("how", [*DAMAGES, "value", "garbage", "head"])
def test_a_damaged_row_cache_gives_what_it_was_given_or_nothing(rows: Path, how: str) -> None:
    content = rows.read_bytes()
    if how == "value":  # the database is sound
        rows.write_bytes(content.replace(b"answer 7 ", b"answer 8 ", 1))
    elif how == "garbage":
        rows.write_bytes(b"no database at all" * 1000)
    elif how == "head":  # the page that says where all others are
        rows.write_bytes(b"\xff" * 4096 + content[4096:])
    else:
        damage(rows, how)
    with notices() as heard:
        cache = RowCache(rows)
        read = cache.get(list(VALUES))
        cache.put(VALUES.items())
        assert cache.get(list(VALUES)) == VALUES
    assert read == {key: VALUES[key] for key in read} and len(read) < len(VALUES)
    assert (len(heard) == 1) == (how not in ("missing", "empty")), heard
    aside = rows.parent / QUARANTINE / rows.name
    if how == "value":
        assert heard == [f"{rows}: 1 cached rows are damaged; they are dropped and made again"]
        assert len(read) == len(VALUES) - 1 and not aside.exists()
    elif heard:
        assert heard[0].startswith(f"{rows} is damaged (") and f"it is now {aside}; {len(read)} of its rows" in heard[0]
        assert aside.is_file() and (len(read) > 250) == (how == "flipped")


def test_no_flipped_byte_of_the_row_cache_gives_another_value(rows: Path) -> None:
    """The file's bytes, one after the other in big steps, each with another bit flipped."""
    whole = rows.read_bytes()
    lost = 0
    for place in range(0, len(whole), 3989):
        row_database._checked.clear()
        shutil.rmtree(rows.parent / "rows", ignore_errors=True)
        rows.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with notices():
            cache = RowCache(rows)
            read = cache.get(list(VALUES))
        cache.close()
        assert read == {key: VALUES[key] for key in read}
        lost += len(read) < len(VALUES)
    assert lost


@pytest.mark.parametrize("how", [*DAMAGES, "value", "garbage"])
def test_a_damaged_file_of_rows_loses_the_damaged_ones_alone(log: Path, how: str) -> None:
    content = log.read_bytes()
    if how == "value":
        log.write_bytes(content.replace(b"answer 7 ", b"answer 8 ", 1))
    elif how == "garbage":
        log.write_bytes(content[:9000] + b"\0" * 500 + content[9500:])
    else:
        damage(log, how)
    with notices() as heard:
        cache = RowCache(log.parent.parent / "rows.sqlite")
        read = cache.get(list(VALUES))
        cache.put(VALUES.items())
        assert cache.get(list(VALUES)) == VALUES
    assert read == {key: VALUES[key] for key in read} and len(read) < len(VALUES)
    aside = log.parent.parent / QUARANTINE / log.name
    assert len(heard) == aside.exists() == (how in ("flipped", "value", "garbage")), heard
    if heard:
        assert heard[0].startswith(f"{log}: ") and heard[0].endswith(f"the file as it was is now {aside}")
        assert len(read) >= (290 if how == "garbage" else 298)
    with notices() as heard:
        assert RowCache(log.parent.parent / "rows.sqlite").get(list(VALUES)) == VALUES
    assert not heard


def test_no_flipped_byte_of_a_file_of_rows_gives_another_value(log: Path) -> None:
    whole = log.read_bytes()
    for place in range(0, len(whole), 1499):
        log.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with notices():
            read = RowCache(log.parent.parent / "rows.sqlite").get(list(VALUES))
        assert read == {key: VALUES[key] for key in read}
        assert len(VALUES) - 2 <= len(read) < len(VALUES)


def test_rows_of_an_earlier_version_are_read_and_new_ones_have_checksums(tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    old = sqlite3.connect(path)
    old.execute("CREATE TABLE rows (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    old.executemany("INSERT INTO rows VALUES (?, ?)", [("a", '{"x": 1}'), ("b", '{"x": ')])
    old.commit()
    old.close()
    with notices() as heard:
        cache = RowCache(path)
        assert cache.get(["a", "b"]) == {"a": {"x": 1}}
    assert len(heard) == 1 and "1 cached rows are damaged" in heard[0]
    cache.put([("a", 2), ("b", 3)])
    assert cache.change("c", lambda value: value or 4) == 4
    assert RowCache(path).get(["a", "b", "c"]) == {"a": {"x": 1}, "b": 3, "c": 4}
    assert not cache.damaged()


def test_a_row_cache_waits_until_a_row_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    cache = RowCache(tmp_path / "rows.sqlite")
    cache.put([("a", 1)])
    before = len(synced)
    cache.put([("b", 1)])
    assert len(synced) == before + 1 == 3, "the folder, once, and each row"


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_calibration_costs_no_run(tmp_path: Path, how: str) -> None:
    machine = {"system": "Linux"}
    key = Calibration(tmp_path, machine).machine
    path = tmp_path / "calibration.json"
    write_sealed(path, {key: {"s": {"rates": {"train": 2.0}, "methods": {"dpo": {"flops": 1.25}}}}})
    damage(path, how)
    with notices() as heard:
        read = Calibration(tmp_path, machine).corrections("s", "dpo")
    assert read.rates == {"train": 2.0} and read.ratios == {"flops": 1.25}
    assert heard == [f"{path} was damaged: it is made again from its copy"]
    damage(path, how)
    damage(copy_of(path), how)
    with notices() as heard:
        assert Calibration(tmp_path, machine).corrections("s", "dpo").rates == {}
    assert heard == (
        [] if how == "missing" else [f"{path} is damaged: predictions begin without what earlier runs measured"]
    )


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_hidden_states_are_computed_again(tmp_path: Path, how: str) -> None:
    cache = TensorCache(tmp_path)
    cache.put("a", {"0": torch.arange(50.0)})
    (path,) = tmp_path.iterdir()
    damage(path, how)
    assert cache.get("a") is None and not list(tmp_path.iterdir())


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("optimizer.pt", "trainer_state.json", "adapter_model.safetensors"):
        (path / name).write_text(f"{name} at step {step}")
    write_record(path / LEDGER, {"phases": {"train": {"steps": step}}, "peak_memory_bytes": 0})
    return path


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["optimizer.pt", "trainer_state.json", "adapter_model.safetensors"])
def test_an_earlier_checkpoint_is_taken(tmp_path: Path, name: str, how: str) -> None:
    first, second = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert newest_checkpoint(tmp_path) == second
    damage(second / name, how)
    with notices() as heard:
        assert newest_checkpoint(tmp_path) == first
    assert len(heard) == 1 and heard[0].startswith(f"{second}: {name} ") and heard[0].endswith("It is not used")
    assert len(list(tmp_path.rglob("damaged-checkpoint-10"))) == 1
    damage(first / name, how)
    with notices():
        assert newest_checkpoint(tmp_path) is None


def test_a_checkpoint_that_is_not_complete_is_not_taken(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path, 2), checkpoint(tmp_path, 4)
    (second / LEDGER).unlink()
    assert newest_checkpoint(tmp_path) == second, "the copy of its record is there"
    for path in (second / LEDGER, copy_of(second / LEDGER)):
        path.unlink()
    with notices() as heard:
        assert newest_checkpoint(tmp_path) == first
    assert not heard and second.is_dir()
    (first / LEDGER).write_text('{"phases": {}, "peak_memory_bytes": 0}')  # of an earlier version
    copy_of(first / LEDGER).unlink()
    (first / "optimizer.pt").write_text("other")
    assert read_record(first / LEDGER) == {"phases": {}, "peak_memory_bytes": 0}


def test_partial_files_of_processes_that_are_gone_go(tmp_path: Path) -> None:
    old = time.time() - 3600
    kept = [f".page.{os.getpid()}.part", "b.partial", "page.part"]
    for name in (*kept, ".page.999999999.part", f"a.{2**22 + 1}.partial"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".new.999999999.part").touch()
    remove_partial_files(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, ".new.999999999.part"])


def raising(number: int) -> Callable[..., Any]:
    def write(*given: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    return write


def test_a_full_disk_is_one_sentence_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", raising(errno.ENOSPC))
    with pytest.raises(OSError) as raised:
        write_text(tmp_path / "LEADERBOARD.md", "text")
    assert not list(tmp_path.iterdir())
    sentence = storage_fault(raised.value)
    assert sentence.startswith(f"The disk that holds {tmp_path / 'LEADERBOARD.md'} is full: free some of it")
    wrapped = RuntimeError("[enforce fail] PytorchStreamWriter failed writing file: No space left on device")
    assert storage_fault(wrapped).startswith("The disk is full")
    refused = OSError(errno.EROFS, "Read-only file system", "/store/logs/x")
    assert storage_fault(refused) == (
        "/store/logs/x cannot be written or read (read-only file system): change who may, or set --store and --results "
        "to other folders"
    )
    assert not storage_fault(ValueError("a size")) and not storage_fault(MemoryError())


def test_the_command_line_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.compare._compare", raising(errno.ENOSPC))
    done = run_here("compare", "tiny", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("Error: The disk is full: free some of it ('sail-bench")
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()
    with pytest.raises(UserError, match=r"The folder .*/logs cannot be written \(.*\): choose another with --store"):
        check_writable(tmp_path, "--store", ("", "logs"))
