"""A disk that is full, for real: one sentence, the old file as it was, and nothing half written beside it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit.command import run_here
from kit.results import PEOPLE, preference_result, run_result
from kit.small_disk import fill, small_disk

from harness.errors import UserError
from harness.score.results import result_path, write_result
from harness.store.array_file import write_arrays
from harness.store.json_files import read_json, write_bytes, write_json, write_text
from harness.store.row_files import RowWriter
from harness.store.sealed import write_sealed
from harness.store.settings import settings, using
from harness.store.storage import storage_fault

LONG = "x" * 300_000


def _rows(path: Path) -> None:
    with RowWriter(path) as writer:
        for number in range(30):
            writer.write({"id": number, "text": LONG[:10_000]})


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, LONG),
    "bytes": lambda path: write_bytes(path, LONG.encode()),
    "json": lambda path: write_json(path, {"text": LONG}),
    "sealed": lambda path: write_sealed(path, {"text": LONG}),
    "rows": _rows,
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 200) as folder:
        yield folder


def names(folder: Path) -> set[str]:
    """Of the files of a folder, the ballast left out."""
    return {path.name for path in folder.rglob("*")} - {"ballast"}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_does_not_fit_leaves_the_old_one(kind: str, disk: Path) -> None:
    path = disk / "file"
    path.write_text("old")
    fill(disk, leave=40)
    with pytest.raises(OSError) as raised:
        WRITERS[kind](path)
    assert raised.value.errno == errno.ENOSPC
    assert storage_fault(raised.value).endswith("and run the same command again, which goes on from here")
    assert path.read_text() == "old"
    assert names(disk) == {"file"}


def test_a_cache_that_does_not_fit_is_left_out(disk: Path) -> None:
    write_arrays(disk / "fits", {"samples": np.zeros(40_000)})
    assert names(disk) == set()


def test_a_page_that_does_not_fit_is_one_sentence(disk: Path) -> None:
    """The old page stays as it was, and the same command makes the new one once there is room."""
    rewards = (np.arange(PEOPLE) < 20).astype(float)
    write_result(
        result_path(disk, "demo", "pairs-96", "start", 0),
        run_result("start", [preference_result(rewards, np.ones(PEOPLE))]),
    )
    fill(disk)
    done = run_here("leaderboard", "--results", disk)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"Error: The disk that holds {disk}/demo/pairs-96/")
    assert len(done.stderr.splitlines()) == 1
    assert not [name for name in names(disk) if name.endswith(".part")]
    (disk / "ballast").unlink()
    done = run_here("leaderboard", "--results", disk)
    assert done.returncode == 0, done.stderr
    assert read_json(disk / "demo/pairs-96/summary.json")


def test_a_result_that_does_not_fit_is_one_sentence(disk: Path) -> None:
    result = run_result("start", [preference_result(np.ones(PEOPLE), np.ones(PEOPLE))])
    path = result_path(disk, "demo", "pairs-96", "start", 0)
    fill(disk)
    with pytest.raises(UserError, match=r"^The disk that holds .* is full: free some of it .* goes on from here$"):
        write_result(path, result)
    assert not [name for name in names(disk) if name.endswith((".json", ".part"))]


def test_a_recipe_that_does_not_fit_is_not_there(disk: Path) -> None:
    fill(disk)
    done = run_here("new-recipe", "mine", "--into", disk)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: The disk that holds {disk}/mine.yaml is full")
    assert names(disk) == set()


def test_a_download_that_does_not_fit_says_so(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the download that fails, as the sentence used to say."""
    from benchmarks.shared import download

    source = disk.parent / "source"
    (source / "a/b/main").mkdir(parents=True)
    (source / "a/b/main/file").write_text(LONG)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(disk / "home"))
    file = download.PublishedFile("github", "a/b", "file", "main")
    online = replace(settings(), offline=False, github=f"file://{source}")
    with using(online), pytest.raises(UserError, match="The disk .*is full"):
        download.download(file)
    assert not [name for name in names(disk) if name.endswith(".part")]


@pytest.mark.parametrize("option", ["--store", "--results"])
def test_a_path_that_no_file_system_takes_is_refused(tmp_path: Path, option: str) -> None:
    path = str(tmp_path / ("n" * 300))
    folders = {"--store": str(tmp_path / "store"), "--results": str(tmp_path / "results"), option: path}
    refused = run_here("compare", "tiny", *(word for pair in folders.items() for word in pair))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert path in refused.stderr and "file name too long" in refused.stderr.lower()
