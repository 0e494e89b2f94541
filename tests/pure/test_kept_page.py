"""A page is made anew exactly where something behind it changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kit.results import PEOPLE, preference_result, run_result
from rich.console import Console

from harness.report import kept_page, leaderboard
from harness.report.kept_page import KeptPage
from harness.report.leaderboard import stale_files
from harness.report.terminal import print_scores
from harness.score.results import result_path, write_result


def add(results: Path, method: str, share: float) -> None:
    rewards = (np.arange(PEOPLE) < share * PEOPLE).astype(float)
    written = run_result(method, [preference_result(rewards, np.ones(PEOPLE))])
    write_result(result_path(results, "demo", "pairs-96", method, 0), written)


@pytest.fixture
def page(tmp_path: Path) -> KeptPage:
    add(tmp_path, "start", 0.25)
    kept = KeptPage(tmp_path / "demo" / "pairs-96", tmp_path / "records")
    kept.write()
    return kept


def files(page: KeptPage) -> dict[str, int]:
    """Every file of the page, with the inode that each atomic write gives it."""
    return {path.name: path.stat().st_ino for path in page.folder.iterdir() if path.is_file()}


def test_nothing_new_writes_and_computes_nothing(page: KeptPage, monkeypatch: pytest.MonkeyPatch) -> None:
    before, scores = files(page), page.scores()
    assert "LEADERBOARD.md" in before
    monkeypatch.setattr(leaderboard, "render_pages", None)
    monkeypatch.setattr(kept_page, "score_table", None)
    page.write()
    assert files(page) == before
    assert page.scores() == scores


def remove(page: KeptPage) -> None:
    (page.folder / "LEADERBOARD.md").unlink()


def edit(page: KeptPage) -> None:
    with (page.folder / "summary.json").open("a") as file:
        file.write("<!-- edited -->")


def another_run(page: KeptPage) -> None:
    add(page.folder.parent.parent, "dpo", 0.75)


def other_scores(page: KeptPage) -> None:
    add(page.folder.parent.parent, "start", 0.5)


@pytest.mark.parametrize("change", [remove, edit, another_run, other_scores])
def test_a_change_makes_the_page_anew(page: KeptPage, change: Callable[[KeptPage], None]) -> None:
    page.scores()
    change(page)
    assert stale_files(page.folder)
    page.write()
    assert stale_files(page.folder) == []
    console = Console(width=100, record=True)
    print_scores(page.scores(), console)
    shown = console.export_text()
    assert [row[0] for row in page.scores().rows] == ["start", *["dpo"] * (change is another_run)][::-1]
    table = shown[: shown.index("95% intervals")]
    assert ("0.500" in table) == (change is other_scores)


def test_a_change_of_the_code_makes_the_page_anew(page: KeptPage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(page)
    stamps = {name: time for name, time, _ in kept_page._code()[0]}
    assert stamps["harness/report/kept_page.py"] == Path(kept_page.__file__).stat().st_mtime_ns
    monkeypatch.setattr(kept_page, "_code", lambda: ["other"])
    KeptPage(page.folder, page.folder.parent.parent / "records").write()
    written = {name for name, inode in files(page).items() if before[name] != inode}
    assert written == {name for name in before if not name.endswith(".svg")}, "pictures only where numbers differ"


def test_a_picture_that_was_damaged_is_drawn_again(page: KeptPage) -> None:
    """Though the numbers in it are those of the page, by which pictures are compared."""
    picture = next(page.folder.glob("*.svg"))
    whole = picture.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"</svg>", b"</svh>")):
        picture.write_bytes(damaged)
        page.write()
        assert picture.read_bytes() == whole


def test_a_record_that_cannot_be_read_counts_as_none(page: KeptPage) -> None:
    (record,) = (page.folder.parent.parent / "records").iterdir()
    remove(page)
    for text in ("", "[]", "{}"):
        record.write_text(text)
        assert page.scores().rows[0][0] == "start"
        page.write()
        assert stale_files(page.folder) == []
