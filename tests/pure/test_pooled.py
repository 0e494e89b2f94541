"""The pooled paired test: closed forms, its level by simulation, and what a board makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from kit.results import PEOPLE, preference_result, run_result
from scipy import stats

from harness.report.board import Board
from harness.report.trust import certificates_of, lottery_of, pooled_differences
from harness.score.bootstrap import draws
from harness.score.estimators import ESTIMATORS
from harness.score.item_values import item_values
from harness.score.pooled import PairedItems, pooled_difference
from harness.score.results import BenchmarkResult, RunResult


def test_one_benchmark_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 25), rng.normal(0, 2, 25)
    pooled = pooled_difference([PairedItems("x", (a - b)[None])])
    expected = stats.ttest_rel(a, b)
    assert pooled.interval.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    spread = (a - b).std(ddof=1)
    assert (pooled.interval.low, pooled.interval.high) == pytest.approx((low / spread, high / spread))


def test_several_benchmarks_are_stouffers_weighted_sum() -> None:
    """With many items z = sum of sqrt(n_b / N) z_b, whatever the benchmarks' units."""
    rng = np.random.default_rng(1)
    parts = {n: unit * rng.normal(0.05, 1, n) for n, unit in [(2000, 1.0), (900, 100.0), (4000, 0.01)]}
    pooled = pooled_difference([PairedItems(str(n), d[None]) for n, d in parts.items()])
    z = [d.mean() / d.std(ddof=1) * n**0.5 for n, d in parts.items()]
    p = stats.combine_pvalues(stats.norm.sf(z), method="stouffer", weights=[n**0.5 for n in parts]).pvalue
    assert pooled.interval.p == pytest.approx(2 * p, rel=0.02)
    assert pooled.items == {str(n): n for n in parts}


def level(rng: np.random.Generator, seeds: int, studies: int = 1500) -> float:
    """How often methods that are equal on average differ at 5%: flips, ratings and probabilities; seeds shift all."""
    hits = 0
    for _ in range(studies):
        shift = rng.normal(0, 0.1, (seeds, 1)) if seeds > 1 else 0.0
        flips = rng.choice([-1.0, 0.0, 1.0], p=[0.12, 0.76, 0.12], size=(seeds, 60))
        ratings = rng.normal(0, 1, 30) + rng.normal(0, 1, (seeds, 30))
        shares = rng.beta(2, 1, (seeds, 100)) - rng.beta(2, 1, (seeds, 100))
        benchmarks = [("a", flips, 0.5), ("b", ratings, 1), ("c", shares, 0.3)]
        parts = [PairedItems(name, d + scale * shift) for name, d, scale in benchmarks]
        hits += pooled_difference(parts).interval.p < 0.05
    return hits / studies


@pytest.mark.parametrize("seeds", [1, 3])
def test_level(seeds: int) -> None:
    """Nominal 5%; the error of 1,500 studies is 0.6 points. Over seeds it may be lower: it errs on the wide side."""
    found = level(np.random.default_rng(2), seeds)
    assert found < 0.05 + 3 * 0.0056
    if seeds == 1:
        assert found > 0.05 - 3 * 0.0056


def test_what_is_left_out_is_named() -> None:
    parts = [
        PairedItems("same", np.zeros((1, 50))),
        PairedItems("constant", np.full((1, 50), 0.1)),
        PairedItems("single", np.array([[1.0, np.nan]])),
        PairedItems("good", np.array([[1.0, -1.0, 2.0, np.nan]])),
    ]
    pooled = pooled_difference(parts)
    assert pooled.items == {"good": 3}
    assert pooled.left_out == {
        "same": "no item differs",
        "constant": "every item differs by the same",
        "single": "fewer than two items in common",
    }
    assert np.isnan(pooled_difference(parts[:3]).interval.p)
    with pytest.raises(ValueError, match="same seeds"):
        pooled_difference([parts[0], PairedItems("two", np.zeros((2, 50)))])


@pytest.mark.parametrize("kind", ["perplexity", "length_controlled", "weighted_percent", "pooled_mean"])
def test_item_values_have_the_estimates_mean_and_error(kind: str) -> None:
    """Jackknife against the estimator itself and against its bootstrap."""
    rng = np.random.default_rng(3)
    n = 300
    y, length = rng.uniform(0, 1, n), rng.integers(50, 400, n)
    columns = {
        "id": list(range(n)), "y": y.tolist(), "tokens": length.tolist(), "length": length.tolist(),
        "baseline_length": rng.integers(50, 400, n).tolist(), "weight": rng.uniform(1, 2, n).tolist(),
    }  # fmt: skip
    if kind == "pooled_mean":
        columns["y"] = [[v] * int(k) for v, k in zip(y, rng.integers(1, 3, n), strict=True)]
    values = item_values(kind, columns, "y")
    estimate, samples = ESTIMATORS[kind](columns, "y", np.ones((1, n)))[0], ESTIMATORS[kind](columns, "y", draws(n))
    assert values.mean() == pytest.approx(estimate, rel=5e-3)
    assert values.std(ddof=1) / n**0.5 == pytest.approx(samples.std(), rel=0.1)


def rows(better: float, seeds: int = 3) -> list[RunResult]:
    """A start policy, and two methods with a gap in reward, which a second benchmark on the same prompts repeats."""
    rng = np.random.default_rng(4)
    prompts, zero = rng.uniform(0, 0.5, PEOPLE), np.zeros(PEOPLE)

    def results(gap: float, noise: float) -> list[BenchmarkResult]:
        first = preference_result(prompts + gap + rng.normal(0, noise, PEOPLE), zero)
        protocol = {"protocol": {"prompts": "abc"}}
        return [first.model_copy(update=protocol), first.model_copy(update=protocol | {"benchmark": "curve"})]

    made = [run_result("start", results(0, 0), reference="dpo")]
    for seed in range(seeds):
        for method, gap in (("dpo", 0.1), ("sail-pr", 0.1 + better)):
            made.append(run_result(method, results(gap, 0.1), seed, reference="dpo", learning_rate=1e-3))
    return made


def test_a_board_pools_each_prompt_once() -> None:
    board = Board(rows(0.1))
    family = pooled_differences(board, "dpo")
    verdicts = {d.model: d.verdict for d in family.differences}
    assert verdicts == {"start": "worse", "sail-pr": "better"}
    assert family.pooled["sail-pr"].items == {"preference": PEOPLE}
    assert family.pooled["sail-pr"].left_out == {"curve": "on the prompts of preference"}
    assert family.pooled["start"].seeds == 3
    column = board.columns(primary=True)[0]
    assert lottery_of(board, column).winner == "sail-pr"
    assert lottery_of(Board(rows(0.1, seeds=1)), column).text == "one seed: unknown"
    assert [c.text for c in certificates_of(board).values()] == ["not tuned: one value of learning rate"] * 2
