"""RewardBench in a comparison, to the pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from kit.command import SMALL, Cli, write_tiny
from kit.rewardbench import ANSWERS, write_pairs

from benchmarks.rewardbench.sections import SIZES
from harness.score.results import read_result


@pytest.mark.slow
def test_a_comparison_with_pages(tiny_copy: Path, cli: Cli) -> None:
    """The tiny recipe on all 23 subsets, four pairs each: score, sections, subjects; the same command again is done."""
    rows = [
        {"prompt": f"Q{i}?", "chosen": ANSWERS[i], "rejected": ANSWERS[i + 4], "subset": s, "id": i}
        for s in SIZES
        for i in range(4)
    ]
    write_pairs(tiny_copy / "data", rows)
    write_tiny(tiny_copy / "rb.yaml", **SMALL | {"benchmarks": {"rewardbench": {}}})
    command = ("compare", "rb.yaml", "--methods", "start,dpo,longer", "--data-dir", "data")
    done = cli(*command, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    folder = tiny_copy / "results/local/rb/pairs-16"
    results = {m: read_result(folder / m / "seed-0.json").benchmarks[0] for m in ("start", "dpo", "longer")}
    assert results["start"].metric("accuracy").value == 50
    assert results["dpo"].metric("accuracy").n_valid == 92
    assert results["dpo"].protocol["baseline_policy"].startswith("start-")
    assert results["longer"].metric("accuracy").value is not None
    page = (folder / "LEADERBOARD.md").read_text()
    assert "RewardBench (92 of 2,985, v2), acc %" in page
    assert "rewardbench: Chat Hard (92 of 2,985, v2), acc %" in page
    by_subject = (folder / "SUBJECTS.md").read_text()
    assert "| math-prm | 4 | 50.0" in by_subject
    again = cli(*command, cwd=tiny_copy)
    assert again.stderr.count("already done") == 3
