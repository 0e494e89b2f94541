"""``sail-bench diff``: values, flips, settings and versions, against numbers worked out from the result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from kit.command import Finished, run_here
from kit.results import PEOPLE, preference_result, run_result
from scipy import stats

from harness.score.result_diff import mcnemar
from harness.score.results import RunResult, result_path, write_result

FLOPS = ROOT / "results" / "smollm2" / "iso-flops-1e13"
AXES = ROOT / "results" / "studies" / "axes"


def record(*arguments: object) -> dict[str, Any]:
    return json.loads(run_here("diff", *arguments, "--json").stdout)


def test_two_rows_of_one_folder() -> None:
    """Difference and flips against the columns in the files, McNemar against scipy's binomial test."""
    metric = record(FLOPS / "dpo", FLOPS / "sail-pr")["rows"][0]["metrics"][0]
    before, after = (
        np.array(json.loads((FLOPS / m / "seed-0.json").read_text())["benchmarks"][0]["items"]["items"]["reward"])
        for m in ("dpo", "sail-pr")
    )
    gained, lost = int((after > before).sum()), int((after < before).sum())
    assert metric["difference"]["value"] == pytest.approx((after - before).mean())
    assert (len(metric["flips"]["gained"]), len(metric["flips"]["lost"])) == (gained, lost)
    assert metric["flips"]["same"] == 120 - gained - lost
    assert metric["flips"]["p"] == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert metric["verdict"] == "no difference shown"


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (9, 2), (30, 30), (400, 460)])
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected)


def learning_rate(folder: Path, method: str) -> float:
    return float(json.loads((folder / method / "seed-0.json").read_text())["learning_rate"])


def test_two_folders_and_their_settings() -> None:
    pairs, flops = AXES / "pairs-64", AXES / "iso-flops-1e13"
    found = record(pairs, flops)
    methods = {"dpo", "online-dpo", "sail-pr"}
    assert {row["first"] for row in found["rows"]} == methods | {"start"}
    settings = {s["key"]: (s["first"], s["second"]) for s in found["settings"]}
    assert settings["budget.axis"] == ("pairs", "flops")
    rates = {m: (learning_rate(pairs, m), learning_rate(flops, m)) for m in methods}
    for method, (first, second) in rates.items():
        assert settings.get(f"{method}: learning_rate", (first, first)) == (first, second)
    start = next(row for row in found["rows"] if row["first"] == "start")
    assert all(m["flips"]["gained"] == m["flips"]["lost"] == [] for m in start["metrics"])
    assert found["paired"]


def rewards(seed: int, gain: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(np.round(2 * (rng.uniform(0, 0.6, PEOPLE) + gain)) / 2, 0, 1)


def results_at(folder: Path, gain: float, protocol: str = "a" * 16, **changes: Any) -> Path:
    """Two seeds of one method, written as files."""
    zero = np.zeros(PEOPLE)
    for seed in (0, 1):
        run: RunResult = run_result(
            "dpo", [preference_result(rewards(seed, gain), zero, protocol)], seed, learning_rate=1e-3, **changes
        )
        write_result(result_path(folder, "demo", "pairs-96", "dpo", seed), run)
    return folder / "demo" / "pairs-96"


def run(*arguments: object) -> Finished:
    return run_here("diff", *arguments)


def test_exit_codes(tmp_path: Path) -> None:
    base, better = results_at(tmp_path / "a", 0.0), results_at(tmp_path / "b", 0.4)
    same = run(base, base)
    assert same.returncode == 0
    assert "0 gained, 0 lost" in same.stdout
    up = run(base, better, "--flips")
    assert up.returncode == 1
    assert " better (p " in up.stdout
    assert ", 2 seeds" in up.stdout
    assert "gained: " in up.stdout
    down = run(better, base)
    assert down.returncode == 1
    assert " worse (p " in down.stdout
    other = run(base, results_at(tmp_path / "c", 0.4, "b" * 16))
    assert other.returncode == 3
    assert "not paired: the protocols differ (p)" in other.stdout
    empty = run(base, ROOT / "docs")
    assert empty.returncode == 2
    assert "docs holds no finished results" in empty.stderr


def test_single_runs_pair_whatever_their_seed(tmp_path: Path) -> None:
    base = results_at(tmp_path / "a", 0.0) / "dpo"
    found = record(base / "seed-0.json", base / "seed-1.json")
    difference = found["rows"][0]["metrics"][0]["difference"]["value"]
    assert difference == pytest.approx(rewards(1, 0).mean() - rewards(0, 0).mean())


def test_versions_and_text_from_outside(tmp_path: Path) -> None:
    """An escape sequence or a mark that turns the line is left out of what a terminal shows."""
    base = results_at(tmp_path / "a", 0.0)
    environment = {"sail_bench": "9", "python": "3", "cores": 2, "libraries": {"torch": "\x1b[31m7\u202e"}}
    other = run(base, results_at(tmp_path / "b", 0.0, environment=environment, versions={"training": 1}))
    assert "sail_bench: 0 -> 9" in other.stdout
    assert "libraries.torch: absent -> \ufffd[31m7\ufffd\n" in other.stdout
    assert "versions.training: " in other.stdout
    assert "\x1b" not in other.stdout
    assert "\u202e" not in other.stdout


def test_rows_without_a_common_name(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_result(result_path(tmp_path / "c", "demo", "b", name, 0), run_result(name, []))
    none = run(FLOPS, tmp_path / "c" / "demo" / "b")
    assert none.returncode == 2
    assert "no row in common" in none.stderr
