"""lm-eval asked about a model with NaN in it: no item is valid, and the reason is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra lm-eval)")

import torch

from benchmarks.lmeval import ARC0, AnyTask
from harness.answer.policy import Policy
from harness.benchmark import EvalContext, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.judge.local import LocalJudge
from harness.oracles.constraints import ConstraintOracle
from harness.oracles.metered import MeteredOracle
from harness.score.validity import NOT_FINITE


@pytest.fixture
def context(load: Callable[[], Any], tokenizer: Any) -> EvalContext:
    model = load()
    with torch.no_grad():
        list(model.parameters())[-1].fill_(math.nan)
    policy = Policy(model, tokenizer, "broken", meter=Meter(Ledger()), cache=None)
    return EvalContext(policy, policy, LocalJudge(policy), MeteredOracle(ConstraintOracle(), Ledger()), [], [], 5)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def test_options_of_nan_are_not_valid(context: EvalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its argmax would be an option: a quarter of the answers right by chance."""
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    for split, count in (("train", 3), ("test", 5)):
        rows = [
            {"id": f"{split}{i}", "question": f"Is it {i}?", "choices": ["a", "bb", "ccc"], "answer": 0}
            for i in range(count)
        ]
        write(tmp_path / "arc_challenge" / f"{split}.jsonl", rows)
    benchmark = ARC0()
    rows = json.loads(json.dumps(benchmark.answer(context)))
    result = benchmark_result(benchmark, rows, {}, None)
    for name in ("acc", "acc_norm"):
        assert (result.metric(name).value, result.metric(name).n_valid, result.metric(name).n_total) == (None, 0, 5)
        assert result.invalid[name] == {NOT_FINITE: 5}


def test_a_perplexity_of_nan_is_not_valid(
    context: EvalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    for split in ("train", "validation", "test"):
        write(tmp_path / "lm_eval" / "wikitext" / f"{split}.jsonl", [{"page": f"some words {i}"} for i in range(3)])
    benchmark = AnyTask.member("wikitext")()
    rows = json.loads(json.dumps(benchmark.answer(context)))
    result = benchmark_result(benchmark, rows, {}, None)
    assert {m.value for m in result.metrics} == {None}
    assert result.invalid["word_perplexity"] == {NOT_FINITE: 3}
