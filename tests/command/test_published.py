"""Published numbers, and that ours stand beside them only where model, benchmark, version and judge are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from kit.command import run_here
from kit.results import PEOPLE, run_result

from harness.recipe.load import load_recipe
from harness.report.published import published
from harness.run.publish import _HUB_NAME
from harness.score.metrics import evaluate, metric
from harness.score.results import BenchmarkResult, result_path, write_result

ZEPHYR = {"model": "custom", "hub": "alignment-handbook/zephyr-7b-sft-full@abc", "key": "start-1"}
JUDGE = {"kind": "endpoint", "model": "gpt-4-1106-preview", "endpoint": "x"}


def alpaca(label: str = "official set", judge: dict[str, Any] | None = JUDGE) -> BenchmarkResult:
    items: dict[str, Any] = {"items": {"id": list(range(PEOPLE)), "v": np.linspace(0, 0.3, PEOPLE).tolist()}}
    return BenchmarkResult(
        benchmark="alpaca_eval_2", title="AlpacaEval 2", label=label, protocol={}, protocol_hash="p", judge=judge,
        metrics=[evaluate(metric("lc", "AlpacaEval 2 LC", "win %", 1, "percent", "v", primary=True), items)],
        items=items,
    )  # fmt: skip


def beside(folder: Path, result: BenchmarkResult, start: dict[str, Any]) -> dict[str, Any]:
    run = run_result("sail-pp", [result], start=start, learning_rate=1e-3)
    write_result(result_path(folder, "demo", "b", "sail-pp", 0), run)
    rows = json.loads(run_here("published", "--results", folder, "--json").stdout)["scores"]
    assert len(rows) == 13
    return next(row for row in rows if row["benchmark"] == "alpaca_eval_2" and row["method"] == "sail-pp")


def test_the_same_protocol_stands_beside_it(tmp_path: Path) -> None:
    row = beside(tmp_path, alpaca(), ZEPHYR)
    assert row["value"] == 15.9
    assert row["ours"][0] == pytest.approx(15.0)
    assert row["not_beside"] is None
    text = run_here("published", "--results", tmp_path).stdout
    assert "15.9 win %; ours 15.0 [" in text


@pytest.mark.parametrize(
    ("result", "start", "reason"),
    [
        (alpaca(), ZEPHYR | {"hub": "other/model"}, "ours starts from other/model"),
        (alpaca("first 100 instructions"), ZEPHYR, "ours is of first 100 instructions, not of the official set"),
        (alpaca(judge=JUDGE | {"model": "gpt-5"}), ZEPHYR, "ours is judged by gpt-5, not by gpt-4-1106-preview"),
        (alpaca(judge=None), ZEPHYR, "ours is judged by none"),
    ],
)
def test_another_protocol_does_not(result: BenchmarkResult, start: dict[str, Any], reason: str, tmp_path: Path) -> None:
    row = beside(tmp_path, result, start)
    assert row["ours"] is None
    assert reason in row["not_beside"]


def test_without_results_and_with_the_committed_ones(tmp_path: Path) -> None:
    for folder in (tmp_path, ROOT / "results"):
        rows = json.loads(run_here("published", "--results", folder, "--json").stdout)["scores"]
        assert all(row["ours"] is None and row["not_beside"] for row in rows)


def test_names_are_those_of_this_project() -> None:
    """Benchmarks exist, and models are those that the built-in recipes start from."""
    from harness.run.plugins import plugins

    models = {
        load_recipe(name).model.partition("@")[0] for name in ("zephyr-7b-ultrafeedback", "llama3-8b-ultrafeedback")
    }
    for score in published().scores:
        assert score.benchmark in plugins("benchmarks")
        assert score.method in plugins("methods")
        assert score.model in models
        assert score.source in published().sources


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("org/name", True),
        ("org/name@abc123", True),
        ("/home/me/model", False),
        ("./model", False),
        ("tiny", False),
        ("a/b/c", False),
    ],
)
def test_paths_are_no_hub_names(name: str, is_one: bool) -> None:
    assert bool(_HUB_NAME.fullmatch(name)) == is_one
