"""Cells of a board: all seeds at once as one by one, and one column for a benchmark whose protocol was raised."""

from __future__ import annotations

import numpy as np
import pytest
from kit.results import PEOPLE, preference_result, run_result

from harness.report.board import Board
from harness.score.bootstrap import draws, replicates, replicates_of_runs
from harness.score.results import RunResult
from harness.store.versions import VERSIONS

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("kind", ["mean", "percent", "weighted_mean"])
def test_seeds_together_are_as_one_by_one(kind: str) -> None:
    """With missing values at different prompts, a seed without any, one with a single one, and a constant one."""
    rows = [list(RNG.normal(size=40)) for _ in range(5)]
    rows[1][3:9] = [None] * 6
    rows[2] = [None] * 40
    rows[3] = [None] * 39 + [1.0]
    rows[4] = [0.1] * 40
    runs = [{"id": list(range(40)), "y": row, "weight": [1 + i % 3 for i in range(40)]} for row in rows]
    together = replicates_of_runs(kind, runs, "y")
    for run, estimate in zip(runs, together, strict=True):
        alone = replicates(kind, run, "y")
        np.testing.assert_allclose(estimate.value, alone.value, rtol=1e-12)
        np.testing.assert_allclose(estimate.samples, alone.samples, rtol=1e-10, atol=1e-12)
    if kind != "weighted_mean":
        assert set(together[4].samples) == {together[4].value}, "what is constant has no spread at all"


def test_draws_are_the_same_for_small_and_large_sets() -> None:
    for count in (1000, 1001):
        assert draws(count, 3).sum(1).tolist() == [count] * 3
        assert draws(count, 3) is draws(count, 3)


def rows(protocol: str, version: int, versions: dict[str, int], *methods: str) -> list[RunResult]:
    results = []
    for place, method in enumerate(methods):
        rewards = np.clip(RNG.normal(0.4 + place / 10, 0.2, PEOPLE), 0, 1)
        result = preference_result(rewards, np.ones(PEOPLE), protocol)
        result = result.model_copy(update={"protocol": {"version": version}})
        results.append(run_result(method, [result], versions=versions, learning_rate=0.1 * place or None))
    return results


OLD = VERSIONS | {"sampler": 0}


@pytest.mark.parametrize("versions", [(OLD, VERSIONS), (VERSIONS, VERSIONS)])
def test_a_raised_protocol_has_one_column(versions: tuple[dict[str, int], dict[str, int]]) -> None:
    board = Board(rows("a" * 16, 1, versions[0], "dpo", "sail-pr") + rows("b" * 16, 2, versions[1], "start"))
    (column,) = board.columns(primary=True)
    assert column.protocol_hash == "b" * 16
    assert column.heading == "gold reward (mini, v2), share met"
    assert {c.protocol_hash for c in board.older_columns()} == {"a" * 16}
    assert board.cell("start", column)
    assert board.cell("dpo", column) is None


def test_two_protocols_of_one_age_have_columns_of_different_names() -> None:
    board = Board(rows("a" * 16, 1, VERSIONS, "dpo") + rows("b" * 16, 1, VERSIONS, "start"))
    assert [c.heading for c in board.columns(primary=True)] == [
        "gold reward (mini, v1, aaaaaa), share met",
        "gold reward (mini, v1, bbbbbb), share met",
    ]
    assert board.older_columns() == []
