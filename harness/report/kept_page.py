"""The page of a comparison and its scores for the terminal: made anew only where something behind them changed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.report.terminal import ScoreTable, score_table
from harness.store.json_files import digest, file_digest
from harness.store.sealed import read_sealed, write_sealed


class KeptPage:
    """The leaderboard of one results folder, with a record of what it was made from.

    Args:
        folder: ``<results>/<recipe>/<budget>``.
        records: folder for the record. It says what the page was made from (results, judge cards, code), what its files
            held, and the scores for the terminal. Without it everything is made anew.
    """

    def __init__(self, folder: Path, records: Path) -> None:
        self.folder = folder
        self._code = _code()  # before the modules are loaded that make the page: an edit from now on is seen next time
        self._record = records / f"{digest(str(folder.resolve()))}.json"

    def prepare(self) -> None:
        """Import what makes the page, while there is time for it."""
        import matplotlib.figure  # noqa: F401
        import scipy.special  # noqa: F401

        import harness.report.leaderboard  # noqa: F401

    def write(self) -> None:
        """Write the page, unless its files are there and hold what they would hold."""
        inputs = self._inputs()  # before the results are read: a change in between is seen the next time
        record = self._read()
        if record.get("inputs") == inputs and record.get("files") == self._held(record["files"]):
            return
        from harness.report.leaderboard import write_leaderboard

        written = write_leaderboard(self.folder)
        write_sealed(self._record, {"inputs": inputs, "files": self._held(written)}, copy=False)

    def scores(self) -> ScoreTable:
        """The scores for the terminal."""
        inputs, record = self._inputs(), self._read()
        if record.get("inputs") != inputs:
            return self._table()
        if "scores" in record:
            return ScoreTable(**record["scores"])
        table = self._table()
        write_sealed(self._record, record | {"scores": table._asdict()}, copy=False)
        return table

    def _table(self) -> ScoreTable:
        from harness.score.fits import KeptFits
        from harness.score.results import read_results

        return score_table(read_results(self.folder), KeptFits(self.folder))

    def _read(self) -> dict[str, Any]:
        """The record; empty if there is none that can be read."""
        record = read_sealed(self._record) or {}
        return record if {"inputs", "files"} <= record.keys() else {}

    def _held(self, names: Any) -> dict[str, str | None]:
        """What the files of the page hold now, by name; None where one is missing."""
        paths = {name: self.folder / name for name in names}
        return {name: file_digest(path) if path.is_file() else None for name, path in paths.items()}

    def _inputs(self) -> str:
        """A hash of all that the page is made from."""
        from harness.report.judge_citation import card_sentences

        results = [[str(p.relative_to(self.folder)), file_digest(p)] for p in sorted(self.folder.glob("*/seed-*.json"))]
        return digest([results, card_sentences(self.folder), self._code])


@cache
def _code() -> list[Any]:
    """What tells one state of the code from another: when its files were written, and versions of the libraries."""
    root = Path(__file__).parents[2]
    files = sorted(path for package in ("harness", "sail") for path in (root / package).rglob("*.py"))
    stamps = [[str(path.relative_to(root)), path.stat().st_mtime_ns, path.stat().st_size] for path in files]
    return [stamps, version("numpy"), version("scipy")]
