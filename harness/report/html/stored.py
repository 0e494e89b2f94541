"""What the store still holds of a run: rows of its judgments, what its training was predicted to cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.score.results import BenchmarkResult, RunResult
from harness.store.json_files import Row, read_rows
from harness.store.notices import notify
from harness.store.stage_files import fault_of, read_manifest

POLICY = "policy"
"""Name of the trained policy's stage among :attr:`harness.score.results.RunResult.stages`."""


class Stored:
    """Stages of runs, by the keys that their result files hold.

    Args:
        store: the folder of the store.
    """

    def __init__(self, store: Path) -> None:
        self._stages = store / "stages"

    def folder(self, run: RunResult, name: str) -> Path | None:
        """Folder of a finished stage; None where the run names none, the store has it no more, or it is damaged."""
        key = run.stages.get(name)
        folder = self._stages / key if key else None
        if folder is None or not folder.is_dir():
            return None
        if fault := fault_of(folder, whole=False):
            notify(f"{folder}: {fault}. The report leaves it out; 'sail-bench compare' makes it again")
            return None
        return folder

    def rows(self, run: RunResult, scored: BenchmarkResult) -> list[Row] | None:
        """Judged rows of a benchmark; None where they are not there."""
        folder = self.folder(run, scored.benchmark)
        return read_rows(folder / "rows.jsonl") if folder is not None and (folder / "rows.jsonl").is_file() else None

    def predicted(self, run: RunResult) -> dict[str, float]:
        """What the training was predicted to spend, by axis; empty where that is not stored."""
        folder = self.folder(run, POLICY)
        manifest: dict[str, Any] = (read_manifest(folder) if folder is not None else None) or {}
        return {axis: float(value) for axis, value in manifest.get("predicted", {}).items()}
