"""The order of a comparison's work, for one worker and for several, with a store that is filled as parts end."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.recipe.load import load_recipe
from harness.run.plan import make_runs, resolved
from harness.run.schedule import Part, Schedule
from harness.store.stages import Stage, Store


def fill(store: Store, part: Part) -> None:
    """What a process would leave behind."""

    def build(stage: Stage) -> None:
        def inner(work: Path) -> None:
            if stage.kind == "tune":
                (work / "scores.json").write_text(json.dumps({"gold_reward": 0.5, "perplexity_ratio": 1.0}))
            if stage.kind in ("answers", "judgments"):
                (work / "rows.jsonl").touch()

        store.get(stage, inner)

    plan, facts = part.plan, part.plan.comparison.facts
    build(facts.start.stage)
    build(facts.pairs.stage)
    if part.name.startswith("trial-"):
        build(plan.trials[int(part.name.removeprefix("trial-"))].tune.stage)
    elif part.name in ("all", "first"):
        for trial in plan.trials:
            build(trial.tune.stage)
        reached = resolved(plan if part.whole else plan.up_to_first)
        for node in reached.nodes:
            build(node.stage)


def run(
    tmp_path: Path,
    workers: int,
    seed: int,
    fail: Callable[[Part], bool] = lambda part: False,
    benchmarks: tuple[str, ...] = ("mmlu",),
    short: bool = False,
    methods: tuple[str, ...] = ("start", "dpo", "sail-pp"),
) -> list[str]:
    """Events of a comparison of some methods with two seeds: parts as they begin (``+``) and end (``-``)."""
    recipe, store = load_recipe("tiny"), Store(tmp_path)
    plans = make_runs(recipe, recipe.budget, list(methods), 2, benchmarks, store)
    schedule, active, events = Schedule(plans, split=workers > 1, short=short), list[Part](), list[str]()
    order = random.Random(seed)
    while True:
        while len(active) < workers and (part := schedule.next()):
            active.append(part)
            events.append(f"+{part.plan.name} {part.plan.seed} {part.name}")
        if not active:
            break
        part = active.pop(order.randrange(len(active)))
        failed = fail(part)
        if not failed:
            fill(store, part)
        schedule.over(part, "broken" if failed else None)
        events.append(f"-{part.plan.name} {part.plan.seed} {part.name}")
    assert not schedule.open_runs
    return events


def begun(events: list[str]) -> list[str]:
    return [event[1:] for event in events if event[0] == "+"]


def test_one_worker_takes_run_after_run(tmp_path: Path) -> None:
    runs = ["start 0", "dpo 0", "sail-pp 0", "dpo 1", "sail-pp 1"]
    assert run(tmp_path, 1, 0) == [f"{sign}{name} all" for name in runs for sign in "+-"]


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_parts_begin_when_what_they_need_is_there(workers: int, seed: int, tmp_path: Path) -> None:
    events = run(tmp_path, workers, seed)
    started = begun(events)
    assert sorted(started) == sorted({*started}), "each part once"
    assert started[0] == "start 0 shared"
    assert sorted(p for p in started if "trial" in p) == [
        f"{m} 0 trial-{k}" for m in ("dpo", "sail-pp") for k in (0, 1)
    ]
    assert sorted(p for p in started if p.endswith("all")) == [
        *("dpo 0 all", "dpo 1 all", "sail-pp 0 all", "sail-pp 1 all", "start 0 all")
    ]
    at = {event: place for place, event in enumerate(events)}
    assert at["-start 0 shared"] < min(at[f"+{p}"] for p in started[1:])
    for method in ("dpo", "sail-pp"):
        for run_seed in (0, 1):
            whole = at[f"+{method} {run_seed} all"]
            assert all(at[f"-{method} 0 trial-{k}"] < whole for k in (0, 1))
            assert at["-start 0 all"] < whole


def test_all_runs_have_a_first_score_before_any_has_the_others(tmp_path: Path) -> None:
    runs = ["start 0", "dpo 0", "sail-pp 0", "dpo 1", "sail-pp 1"]
    events = run(tmp_path / "one", 1, 0, benchmarks=("mmlu", "arc_challenge"))
    assert begun(events) == [f"{name} {part}" for part in ("first", "all") for name in runs]
    for seed in range(4):
        events = run(tmp_path / f"two-{seed}", 2, seed, benchmarks=("mmlu", "arc_challenge"))
        at = {event: place for place, event in enumerate(events)}
        assert sorted(p for p in begun(events) if "trial" not in p and "shared" not in p) == sorted(
            f"{name} {part}" for part in ("first", "all") for name in runs
        )
        for name in runs:
            assert at["-start 0 first"] <= at[f"-{name} first"] < at[f"+{name} all"]
            assert at["-start 0 all"] <= at[f"-{name} all"]
            assert name == "start 0" or at["-start 0 all"] < at[f"+{name} all"]
        trained = [name for name in runs if name != "start 0"]
        first_look, last_training = min(at[f"-{n} first"] for n in trained), max(at[f"+{n} first"] for n in trained)
        assert first_look < at["+start 0 all"] < last_training, "no worker waits for the answers that others use"
    assert begun(run(tmp_path / "one", 1, 0, benchmarks=("mmlu", "arc_challenge"))) == [f"{name} all" for name in runs]


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_a_short_comparison_is_taken_apart_by_run(workers: int, seed: int, tmp_path: Path) -> None:
    events = run(tmp_path, workers, seed, benchmarks=("mmlu", "arc_challenge"), short=True)
    started = begun(events)
    assert len(started) == len({*started}), "each part once"
    assert started[:2] == ["start 0 shared", "start 0 all"] and not [p for p in started if p.endswith("first")]
    assert {p for p in started if p.endswith("all")} == {
        *("start 0 all", "dpo 0 all", "dpo 1 all", "sail-pp 0 all", "sail-pp 1 all")
    }
    at = {event: place for place, event in enumerate(events)}
    for method in ("dpo", "sail-pp"):
        first, second = sorted(at[f"+{method} {run_seed} all"] for run_seed in (0, 1))
        assert first > at["-start 0 all"], "it uses the answers of start"
        searching = [k for k in (0, 1) if at.get(f"-{method} 0 trial-{k}", len(at)) > first]
        assert not searching or second > min(at[f"-{method} {run_seed} all"] for run_seed in (0, 1)), "one searches"
    assert all(at[f"+{p}"] < at["-start 0 all"] for p in started if "trial" in p), "no other work was there"


def test_a_short_comparison_goes_on_after_a_run_that_failed(tmp_path: Path) -> None:
    events = run(tmp_path, 2, 1, lambda part: part.plan.name in ("start", "dpo") and part.name == "all", short=True)
    assert {p for p in begun(events) if p.endswith("all")} == {
        *("start 0 all", "dpo 0 all", "dpo 1 all", "sail-pp 0 all", "sail-pp 1 all")
    }


@pytest.mark.parametrize("seed", range(4))
def test_no_trial_is_begun_beside_the_run_that_searches(seed: int, tmp_path: Path) -> None:
    """Without a control the run ahead has a search, which its other seed shares."""
    events = run(tmp_path, 3, seed, short=True, methods=("dpo", "sail-pp"))
    assert not [part for part in begun(events) if part.startswith("dpo") and "trial" in part]
    assert events.index("-dpo 0 all") < events.index("+dpo 1 all")


def test_a_first_score_that_stays_open_does_not_hold_the_run_up(tmp_path: Path) -> None:
    """A judge that left calls open is asked again with the rest."""
    recipe, store = load_recipe("tiny"), Store(tmp_path)
    plans = make_runs(recipe, recipe.budget, ["start"], 1, ["mmlu", "arc_challenge"], store)
    schedule = Schedule(plans, split=False)
    first = schedule.next()
    assert first is not None and first.name == "first" and schedule.over(first, None) == [0]
    rest = schedule.next()
    assert rest is not None and rest.name == "all" and schedule.over(rest, None) == [0]
    assert schedule.next() is None and not schedule.open_runs


def test_a_lost_trial_fails_the_runs_that_need_it_and_no_other(tmp_path: Path) -> None:
    events = run(tmp_path, 2, 1, lambda part: part.plan.name == "dpo" and part.name == "trial-0")
    whole = [p for p in begun(events) if p.endswith("all")]
    assert sorted(whole) == ["sail-pp 0 all", "sail-pp 1 all", "start 0 all"]


@pytest.mark.parametrize("short", [False, True])
def test_what_all_share_is_begun_again_by_the_next_run(short: bool, tmp_path: Path) -> None:
    """Within a trial it would be computed with fewer threads, and differ by rounding."""
    lost = ("start 0 shared", "dpo 0 shared")
    events = run(tmp_path, 2, 1, lambda p: f"{p.plan.name} {p.plan.seed} {p.name}" in lost, short=short)
    assert begun(events)[:3] == [*lost, "sail-pp 0 shared"]
    assert {p for p in begun(events) if p.endswith("all")} == {"sail-pp 0 all", "dpo 1 all", "sail-pp 1 all"}


def test_finished_work_is_not_begun_again(tmp_path: Path) -> None:
    run(tmp_path, 2, 0)
    again = run(tmp_path, 2, 0)
    assert begun(again) == ["start 0 all", "dpo 0 all", "sail-pp 0 all", "dpo 1 all", "sail-pp 1 all"]


def test_a_run_fails_once_for_the_first_reason(tmp_path: Path) -> None:
    """Two of its trials can be lost at once; runs that are over are counted by it."""
    recipe, store = load_recipe("tiny"), Store(tmp_path)
    schedule = Schedule(make_runs(recipe, recipe.budget, ["start", "dpo"], 2, ["mmlu"], store), split=True)
    shared = schedule.next()
    assert shared is not None
    fill(store, shared)
    schedule.over(shared, None)
    parts = [part for part in (schedule.next(), schedule.next(), schedule.next()) if part is not None]
    trials = [part for part in parts if part.name.startswith("trial-")]
    assert len(trials) == 2
    assert [schedule.over(part, reason) for part, reason in zip(trials, ("first", "second"), strict=True)] == [
        [1, 2],
        [],
    ]
    assert schedule.failed == {1: "first", 2: "first"}
