"""Figures of a judge card: constructed judges, plain counting, scikit-learn, and the pages that show them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from kit.judge_cards import LENGTHS, items_of
from kit.results import run_result as run

from harness.judge import card_figures as cards
from harness.judge.prompts import identity
from harness.report.judge_card import card_page
from harness.report.leaderboard import render_pages, stale_files, write_leaderboard
from harness.score.bootstrap import draws
from harness.score.judge_cards import read_card
from harness.score.results import BenchmarkResult, Columns, Metric, result_path, write_result
from harness.score.win_rate_estimators import length_coefficient
from harness.store.json_files import digest


def figures(columns: Columns) -> dict[str, Metric]:
    return {m.name: m for m in cards.figures(columns)}


def test_a_judge_that_always_says_a() -> None:
    by_name = figures(items_of(lambda i, a, b: 1.0))
    values = {name: m.value for name, m in by_name.items()}
    assert values["first_slot"] == values["same_slot"] == 100
    assert values["agreement"] == values["single_agreement"] == values["longer"] == 50
    assert values["same_winner"] == 0
    assert values["length"] == pytest.approx(0, abs=1e-6)
    assert (by_name["first_slot"].low, by_name["first_slot"].high) == (100, 100)
    assert "same_again" not in by_name
    assert "first_probability" not in by_name  # its answers are no probabilities


def test_a_perfect_judge() -> None:
    columns = items_of(lambda i, a, b: 0.9)
    columns["backward"] = [0.2] * len(LENGTHS)
    by_name = figures(columns)
    for name in ("agreement", "single_agreement", "same_winner", "agreement_longer", "agreement_shorter"):
        assert by_name[name].value == 100
    assert by_name["first_slot"].value == 50
    assert by_name["same_slot"].value == 0
    assert by_name["first_probability"].value == pytest.approx(55)
    longer = sum(c > r for c, r in LENGTHS)
    assert (by_name["agreement_longer"].n_total, by_name["agreement_shorter"].n_total) == (longer, 7 - longer)
    assert by_name["longer"].value == by_name["known_longer"].value == pytest.approx(100 * longer / 7)


def test_a_judge_that_prefers_the_longer() -> None:
    by_name = figures(items_of(lambda i, a, b: 0.5 + 0.5 * ((a > b) - (a < b))))
    assert by_name["longer"].value == 100
    assert (by_name["longer"].n_valid, by_name["longer"].n_total) == (7, 7)  # one pair has equal lengths
    assert by_name["agreement_longer"].value == 100
    assert by_name["agreement_shorter"].value == 0
    longer = sum(c > r for c, r in LENGTHS)
    assert by_name["agreement"].value == pytest.approx(100 * (longer + 0.5) / 8)  # the tie counts half
    assert by_name["same_winner"].value == 100
    assert by_name["length"].low is not None
    assert by_name["length"].low > 0


def test_unreadable_answers_are_left_out_and_counted() -> None:
    columns = items_of(lambda i, a, b: None if i == 2 else 1.0, again=True)
    columns["backward"][3] = None
    columns["again"][5] = None
    columns["again"][6] = 0.0
    by_name = figures(columns)
    assert (by_name["agreement"].n_valid, by_name["agreement"].n_total) == (6, 8)
    assert by_name["first_slot"].value == 100
    # asked again: 2 (unreadable), 3 (its backward order), 5 (the repeat) are no pairs of verdicts; 6 changed its mind
    assert (by_name["same_again"].n_valid, by_name["same_again"].value) == (5, 80)


def test_figures_equal_plain_counting() -> None:
    """Random probabilities, ties and gaps among them, against loops over verdicts written out."""
    rng = np.random.default_rng(0)
    choices = [0.0, 0.2, 0.5, 0.7, 1.0, None]
    columns = items_of(lambda i, a, b: choices[rng.integers(6)], again=True)
    score = {1: 1.0, 0: 0.5, -1: 0.0}
    agree, single, first, slots, winners = [], [], [], [], []
    for f, b in zip(columns["forward"], columns["backward"], strict=True):
        if f is None or b is None:
            continue
        says_a = [score[np.sign(round(f - 0.5, 9))], score[np.sign(round(b - 0.5, 9))]]
        agree.append(score[np.sign(round(f - b, 9))])
        single.append((says_a[0] + 1 - says_a[1]) / 2)
        first.append(sum(says_a) / 2)
        slots.append(says_a in ([1.0, 1.0], [0.0, 0.0]))
        winners.append(says_a[0] == 1 - says_a[1])
    by_name = figures(columns)
    for name, values in zip(
        ("agreement", "single_agreement", "first_slot", "same_slot", "same_winner"),
        (agree, single, first, slots, winners),
        strict=True,
    ):
        assert by_name[name].value == pytest.approx(100 * np.mean(values), abs=1e-4), name
        assert by_name[name].n_valid == len(values) > 3


def test_interval_is_that_of_a_proportion() -> None:
    """200 verdicts, 120 right: the bootstrap interval of a share is the binomial's."""
    n = 200
    columns: Columns = {
        "id": list(range(n)),
        "forward": [1.0] * 120 + [0.0] * 80,
        "backward": [0.0] * 120 + [1.0] * 80,
        "again": [None] * n,
        "mass": [None] * n,
        "length_chosen": [10] * n,
        "length_rejected": [10] * n,
    }
    by_name = figures(columns)
    error = 100 * (0.6 * 0.4 / n) ** 0.5
    assert by_name["agreement"].low == pytest.approx(60 - 1.96 * error, abs=1)
    assert by_name["agreement"].high == pytest.approx(60 + 1.96 * error, abs=1)
    assert by_name["longer"].value is None  # no two lengths differ
    assert by_name["length"].value is None
    assert by_name["agreement_longer"].n_total == 0


def test_length_coefficient_is_scikit_learns() -> None:
    """On the data and in resamples, each with its own sd; a missing verdict has no weight."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    n = 60
    delta = rng.normal(0, 200, n).round()
    y = rng.choice([0.0, 0.5, 1.0], n)
    columns = {"id": list(range(n)), "agree": [None, *y[1:]], "length_difference": delta.tolist()}
    weights = np.concatenate([np.ones((1, n)), draws(n, 3)])
    coefficients = length_coefficient(columns, "agree", weights)
    for w, value in zip(weights, coefficients, strict=True):
        used = np.repeat(np.arange(1, n), w[1:].astype(int))
        x = np.stack([np.ones(len(used)), delta[used] / delta[used].std(ddof=1)], 1)
        rows, labels = np.concatenate([x, x]), np.repeat([1, 0], len(used))
        soft = np.concatenate([y[used], 1 - y[used]])
        model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000)
        assert value == pytest.approx(model.fit(rows, labels, sample_weight=soft).coef_[0, 1], abs=1e-5)


def test_leaderboards_link_the_card(tmp_path: Path) -> None:
    """The line appears with the card, in an ordinary folder, in a study's and in a user's own, and says what to do
    without one. A user's own card is linked from the user's own pages alone."""
    judge = identity("start-1")
    benchmark = BenchmarkResult(
        benchmark="b", title="B", label="mini", protocol={}, protocol_hash="h", judge=judge, metrics=[], items={}
    )
    folders = [tmp_path / "results" / inside / "demo" / "pairs-96" for inside in (".", "studies", "local")]
    for folder in folders:
        write_result(result_path(folder.parent.parent, "demo", "pairs-96", "dpo", 0), run("dpo", [benchmark]))
        write_leaderboard(folder)
        text = (folder / "LEADERBOARD.md").read_text()
        assert "`sail-bench judge-card local --model tiny --pairs FILE` makes one" in text
    data = {"file": "p.jsonl", "sha256": "0" * 64, "pairs": "1", "used": 8, "equal": 0}
    usage = {"calls": 16, "unreadable": 0, "unanswered": 0, "from_logprobs": 0, "answered_by": [], "tokens_in": 1,
             "tokens_out": 0, "cost": 0.0, "timed": 0, "seconds": None, "cores": None}  # fmt: skip
    section = cards.card_section(data, {}, items_of(lambda i, a, b: 1.0), usage, "c", "2000-01-01")
    card = cards.with_section(None, judge, section)
    at = tmp_path / "results" / "judges" / f"{card.key}.json"
    at.parent.mkdir()
    at.write_text(card.model_dump_json())
    at.with_suffix(".md").write_text(card_page(card))
    for folder, up in zip(folders, ("../../", "../../../", "../../../"), strict=True):
        assert stale_files(folder) == ["LEADERBOARD.md"]
        write_leaderboard(folder)
        text = (folder / "LEADERBOARD.md").read_text()
        link = re.search(r"\[Judge card\]\((.*?)\): agrees with the known preference in 50% of 8 pairs", text)
        assert link
        assert link.group(1) == f"{up}judges/{card.key}.md"
        assert (folder / link.group(1)).is_file()
        assert stale_files(folder) == []
        assert "makes one" not in text
    own = folders[2].parents[1] / "judges" / at.name
    shutil.copytree(at.parent, own.parent)
    assert [stale_files(folder) for folder in folders] == [[], [], ["LEADERBOARD.md"]]
    write_leaderboard(folders[2])
    assert f"(../../judges/{card.key}.md)" in (folders[2] / "LEADERBOARD.md").read_text()
    behind = benchmark.model_copy(update={"judge": {"kind": "endpoint", "model": "m", "endpoint": digest(None)}})
    text = render_pages([run("dpo", [behind])])["LEADERBOARD.md"]
    assert "`sail-bench judge-card m --pairs FILE` makes one" in text
    assert (
        "**Judge**: none"
        in render_pages([run("dpo", [benchmark.model_copy(update={"judge": None})])])["LEADERBOARD.md"]
    )


def test_committed_cards_are_those_of_their_numbers() -> None:
    """Pages and figures follow from the numbers in the file, and the default's judge has a card."""
    judge_cards = [read_card(path) for path in sorted((ROOT / "results" / "judges").glob("*.json"))]
    for card in judge_cards:
        assert card.key == digest(card.judge)
        assert (ROOT / "results" / "judges" / f"{card.key}.md").read_text(encoding="utf-8") == card_page(card)
        for section in card.sections:
            for kept, new in zip(section.metrics, cards.figures(section.items), strict=True):
                assert new.value == pytest.approx(kept.value, abs=1e-5)
    text = (ROOT / "results/smollm2/pairs-64/LEADERBOARD.md").read_text(encoding="utf-8")
    named = re.search(r"\*\*Judge\*\* `(\w+)`", text)
    assert named
    assert named.group(1) in {card.key for card in judge_cards}
