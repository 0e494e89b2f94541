"""Committed results are of this version of the code. Only studies may be older: their pages then name the version."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from kit.committed import committed_files
from kit.results import details

from harness.run.plugins import plugins
from harness.score.results import BenchmarkResult, RunResult, read_result
from harness.store.versions import VERSIONS, raised_since

SMOLLM2, STUDIES = ROOT / "results" / "smollm2", ROOT / "results" / "studies"


def is_older(result: BenchmarkResult) -> bool:
    """Whether a benchmark was measured by another version of it than the code's."""
    version: int = plugins("benchmarks")[result.benchmark].load().version
    return result.protocol["version"] != version


def differing(run: RunResult) -> list[str]:
    """What of a result is of another version than the code: kinds of stages, and benchmarks."""
    return [*raised_since(run.versions), *(b.benchmark for b in run.benchmarks if is_older(b))]


def test_results_of_the_default_recipe_are_of_this_version() -> None:
    files = committed_files(SMOLLM2)
    assert files
    assert {str(path): differing(read_result(path)) for path in files} == {str(path): [] for path in files}


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent.parent for path in committed_files(STUDIES)}),
    ids=lambda f: f"{f.parent.name}-{f.name}",
)
def test_pages_of_studies_name_the_version_that_made_them(folder: Path) -> None:
    page = (folder / "LEADERBOARD.md").read_text(encoding="utf-8")
    for path in sorted(folder.glob("*/seed-*.json")):
        run = read_result(path)
        if raised_since(run.versions):
            stale = details(page, "Stale rows")
            assert f"`{run.method}`" in stale or "**Stale** (all rows)" in stale
            assert f"made by an earlier version of SAIL-bench ({run.environment['sail_bench']}" in stale
            for kind in raised_since(run.versions) if run.versions else ():
                assert f"{kind} ({run.versions[kind]}, now {VERSIONS[kind]})" in stale
        for scored in filter(is_older, run.benchmarks):
            titles = [m.title for m in scored.metrics if m.primary]
            assert all(f"{title} ({scored.label}, v{scored.protocol['version']})" in page for title in titles)


def test_a_raised_version_is_seen() -> None:
    path = committed_files(SMOLLM2)[0]
    run = read_result(path)
    now = [b.model_copy(update={"protocol": b.protocol | {"version": 99}}) for b in run.benchmarks]
    current = run.model_copy(update={"versions": dict(VERSIONS), "benchmarks": []})
    assert differing(current) == []
    assert differing(current.model_copy(update={"versions": VERSIONS | {"training": 0}})) == ["training"]
    assert differing(current.model_copy(update={"benchmarks": now[:1]})) == [now[0].benchmark]
    assert differing(current.model_copy(update={"versions": {}})) == list(VERSIONS)
