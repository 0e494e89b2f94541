"""The mini sets, their schemas and scores; style counts and prompts against golden data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import golden

from benchmarks.arena_hard.style import markdown_counts
from benchmarks.mmlu import zero_shot_prompt
from benchmarks.mt_bench.judge_prompts import REFERENCED
from benchmarks.shared.mini_set import read_mini_set
from benchmarks.shared.multiple_choice import encode_option
from harness.answer.chat import render
from harness.answer.policy import Policy
from harness.benchmark import EvalContext, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.judge.local import LocalJudge
from harness.oracles.constraints import ConstraintOracle, load_prompts
from harness.oracles.metered import MeteredOracle
from harness.run import plugins as registry
from harness.store.json_files import read_rows


def test_mini_sets_have_their_sizes_and_schemas() -> None:
    questions = read_mini_set("mt_bench", "question")
    assert len(questions) >= 12
    assert len({q["category"] for q in questions}) == 8
    assert all(len(q["turns"]) == 2 for q in questions)
    referenced = {q["question_id"] for q in questions if q["category"] in REFERENCED}
    assert referenced == {r["question_id"] for r in read_mini_set("mt_bench", "reference_answer")}
    assert len({r["instruction"] for r in read_mini_set("alpaca_eval", "eval_set")}) == 32
    assert len({r["prompt"] for r in read_mini_set("arena_hard", "question")}) == 24
    items = read_mini_set("mmlu", "test")
    assert len({r["subject"] for r in items}) == len(items) == 57
    assert min(Counter(r["answer"] for r in items).values()) >= 14
    arc = read_mini_set("arc_challenge", "test")
    assert len({r["question"] for r in arc}) == 60
    assert all(r["answerKey"] in r["choices"]["label"] for r in arc)


def test_mini_subjects_are_the_official_ones() -> None:
    sizes = json.loads(golden("mmlu", "subject_test_sizes.json").read_text())
    assert {r["subject"] for r in read_mini_set("mmlu", "test")} == set(sizes.get("sizes", sizes))


@pytest.mark.parametrize(
    ("package", "name", "key", "file"),
    [
        ("mmlu", "test", "question", ("mmlu", "test_first18_per_subject.jsonl")),
        ("arc_challenge", "test", "question", ("arc_challenge", "test.jsonl")),
        ("arena_hard", "question", "prompt", ("arena_hard", "question_v0.1.jsonl")),
        ("alpaca_eval", "eval_set", "instruction", ("alpaca_eval", "eval_set_gpt4_1106_preview.jsonl")),
    ],
)
def test_mini_sets_are_not_the_real_ones(package: str, name: str, key: str, file: tuple[str, str]) -> None:
    real = {" ".join(r[key].lower().split()) for r in read_rows(golden(*file))}
    assert not real & {" ".join(r[key].lower().split()) for r in read_mini_set(package, name)}


def test_style_counts_equal_the_published_features() -> None:
    answers = {r["question_id"]: r for r in read_rows(golden("arena_hard", "model_answer_v0.1", "gpt-4-0613.jsonl"))}
    features = [r for r in read_rows(golden("arena_hard", "style_features_v0.1.jsonl")) if r["model"] == "gpt-4-0613"]
    assert len(features) >= 500
    for row in features:
        counts = markdown_counts(answers[row["question_id"]]["answer"])
        assert counts == (row["header_count"], row["list_count"], row["bold_count"])


def test_mmlu_prompt_has_the_reference_form() -> None:
    row = {"subject": "high_school_physics", "question": " Why? ", "choices": ["a", " b", "c", "d"]}
    assert zero_shot_prompt(row) == (
        "The following are multiple choice questions (with answers) about high school physics.\n\n"
        "Why?\nA. a\nB.  b\nC. c\nD. d\nAnswer:"
    )


def test_options_are_encoded_with_their_context(tokenizer: Any) -> None:
    head, tail = encode_option(tokenizer, "Question: x\nAnswer: ", "yes")
    assert head + tail == tokenizer.encode("Question: x\nAnswer: yes", add_special_tokens=False)
    assert tokenizer.decode(tail) == " yes"


@pytest.fixture
def context(load: Callable[[], Any], tokenizer: Any, tmp_path: Path) -> EvalContext:
    """The tiny policy, moved a little, against the tiny start policy."""
    from kit.training import perturb

    meter = Meter(Ledger())
    policy = Policy(perturb(load(), scale=0.01), tokenizer, "moved", meter=meter, cache=None)
    start = Policy(load(), tokenizer, "start", meter=meter, cache=None)
    prompts = load_prompts("eval")[:6]
    ids = render(tokenizer, [{"role": "user", "content": prompts[0]["prompt"]}])
    pair = {"id": "h", "prompt_ids": ids, "chosen_ids": [5, 6, 7], "rejected_ids": [8, 9]}
    logps = [sum(v) for v in start.token_logps([(ids, [5, 6, 7]), (ids, [8, 9])])]
    pair |= {"ref_chosen_logps": logps[0], "ref_rejected_logps": logps[1]}
    oracle = MeteredOracle(ConstraintOracle(), meter.ledger)
    return EvalContext(policy, start, LocalJudge(start), oracle, prompts, [pair], 8)


OPTIONS: dict[str, dict[str, int]] = {
    "preference": {"max_new_tokens": 6},
    "mt_bench": {"max_new_tokens": 5, "limit": 4},
    "alpaca_eval": {"max_new_tokens": 5, "limit": 4},
    "arena_hard": {"max_new_tokens": 5, "limit": 4},
    "mmlu": {"limit": 5},
    "arc_challenge": {"limit": 5},
}


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_answer_judge_score(name: str, context: EvalContext) -> None:
    """Every benchmark runs, its rows survive JSON, and scoring is pure."""
    factory = registry.load("benchmarks", name)
    benchmark = factory(factory.Options(**OPTIONS[name]))
    rows = json.loads(json.dumps(benchmark.judge(json.loads(json.dumps(benchmark.answer(context))), context)))
    first, again = (benchmark_result(benchmark, rows, benchmark.protocol(), None) for _ in range(2))
    assert first == again
    assert first.label == "mini"
    main = next(m for m in first.metrics if m.primary)
    assert main.value is not None
    assert main.n_valid == main.n_total == (6 if name == "preference" else OPTIONS[name]["limit"])


def test_preference_numbers_by_hand(context: EvalContext) -> None:
    """KL, perplexity and margin equal sums of log-probabilities from plain forwards of both policies."""
    factory = registry.load("benchmarks", "preference")
    benchmark = factory(factory.Options(max_new_tokens=6))
    rows = benchmark.answer(context)
    requests = benchmark.requests(context)
    answers = context.policy.sample(requests)
    ours = context.policy.token_logps([(q.prompt, a.ids) for q, a in zip(requests, answers, strict=True)])
    theirs = context.start.token_logps([(q.prompt, a.ids) for q, a in zip(requests, answers, strict=True)])
    result = benchmark_result(benchmark, rows, benchmark.protocol(), None)
    kl = np.mean([sum(a) - sum(b) for a, b in zip(ours, theirs, strict=True)])
    assert result.metric("kl").value == pytest.approx(kl, abs=1e-3)
    nll = -sum(map(sum, theirs)) / sum(map(len, theirs))
    assert result.metric("start_perplexity").value == pytest.approx(np.exp(nll), rel=1e-4)
    pair = context.heldout_pairs[0]
    sides = [(pair["prompt_ids"], pair[s]) for s in ("chosen_ids", "rejected_ids")]
    a, b = (sum(v) for v in context.policy.token_logps(sides))
    expected = (a - pair["ref_chosen_logps"]) - (b - pair["ref_rejected_logps"])
    assert result.metric("margin").value == pytest.approx(expected, abs=1e-3)


def test_start_against_itself_is_even(context: EvalContext) -> None:
    context.policy = context.start
    for name in ("alpaca_eval", "arena_hard"):
        factory = registry.load("benchmarks", name)
        benchmark = factory(factory.Options(max_new_tokens=5, limit=4))
        rows = benchmark.judge(benchmark.answer(context), context)
        assert all(r["verdict"] is None for r in rows)  # equal answers are not sent to the judge
        assert {m.value for m in benchmark_result(benchmark, rows, {}, None).metrics if m.unit == "win %"} == {50.0}


def test_judge_asks_both_orders(context: EvalContext) -> None:
    """Swapping the answers turns the verdict round exactly; position bias cancels."""
    judge = context.judge
    here, there = judge.compare([("Say hi.", "Hi!", "No.")]), judge.compare([("Say hi.", "No.", "Hi!")])
    assert here[0]["first"] == pytest.approx(1 - there[0]["first"], abs=1e-5)
    assert here[0]["shown_first"] == pytest.approx(there[0]["shown_first"], abs=1e-5)
    rating = judge.rate([("Say hi.", "Hi!", ""), ("Say hi.", "Hi!", "Hello")])
    assert all(1 <= r["rating"] <= 9 for r in rating)
    assert rating[0] != rating[1]
