"""The numbers behind report.html, against independent arithmetic."""

from __future__ import annotations

import itertools
import json
import zlib
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from kit.report_files import ESCAPES, HANDLER, HOSTILE, METHODS, write_comparison

from harness.report.board import Board
from harness.report.html.budget_ranks import Curve, _best, _leads, budget_json, crossings
from harness.report.html.faults import faults_json
from harness.report.html.payload import compressed_json, plain, script_json, visible
from harness.report.html.samples import _both_orders, sample_sets, set_json, why_none
from harness.report.html.scores import Point, columns_json, costs_json, pareto, wins_json
from harness.report.html.spending import phases_json, predictions_json
from harness.report.html.stored import Stored
from harness.score.results import read_results


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def board(comparison: Path) -> Board:
    return Board(read_results(comparison))


@pytest.fixture(scope="module")
def stored(comparison: Path) -> Stored:
    return Stored(comparison.parents[2] / "store")


@pytest.mark.parametrize("seed", range(20))
def test_the_pareto_line_is_the_envelope(seed: int) -> None:
    """A method is on the line exactly if no other has its score or more for less, or more for its cost or less."""
    rng = np.random.default_rng(seed)
    points = [Point(f"m{i}", float(rng.integers(5)), float(rng.integers(5))) for i in range(8)]
    best_up_to = {p.cost: max(q.score for q in points if q.cost <= p.cost) for p in points}
    cheapest = {p.score: min(q.cost for q in points if q.score >= p.score) for p in points}
    expected = {p.method for p in points if p.score == best_up_to[p.cost] and p.cost == cheapest[p.score]}
    front = pareto(points)
    assert set(front) == expected
    costs = [next(p.cost for p in points if p.method == m) for m in front]
    assert costs == sorted(costs)


def straight(shares: list[float], values: list[float], spread: float = 0.0, seed: int = 0) -> Curve:
    noise = spread * np.random.default_rng(seed).normal(size=(1, 50, len(shares)))
    return Curve(np.array(shares), np.array([values]), np.array(values) + noise, 30)


def test_a_curve_is_read_by_linear_interpolation() -> None:
    curve = straight([0, 0.25, 0.5, 1], [0.4, 0.7, 0.5, 0.9])
    for share in np.linspace(0, 1, 17):
        expected = np.interp(share, curve.shares, curve.values[0])
        estimate = curve.at(float(share))
        assert estimate.values == pytest.approx([expected])
        assert estimate.samples == pytest.approx(np.full((1, 50), expected))


def test_two_lines_cross_where_algebra_says() -> None:
    """0.4 + 0.2 x and 0.6 - 0.2 x to the middle, both from one start: they meet at x = 0.5 of the second half."""
    steep, flat = straight([0, 0.5, 1], [0.4, 0.4, 0.8]), straight([0, 0.5, 1], [0.4, 0.6, 0.6])
    (crossing,) = crossings({"steep": steep, "flat": flat})
    assert (crossing.ahead, crossing.behind) == ("steep", "flat")
    assert crossing.at == pytest.approx(0.75)  # 0.4 + 0.8 (x - 0.5) = 0.6
    assert crossing.agree == 1
    assert crossings({"a": steep, "b": steep}) == []
    assert _leads("steep", crossing.at, {"steep": steep, "flat": flat})
    above = Curve(flat.shares, flat.values + 9, flat.samples + 9, flat.prompts)
    assert not _leads("steep", crossing.at, {"steep": steep, "flat": flat, "above": above})


def test_the_chance_to_be_best_counts_resamples() -> None:
    curves = {f"m{i}": straight([0, 1], [0.4, 0.5], spread=0.1, seed=i) for i in range(3)}
    counts = dict.fromkeys(curves, 0.0)
    for r in range(50):
        values = {name: curve.samples[0, r, 1] for name, curve in curves.items()}
        counts[max(values, key=lambda name: values[name])] += 1 / 50
    assert _best({name: curve.at(1.0) for name, curve in curves.items()}) == pytest.approx(counts)


def test_the_ranks_of_a_board_end_at_its_scores(board: Board) -> None:
    ranks = budget_json(board)
    assert ranks is not None
    column = next(c for c in board.columns(benchmark="curve") if c.metric.name == "reward_1")
    assert set(ranks["bands"]) == set(METHODS) - {"start"}
    for method, bands in ranks["bands"].items():
        cell = board.cell(method, column)
        assert cell is not None
        assert bands[-1] == pytest.approx(
            {"value": cell.interval.value, "low": cell.interval.low, "high": cell.interval.high}
        )
    assert ranks["budgets"][0] == 0
    assert ranks["budgets"][-1] == 96
    assert sum(shares[-1] for shares in ranks["best"].values()) == pytest.approx(1)
    for crossing in ranks["crossings"]:
        place = min(range(len(ranks["budgets"])), key=lambda i: abs(ranks["budgets"][i] - crossing["at"]))
        means = {method: bands[place]["value"] for method, bands in ranks["bands"].items()}
        if crossing["leads"]:
            assert means[crossing["ahead"]] == pytest.approx(max(means.values()), abs=0.03)


def test_wins_are_counted_prompt_by_prompt(board: Board) -> None:
    matrix = next(m for m in wins_json(board) if m["id"].startswith("preference/"))
    rewards = {r.method: r.benchmarks[0].items["items"]["reward"] for r in board.finished}
    for a, b in itertools.permutations(METHODS, 2):
        points = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in zip(rewards[a], rewards[b], strict=True)]
        assert matrix["cells"][a][b]["value"] == pytest.approx(100 * sum(points) / len(points))


def test_costs_and_predictions_are_those_of_the_ledger(board: Board, stored: Stored) -> None:
    costs, (first, *_) = costs_json(board), columns_json(board)
    assert costs["matched"] == "pairs"
    assert (
        costs["spent"]["sail-pr"] | {"flops": 8e11, "seconds": 120 / costs["time"], "pairs": 96}
        == costs["spent"]["sail-pr"]
    )
    assert first["cells"]["dpo"]["value"] == pytest.approx(
        np.mean(board.runs_of("dpo")[0].benchmarks[0].items["items"]["reward"])
    )
    rows = {(r["method"], r["axis"]): r for r in predictions_json(board, stored)}
    assert rows["dpo", "training FLOPs"] == {
        "method": "dpo",
        "axis": "training FLOPs",
        "predicted": 5e11,
        "spent": 4e11,
    }
    phases = phases_json(board)["rows"]
    assert {
        "method": "dpo",
        "phase": "evaluation",
        "flops": 1e12,
        "hours": 30 / 3600,
        "generated": 0,
        "calls": 0,
    } in phases


@pytest.mark.parametrize(("forward", "backward"), [(0.9, 0.8), (0.5, 0.5), (0.2, 0.7)])
def test_both_orders_follow_from_the_stored_means(forward: float, backward: float) -> None:
    """``forward``, ``backward``: probability of the first slot with this answer first, and second."""
    first, shown_first = (forward + 1 - backward) / 2, (forward + backward) / 2
    orders = list(_both_orders(first, shown_first))
    assert [j.verdict for j in orders] == [f"{forward:.0%} for this answer", f"{1 - backward:.0%} for this answer"]


def test_samples_carry_values_verdicts_and_what_judges_wrote(board: Board, stored: Stored) -> None:
    sets = {s.benchmark: s for s in sample_sets(board, stored)}
    assert set(sets) == {"preference", "arena"}
    run = board.runs_of("sail-pr")[0].benchmarks
    for place, sample in enumerate(sets["preference"].runs["sail-pr"]):
        columns = run[0].items["items"]
        assert (sample.id, sample.value) == (columns["id"][place], columns["reward"][place])
        assert sample.verdict == {1.0: "win", 0.5: "tie", 0.0: "loss"}[columns["win"][place]]
        assert HOSTILE in sample.answer[0]
    judged = sets["arena"].runs["dpo"][0]
    assert [j.which for j in judged.judgments] == ["this answer shown second (as B)", "this answer shown first (as A)"]
    assert all(HOSTILE in j.reason for j in judged.judgments)
    packed = set_json(sets["arena"])
    assert [item["id"] for item in packed["items"]] == [f"a-{i}" for i in range(12)]
    assert packed["answers"]["dpo"][3]["value"] == run_value(board, "dpo", 3)
    assert why_none(board, list(sets.values())) == ""


def run_value(board: Board, method: str, place: int) -> float:
    value: float = board.runs_of(method)[0].benchmarks[2].items["items"]["preference"][place]
    return value


def test_without_a_store_the_page_says_so(board: Board, tmp_path: Path) -> None:
    absent = Stored(tmp_path)
    assert sample_sets(board, absent) == []
    assert "--store" in why_none(board, [])
    assert predictions_json(board, absent) == []
    unnamed = Board([r.model_copy(update={"stages": {}}) for r in board.results])
    assert "did not record" in why_none(unnamed, [])


def test_faults_name_the_runs_that_show_them(board: Board, stored: Stored) -> None:
    faults = {f["id"]: f for f in faults_json(board, sample_sets(board, stored))}
    assert list(faults) == ["displacement", "length", "kl", "saturation", "template"]
    assert faults["displacement"]["shown"] == ["sail-pr"]  # the one whose chosen reward falls in its log
    assert faults["saturation"]["shown"] == [m for m in board.methods if m != "start"]
    assert all(len(f["examples"]) == 2 for f in faults.values())
    assert all(e["method"] == "sail-pr" for e in faults["displacement"]["examples"])


def test_hidden_characters_become_visible() -> None:
    assert visible(ESCAPES) == "⟦U+001B⟧[31mred⟦U+001B⟧[0m and ⟦U+202E⟧desrever⟦U+202C⟧ | pipe"
    assert visible("a\tb\nc\r\nd\u200fe\ufeff") == "a\tb\nc\nd⟦U+200F⟧e⟦U+FEFF⟧"
    assert visible("Ünïcode, 漢字, עברית, 👩") == "Ünïcode, 漢字, עברית, 👩"


def test_json_in_the_page_ends_no_element_and_loses_nothing() -> None:
    value = {HANDLER: [HOSTILE, "<!-- & \u2028", float("nan"), 1 / 3, None, True]}
    text = script_json(value)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == plain(value) == {HANDLER: [HOSTILE, "<!-- & ⟦U+2028⟧", None, 0.333333, None, True]}
    assert json.loads(zlib.decompress(b64decode(compressed_json(value)))) == plain(value)


def test_examples_of_length_drift_follow_the_drift(board: Board, stored: Stored) -> None:
    """Where answers shrink on the whole, the examples are those that shrank most."""
    sets = sample_sets(board, stored)
    runs = next(s.runs for s in sets if s.benchmark == "preference")
    shorter = [
        s._replace(tokens=(t.tokens or 0) - 3 - i)
        for i, (s, t) in enumerate(zip(runs["dpo"], runs["start"], strict=True))
    ]
    shorter[0] = shorter[0]._replace(tokens=(runs["start"][0].tokens or 0) + 30)
    only = [s._replace(runs={"start": runs["start"], "dpo": shorter}) for s in sets if s.benchmark == "preference"]
    length = next(f for f in faults_json(board, only) if f["id"] == "length")
    assert [e["id"] for e in length["examples"] if e["method"] == "dpo"] == [shorter[-1].id, shorter[-2].id]
