"""The verdict of a page: each rule on made-up boards, every branch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from kit.results import PEOPLE, run_result

from harness.report.board import Board
from harness.report.legend_words import uneven_marks, words_of
from harness.report.ranking import ranking_of
from harness.report.summary import summary_json, summary_of
from harness.report.summary_choice import choice
from harness.report.summary_facts import Elsewhere, facts_of
from harness.report.summary_rules import elsewhere
from harness.report.summary_words import duration
from harness.score.metrics import evaluate, metric
from harness.score.results import BenchmarkResult, RunResult
from harness.store.versions import VERSIONS

RNG = np.random.default_rng(3)
BASE = RNG.uniform(0.1, 0.4, PEOPLE)
WIGGLE = RNG.normal(0, 0.02, (40, PEOPLE))
WIGGLE -= WIGGLE.mean(1, keepdims=True)

Judge = dict[str, Any] | None


def result(rewards: np.ndarray, unit: str = "share met", better: int = 1, judge: Judge = None) -> BenchmarkResult:
    items = {"items": {"id": list(range(PEOPLE)), "y": rewards.tolist()}}
    declared = metric("gold_reward", "gold reward", unit, better, "mean", "y", primary=True)  # type: ignore[arg-type]
    return BenchmarkResult(
        benchmark="preference", title="Preference", label="mini", protocol={"version": 1}, protocol_hash="p" * 16,
        judge=judge, metrics=[evaluate(declared, items)], items=items,
    )  # fmt: skip


def run(method: str, gain: float | None, seed: int = 0, seconds: float = 60.0, **changes: Any) -> RunResult:
    """A run whose rewards lie ``gain`` above those of ``start``, but for a little noise; None: without a score."""
    place = sum(map(ord, method)) + 7 * seed
    kept = {k: changes.pop(k) for k in ("unit", "better", "judge") if k in changes}
    rewards = None if gain is None else BASE + gain + (WIGGLE[place % 40] if method != "start" else 0)
    phases = {"train": {"pairs": 96, "steps": 12, "seconds": seconds, "forward_flops": 1e12}}
    ledger = {"phases": {} if method == "start" else phases, "peak_memory_bytes": 0}
    benchmarks = [] if rewards is None else [result(rewards, **kept)]
    rate = None if method == "start" else 1e-3
    return run_result(method, benchmarks, seed, learning_rate=rate, **{"ledger": ledger} | changes)


def failed(method: str, seed: int = 0) -> RunResult:
    return run_result(method, [], seed, status="failed", error="no number", ledger={})


def verdict(*runs: RunResult) -> dict[str, str]:
    """The sentence that each rule is part of."""
    return {name: s.text for s in summary_of(Board(runs)).sentences for name in s.rules}


START, DPO, DPO_LIKE_START = run("start", 0), run("dpo", 0.3), run("dpo", 0.0004)


def test_all_beat_the_start_and_nothing_else_is_shown() -> None:
    said = verdict(START, DPO, run("sail-pr", 0.3, seconds=120))
    assert said["against_start"].startswith("On gold reward (mini), both trained methods beat `start` (by 0.300).")
    assert said["against_reference"].startswith(
        "`sail-pr` is not shown to differ from `dpo`. This comparison had an 80% "
    )
    assert "With one seed each, we cannot say how another seed would turn out" in said["seeds"]
    assert said["cost"].startswith(
        "Matched on 96 pairs alone, a run took 1 minute (`dpo`) to 2 minutes (`sail-pr`) on a CPU"
    )
    assert said["choice"].endswith(
        "For 96 pairs, the intervals do not separate the methods that beat `start`, so cost may decide: `dpo` took the "
        "least time."
    )
    assert set(said) == {"against_start", "against_reference", "detectable", "seeds", "cost", "choice"}


def test_one_is_better_than_the_reference() -> None:
    """For more money, for the same, and where the reference itself does not help."""
    dear = verdict(START, DPO, run("sail-pr", 0.5, seconds=120), run("ipo", 0.3))
    assert dear["against_reference"].startswith("`sail-pr` is better than `dpo` (+0.20")
    assert "and `ipo` is not shown to differ from `dpo`" in dear["against_reference"]
    assert dear["choice"].endswith("For 96 pairs, choose `sail-pr` if you can spend 2 minutes, `dpo` if only 1 minute.")
    same = verdict(START, DPO, run("sail-pr", 0.5))
    assert same["choice"].endswith("For 96 pairs, choose `sail-pr`, which is better and costs no more than `dpo`.")
    useless = verdict(START, run("dpo", -0.001), run("sail-pr", 0.5, seconds=120))
    assert (
        "`sail-pr` beats `start` (by 0.500) and `dpo` is not shown to differ from `start`" in useless["against_start"]
    )
    assert useless["choice"].endswith("For 96 pairs, choose `sail-pr`.")
    unpriced = run("sail-pr", 0.5, ledger={"phases": {}, "peak_memory_bytes": 0})
    assert verdict(START, DPO, unpriced)["choice"].endswith("For 96 pairs, choose `sail-pr`.")


def test_several_are_better_and_the_cheapest_of_them_is_named() -> None:
    said = verdict(START, DPO, run("a", 0.5, seconds=300), run("b", 0.6, seconds=120))
    assert said["against_reference"].startswith("`b` and `a` are better than `dpo`. ")
    assert said["choice"].endswith("For 96 pairs, choose `b` if you can spend 2 minutes, `dpo` if only 1 minute.")


def test_some_are_worse() -> None:
    said = verdict(START, DPO, run("a", 0.1), run("b", -0.2))
    assert said["against_start"] == (
        "On gold reward (mini), `dpo` and `a` beat `start` (by 0.100 for `a` to 0.300 for `dpo`) and `b` is worse than "
        "`start`."
    )
    assert said["against_reference"].startswith("`a` and `b` are worse than `dpo`. ")
    assert said["choice"].endswith("For 96 pairs, choose `dpo`: the others are shown to be worse.")
    mixed = verdict(START, run("dpo", 0.02), run("a", 0.002), run("b", -0.2))
    assert mixed["choice"].endswith("For 96 pairs, choose `dpo`: the others are shown to be worse.")
    alone = verdict(START, run("dpo", 0.008), run("a", 0.003), run("b", -0.2))
    assert alone["choice"].endswith(
        "For 96 pairs, choose `dpo`: the others are shown to be worse, or not shown to beat `start`."
    )
    near = verdict(START, run("dpo", 0.008), run("a", 0.003))
    assert near["choice"].endswith("For 96 pairs, choose `dpo`: it alone is shown to beat `start`.")
    against_a = [r.model_copy(update={"reference": "a"}) for r in (START, run("a", 0.0005), run("b", 0.0006))]
    assert verdict(*against_a, DPO)["choice"].endswith(
        "For 96 pairs, choose `dpo`, which is better and costs no more than `a`."
    )


def test_all_are_worse_than_the_start() -> None:
    said = verdict(START, run("dpo", -0.1), run("a", -0.2))
    assert said["against_start"] == "On gold reward (mini), both trained methods are worse than `start`."
    assert said["choice"].endswith(
        "For 96 pairs, none is shown to be worth its cost over `start`, which costs nothing."
    )


def test_nobody_is_shown_to_differ_from_the_start() -> None:
    on = "On gold reward (mini), "
    two, three = (DPO_LIKE_START, run("a", 0.0005)), run("b", 0.0006)
    assert verdict(START, *two)["against_start"] == f"{on}neither trained method is shown to differ from `start`."
    assert verdict(START, *two, three)["against_start"] == (
        f"{on}none of the 3 trained methods is shown to differ from `start`."
    )
    assert verdict(START, two[0])["against_start"] == f"{on}`dpo` is not shown to differ from `start`."
    some = verdict(START, *two, run("c", 0.3))
    assert some["against_start"].endswith(
        "`c` beats `start` (by 0.300) and `a` and `dpo` are not shown to differ from `start`."
    )


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.011 / 60, "0.66 seconds"), (1 / 3600, "1 second"), (40 / 3600, "40 seconds"), (1 / 60, "1 minute"),
        (4.7 / 60, "4.7 minutes"), (1, "1 hour"), (3.21, "3.21 hours"), (1234.4, "1,234 hours"),
    ],
)  # fmt: skip
def test_durations_are_numbers_to_read(hours: float, text: str) -> None:
    assert duration(hours) == text


def test_many_are_counted_and_not_named() -> None:
    runs = [run(f"m{i}", 0.3) for i in range(5)] + [run("n", -0.2)]
    said = verdict(START, DPO, *runs)
    assert said["against_start"] == (
        "On gold reward (mini), 6 of 7 trained methods beat `start` (by 0.300) and `n` is worse than `start`."
    )
    assert "none of the other 5 trained methods is shown to differ from `dpo`" in said["against_reference"]
    none = verdict(START, DPO, *runs[:5])
    assert none["against_reference"].startswith("None of the other 5 trained methods is shown to differ from `dpo`. ")


def test_what_the_set_could_have_shown() -> None:
    """In the unit of the table, with the chance for 5 points by a normal law of the paired difference."""
    other = run("sail-pr", 0.3)
    said = verdict(START, DPO, other)["detectable"]
    size = float(said.split("detecting a true difference of ")[1].split(",")[0])
    board = Board([START, DPO, other])
    difference = board.difference("sail-pr", "dpo", board.columns(primary=True)[0])
    assert difference is not None
    assert size == pytest.approx(2.8 * difference.error, rel=0.1)
    assert "and 99% for 0.05." in said
    wide = [run(m, g, unit="win %") for m, g in (("start", 0), ("dpo", 30.0), ("sail-pr", 30.0))]
    assert " points, and 99% for 5 points." in verdict(*wide)["detectable"]
    rated = [run(m, g, unit="rating 1-9") for m, g in (("start", 0), ("dpo", 3.0), ("sail-pr", 3.0))]
    assert "had an 80% chance of detecting a true difference of 0.01." in verdict(*rated)["detectable"]
    exact = [run_result(m, [result(BASE)], learning_rate=rate) for m, rate in (("dpo", 0.1), ("sail-pr", 0.1))]
    assert "80% chance" in verdict(*exact)["detectable"], "identical rows say what unpaired sets would show"
    flat = [r.model_copy(update={"benchmarks": [result(np.ones(PEOPLE))]}) for r in exact]
    assert "How small a difference would have shown is not known" in verdict(*flat)["detectable"]


def test_cost_decides_only_where_it_differs_and_nothing_speaks_against_the_cheapest() -> None:
    """Within a tenth, the cheapest are named together; one whose difference to the reference lies below 0 is not."""
    undecided = "For 96 pairs, the intervals do not separate the methods that beat `start`"
    near = verdict(START, DPO, run("a", 0.3, seconds=55), run("b", 0.3, seconds=300))["choice"]
    assert near.endswith(
        f"{undecided}, and neither does cost: `a` and `dpo` took the least time, within 10% of each other."
    )
    dear = [run("dpo", 0.3, seconds=100), run("b", 0.3, seconds=300)]
    board = Board([START, *dear, run("a", 0.3, seconds=10)])
    facts = facts_of(board, ranking_of(board))
    assert facts.from_reference is not None
    assert choice(facts) == f"f{undecided[1:]}, so cost may decide: `a` took the least time"
    difference = facts.from_reference["a"]
    below = replace(difference, interval=difference.interval.__class__(-0.02, -0.03, -0.01, 0.005))
    assert choice(replace(facts, from_reference=facts.from_reference | {"a": below})) == (
        f"f{undecided[1:]}, so cost may decide: `dpo` took the least time (left out: `a`, whose difference to `dpo` "
        "has an interval wholly below 0)"
    )
    rated = replace(facts, elsewhere=(Elsewhere("MT-Bench", "", ("start",), ("a", "b")),))
    assert choice(rated).endswith(
        "; `dpo` is the safe choice (left out: `a` and `b`, worse than `dpo` in another headline)"
    ), "a mark in another headline counts"
    assert elsewhere(rated) == "on MT-Bench, `start` is better than `dpo` and `a` and `b` are worse than `dpo`"
    assert elsewhere(replace(rated, elsewhere=())) == ""


def test_a_larger_difference_without_a_mark_is_explained() -> None:
    """`a` is a little worse with every seed, `b` is worse by more on average, and better with one seed."""
    runs = [run("dpo", 0.3, seed) for seed in range(3)] + [run("a", 0.25, seed) for seed in range(3)]
    runs += [run("b", gain, seed) for seed, gain in enumerate((0.35, -0.05, 0.1))]
    board = Board([START, *runs])
    text = uneven_marks(board, ranking_of(board))
    assert "`a` (−0.050) has one and `b` (−0.167) has none, since the latter varies more over prompts and seeds" in text
    alike = Board([START, *runs[:6]])
    assert uneven_marks(alike, ranking_of(alike)) == ""
    nothing = Board([failed("dpo")])
    assert uneven_marks(nothing, ranking_of(nothing)) == words_of([]) == ""
    words = words_of(board.columns(primary=True))
    assert words.startswith("Words: gold reward is what the evaluation oracle gives")
    assert "mini is" in words and "labels are" in words and "LC" not in words


def test_seeds() -> None:
    three = [run(m, 0.3, seed) for m in ("dpo", "sail-pr") for seed in range(3)]
    assert "The intervals include the spread over 3 seeds" in verdict(START, *three)["seeds"]
    apart = [run("dpo", 0.3, seed) for seed in range(2)] + [
        run("sail-pr", gain, seed) for seed, gain in enumerate((0.1, 0.9))
    ]
    lottery = "the chance is 50% that with a single seed another method than `sail-pr` would have come first"
    assert lottery in verdict(START, *apart)["seeds"], "its seed 0 loses to both, its seed 1 beats both"
    assert "spread over 2-3 seeds" in verdict(START, *three[:5])["seeds"]
    assert "up to 3 seeds, but a row with one says nothing" in verdict(START, *three[:4])["seeds"]
    assert "With one seed, we cannot say how another seed would turn out" in verdict(START, DPO)["seeds"]


def test_the_reference_is_alone_absent_or_the_start() -> None:
    assert verdict(START, DPO)["against_reference"].startswith("No other trained method has a score to compare with")
    assert "choice" not in verdict(START, DPO)
    without = verdict(START, failed("dpo"), run("a", 0.3))
    assert without["against_reference"].startswith(
        "`dpo` has no score, so no method can be compared with it. This comp"
    )
    assert without["failed"] == "`dpo` failed."
    own = [r.model_copy(update={"reference": "start"}) for r in (START, DPO, run("a", 0.3))]
    said = verdict(*own)
    assert "against_reference" not in said
    assert said["detectable"].startswith("This comparison had an 80% chance of detecting a true difference of ")
    assert said["choice"].endswith("and neither does cost: they took about the same.")


def test_without_a_start_policy() -> None:
    said = verdict(DPO, run("a", 0.1))
    assert said["against_start"].endswith("`start` has no score, so whether training helped is not known.")
    assert said["choice"].endswith("For 96 pairs, choose `dpo`: the others are shown to be worse.")


def test_nothing_trained_nothing_finished_nothing_to_rank() -> None:
    assert verdict(START) == {"against_start": "On gold reward (mini), no trained method has a score yet."}
    only = verdict(failed("dpo"), failed("a"))
    assert only == {
        "nothing_to_rank": "No run has finished, so nothing can be compared yet.",
        "failed": "`a` and `dpo` failed.",
    }
    neither = verdict(*[run(m, g, better=0) for m, g in (("start", 0), ("dpo", 0.3))])
    assert neither["nothing_to_rank"] == "No score of this page ranks methods, so none is recommended."
    assert "choice" not in neither
    assert verdict(run("start", None), run("dpo", None))["nothing_to_rank"].startswith("No score of this page")


def test_what_is_missing() -> None:
    waiting = run("sail-pr", None, pending=["Preference"])
    said = verdict(START, DPO, waiting, failed("ipo"), failed("dpo", 1))
    assert said["pending"] == (
        "`ipo` failed and some seeds of `dpo` failed. `sail-pr` is not measured on all benchmarks yet."
    )
    old = VERSIONS | {"sampler": 0}
    assert verdict(START, run("dpo", 0.3, versions=old))["stale"] == (
        "**Stale**: `dpo` is of an earlier version of SAIL-bench."
    )
    every = verdict(run("start", 0, versions=old), run("dpo", 0.3, versions=old))
    assert every["stale"] == "**Stale**: all rows are of an earlier version of SAIL-bench."


def test_who_judged() -> None:
    endpoint = {"kind": "endpoint", "model": "gpt-4", "endpoint": "e"}
    local = {"kind": "local log-probability", "model": "start-1", "orders": "both"}
    judged = [[run(m, g, judge=j) for m, g in (("start", 0), ("dpo", 0.3))] for j in (endpoint, local)]
    assert verdict(*judged[0])["against_start"].startswith("On gold reward (mini) (judged by `gpt-4`), `dpo` beats")
    assert "(judged by the start policy itself, a weak judge)" in verdict(*judged[1])["against_start"]


def test_controls_win_nothing() -> None:
    said = verdict(START, DPO, run("dpo-shuffled-labels", 0.6), run("sail-pr", 0.3))
    assert said["against_start"].startswith("On gold reward (mini), both trained methods beat `start` (by ")
    assert not any("shuffled" in text for text in said.values())


def test_costs_by_what_is_matched() -> None:
    def matched(axis: str, limit: float, *runs: RunResult) -> str:
        budget = {"name": "b", "axis": axis, "limit": limit}
        return verdict(*[r.model_copy(update={"budget": budget}) for r in runs])["cost"]

    gpu = {"sail_bench": "0", "python": "3", "cores": 2, "libraries": {}, "gpu": {"name": "H"}}
    runs = (START, DPO, run("sail-pr", 0.3, seconds=7200, environment=gpu))
    assert matched("flops", 1e13, *runs).startswith(
        "Matched on 10¹³ FLOPs alone, a run took 1 minute (`dpo`) to 2 hours (`sail-pr`) on a GPU. "
    )
    assert matched("seconds", 60, *runs).startswith("Matched on 60 seconds alone, a run took about 10¹² FLOPs. ")
    free = run("dpo", 0.3, ledger={"phases": {}, "peak_memory_bytes": 0})
    assert "cost" not in verdict(START, free)


def test_the_json_holds_the_table() -> None:
    board = Board([START, DPO, run("sail-pr", 0.5), failed("ipo")])
    ranking = ranking_of(board)
    data = summary_json(board, ranking, summary_of(board, ranking))
    assert [row["method"] for row in data["rows"]] == ["sail-pr", "dpo", "ipo", "start"]
    assert [row["control"] for row in data["rows"]] == [False, False, False, True]
    first, _, broken, start = data["rows"]
    assert first["scores"][0]["value"] == pytest.approx(float(BASE.mean() + 0.5), rel=1e-5)
    assert (first["scores"][0]["verdict"], start["scores"][0]["verdict"]) == ("better", "worse")
    assert (first["hours"], start["hours"], broken["error"]) == (pytest.approx(1 / 60, rel=1e-5), None, "no number")
    assert broken["scores"] == [{"missing": "failed"}]
    assert data["headline"] == "gold reward (mini)"
