"""``sail-bench power`` on committed results and on a stated spread."""

from __future__ import annotations

import json
from math import ceil

import pytest
from conftest import ROOT
from kit.command import run_here

STUDIES = ("results/studies/t1-coefficient.yaml", "--results", "results/studies")


def planned(*arguments: object) -> dict:
    done = run_here("power", *arguments, "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_stated_spread_is_the_textbook_formula() -> None:
    """One comparison at 5%, one seed: (1.96 + 0.84)^2 sd^2 / d^2, a little more for Student's t."""
    record = planned(
        "tiny", "--methods", "dpo,sail-pr", "--detect", 3, "--sd", 40, "--seeds", 1, "--benchmarks", "mmlu"
    )
    expected = ceil(2.801585**2 * 40**2 / 3**2)
    assert expected <= record["needs"][0]["items"]["1"] <= expected + 4
    assert record["level"] == 0.05


def test_stored_results_give_the_spread_and_the_plan_its_cost() -> None:
    record = planned(*STUDIES, "--detect", 8, "--machine", "h100")
    need = record["needs"][0]
    assert (need["title"], need["difference"], need["rows"], need["stored"]) == ("gold reward (mini)", 0.08, 5, 200)
    assert 0 < need["spread"]["seed"] < 0.1 < need["spread"]["rest"]
    assert record["level"] == pytest.approx(0.05 / 6)
    one, three = (record["costs"].get(n) for n in ("1", "3"))
    assert one["prompts"] == need["items"]["1"]
    assert one["seconds"] > 0
    assert three is None
    text = run_here("power", *STUDIES, "--detect", 8, "--machine", "h100", cwd=ROOT).stdout
    assert "no number of prompts, since the spread over seeds alone hides it" in text


def test_more_prompts_cost_more() -> None:
    arguments = ("smollm2", "--seeds", 2, "--seed-sd", 0, "--machine", "h100")
    costs = [planned(*arguments, "--detect", x)["costs"]["2"] for x in (6, 3)]
    assert costs[0]["prompts"] < costs[1]["prompts"]
    assert costs[0]["seconds"] < costs[1]["seconds"]


def test_other_units_want_their_own_difference() -> None:
    record = planned("smollm2", "--detect", 3, "--seeds", 1)
    assert "rating 1-9" in record["left_out"]["MT-Bench (mini)"]
    own = planned("smollm2", "--detect", "mt_bench=0.2", "--seeds", 1)
    assert [need["benchmark"] for need in own["needs"]] == ["mt_bench"]


def test_too_many_prompts_are_not_blamed_on_seeds() -> None:
    text = run_here("power", "smollm2", "--detect", "0.0001", "--seeds", 1, cwd=ROOT).stdout
    assert "more than 10,000,000 prompts" in text
    assert "hides it" not in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--detect", "x"], "--detect x names no difference above 0"),
        (["--detect", "-3"], "--detect -3 names no difference above 0"),
        (["--detect", "101"], "--detect 101 is no difference in points of 100: give a number up to 100"),
        (["--detect", "mt_bench=9"], "--detect mt_bench=9 is more than MT-Bench (mini) can differ (8 rating 1-9)"),
        (["--detect", "alpaca_eval=150"], "can differ (100 win %): give a smaller number"),
        (["--detect", "nope=3"], "Unknown benchmark in --detect 'nope'"),
        (["--detect", "3", "--results", "docs"], "holds no results to take a spread from"),
    ],
)
def test_errors(arguments: list[str], text: str) -> None:
    failed = run_here("power", "smollm2", *arguments, cwd=ROOT)
    assert failed.returncode == 2
    assert text in failed.stderr
