"""``show_result`` in our reports is what FastChat's own show_result.py prints, whatever the rows hold."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.mt_bench_files import played, rated, write_rows

from benchmarks.mt_bench.score_pairwise import score_pairwise_games
from benchmarks.mt_bench.score_single import score_single_ratings

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fastchat") is None, reason="fastchat is not installed")


def printed(text: str, column: int) -> dict[str, float]:
    """A number of each model in the last table that was printed."""
    lines = [line.split() for line in text.split("\n")]
    return {line[0]: float(line[column]) for line in lines if line[:1] in (["m"], ["n"]) and len(line) > column}


@pytest.mark.parametrize("seed", range(4))
def test_the_official_mean_of_messy_ratings(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastchat.llm_judge.show_result import display_result_single

    rng = np.random.default_rng(seed)
    scores: list[Any] = [-1, None, float("nan"), 85, 0, 3, 7.5, 9]
    texts = ["[[3]] or [[9]]", "<think>[[2]]</think>[[9]]", "none", "[[7]]", None]
    rows = [
        rated(q, t, scores[rng.integers(len(scores))], texts[rng.integers(len(texts))], model)
        for model, q, t, _ in itertools.product("mn", range(81, 87), (1, 2), range(2))
    ]
    rows += [rated(81, 1, 6, model="m"), rated(81, 1, 4, model="n")]
    path = write_rows(tmp_path / "single.jsonl", rows)
    display_result_single(argparse.Namespace(input_file=str(path), bench_name="mt_bench", model_list=None))
    official = printed(capsys.readouterr().out.split("## Average")[1], 1)
    report = score_single_ratings(path)
    assert {m: report.facts[m]["show_result"] for m in "mn"} == pytest.approx(official, abs=1e-6)
    assert all(report.facts[m]["differ"] for m in "mn")


@pytest.mark.parametrize("seed", range(4))
def test_the_official_win_rate_of_messy_games(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastchat.llm_judge.show_result import display_result_pairwise

    rng = np.random.default_rng(seed)
    texts = ["[[A]] or [[B]]", "<think>[[A]]</think>[[B]]", "none", "[[C]]", None]

    def drawn(values: list[Any]) -> tuple[Any, Any]:
        return tuple(values[i] for i in rng.integers(len(values), size=2))  # type: ignore[return-value]

    winners = ["model_1", "model_2", "tie", "error"]
    rows = [
        played(q, t, drawn(winners), drawn(texts)) | {"model_1": model}
        for model, q, t, _ in itertools.product("mn", range(81, 91), (1, 2), range(2))
    ]
    path = write_rows(tmp_path / "pair.jsonl", rows)
    display_result_pairwise(argparse.Namespace(input_file=str(path), baseline_model="base", model_list=None))
    official = printed(capsys.readouterr().out, 6)
    report = score_pairwise_games(path)
    assert {m: report.facts[m]["show_result"] / 100 for m in "mn"} == pytest.approx(official, abs=1e-6)
