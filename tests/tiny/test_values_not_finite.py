"""Models whose numbers are not finite: their values are not valid, with a reason, in every benchmark and oracle."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.lmeval.sample_metrics import has_finite_responses
from benchmarks.preference import NO_ANSWER, NO_REWARD, NO_VERDICT
from benchmarks.rewardbench import NO_PAIR
from benchmarks.rewardbench.accuracy import score_pairs
from benchmarks.shared.multiple_choice import is_right
from benchmarks.shared.numbers import probability, win_points
from harness.answer.chat import render
from harness.answer.policy import Policy
from harness.benchmark import Benchmark, EvalContext, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.cli import main
from harness.errors import UserError
from harness.judge.local import LocalJudge
from harness.oracles.base import Oracle
from harness.oracles.constraints import ConstraintOracle, load_prompts
from harness.oracles.metered import MeteredOracle
from harness.pairs.sampled import best_and_worst
from harness.run import plugins
from harness.score.results import BenchmarkResult
from harness.score.validity import NO_VALUE, NOT_A_NUMBER, NOT_FINITE, Invalid, checked_columns

NAN, INF = math.nan, math.inf


def broken(model: Any, value: float = NAN) -> Any:
    """The model with one weight of its last layer filled with a value that is not finite."""
    with torch.no_grad():
        list(model.parameters())[-1].flatten()[0] = value
    return model


@pytest.fixture
def context(load: Callable[[], Any], tokenizer: Any) -> EvalContext:
    """A policy with NaN in it against the tiny start policy."""
    meter = Meter(Ledger())
    policy = Policy(broken(load()), tokenizer, "broken", meter=meter, cache=None)
    start = Policy(load(), tokenizer, "start", meter=meter, cache=None)
    prompts = load_prompts("eval")[:4]
    ids = render(tokenizer, [{"role": "user", "content": prompts[0]["prompt"]}])
    pair = {"id": "h", "prompt_ids": ids, "chosen_ids": [5, 6, 7], "rejected_ids": [8, 9]}
    pair |= {"ref_chosen_logps": -3.0, "ref_rejected_logps": -4.0}
    oracle = MeteredOracle(ConstraintOracle(), meter.ledger)
    return EvalContext(policy, start, LocalJudge(start), oracle, prompts, [pair, pair | {"id": "i"}], 8)


def run(benchmark: Benchmark, context: EvalContext) -> BenchmarkResult:
    """Answer, judge and score, with rows as their files hold them."""
    rows = json.loads(json.dumps(benchmark.judge(json.loads(json.dumps(benchmark.answer(context))), context)))
    result = benchmark_result(benchmark, rows, {}, None)
    json.dumps(result.model_dump(mode="json"), allow_nan=False)
    return result


def make(name: str, **options: Any) -> Benchmark:
    factory = plugins.load("benchmarks", name)
    benchmark: Benchmark = factory(factory.Options(**options))
    return benchmark


@pytest.mark.parametrize(("name", "metrics"), [("mmlu", ["acc"]), ("arc_challenge", ["acc_norm", "acc"])])
def test_no_option_is_picked_of_nan(name: str, metrics: list[str], context: EvalContext) -> None:
    result = run(make(name, limit=8), context)
    for metric in metrics:
        assert (result.metric(metric).value, result.metric(metric).n_valid, result.metric(metric).n_total) == (
            None, 0, 8,
        )  # fmt: skip
        assert result.invalid[metric] == {NOT_FINITE: 8}


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_one_option_that_is_not_finite(value: float) -> None:
    for place in range(4):
        logps = [-3.0, -1.0, -2.0, -4.0]
        logps[place] = value
        assert is_right(1, 1, logps) == Invalid(NOT_FINITE)
    assert (is_right(1, 1, [-3.0, -1.0]), is_right(0, 1, [-3.0, -1.0])) == (1, 0)


def test_an_answer_of_nan_is_no_answer(context: EvalContext) -> None:
    """Its reward would be that of a text which no policy sampled."""
    result = run(make("preference", max_new_tokens=5), context)
    for metric in ("gold_reward", "win_rate", "length", "truncated"):
        assert (result.metric(metric).value, result.metric(metric).n_valid) == (None, 0)
        assert result.invalid[metric] == {NO_ANSWER: 4}
    for metric in ("kl", "reverse_kl"):
        assert (result.metric(metric).value, result.invalid[metric]) == (None, {NOT_FINITE: 4})
    for metric in ("margin", "accuracy"):
        assert (result.metric(metric).value, result.invalid[metric]) == (None, {NOT_FINITE: 2})


class Scripted(Oracle):
    """Rewards by the first character of an answer."""

    name = "scripted"
    summary = "scripted"
    rewards = (1.0, NAN, INF, 2.0, -INF, 2.0)

    def score(self, rows: Sequence[Any], texts: Sequence[str]) -> list[float]:
        return [self.rewards[int(text)] for text in texts]


class ScriptedPairs(Oracle):
    """The same number for every pair."""

    name = "scripted_pairs"
    summary = "scripted"
    pairwise = True

    def prefer(self, rows: Sequence[Any], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        return [NAN, 0.75, 0.25, 1.0][: len(rows)]


def test_rewards_that_are_not_finite(context: EvalContext) -> None:
    context.policy = context.start

    class Rotating(Oracle):
        name, summary = "rotating", "rotating"

        def score(self, rows: Sequence[Any], texts: Sequence[str]) -> list[float]:
            return [NAN, INF, 0.5, 0.25][: len(texts)]

    context.oracle = MeteredOracle(Rotating(), Ledger())
    result = run(make("preference", max_new_tokens=5), context)
    assert result.metric("gold_reward").value == pytest.approx(0.375)
    assert result.invalid["gold_reward"] == {NO_REWARD: 1, NOT_FINITE: 1}
    assert (result.metric("win_rate").value, result.metric("win_rate").n_valid) == (50, 2)
    context.oracle = MeteredOracle(ScriptedPairs(), Ledger())
    result = run(make("preference", max_new_tokens=5), context)
    assert result.metric("gold_reward").value == pytest.approx(2 / 3)
    assert result.invalid["gold_reward"] == {NO_VERDICT: 1}

    class Outside(ScriptedPairs):
        def prefer(self, rows: Sequence[Any], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
            return [3.0] * len(rows)

    context.oracle = MeteredOracle(Outside(), Ledger())
    with pytest.raises(UserError, match="not a probability"):
        run(make("preference", max_new_tokens=5), context)


def test_the_curve_of_nan(context: EvalContext) -> None:
    policy = context.policy
    context.kept = lambda fraction: None if fraction == 0.25 else context.start if fraction == 0.5 else policy
    result = run(make("curve", max_new_tokens=5), context)
    assert (result.metric("area").value, result.metric("area").n_valid) == (None, 0)
    assert result.metric("reward_0.5").value is not None
    assert result.invalid["reward_1"] == {NO_REWARD: 4}
    assert result.invalid["kl_1"] == {NOT_FINITE: 4}
    assert result.invalid["kl_0.25"] == result.invalid["area"] == {"the run ended before this share": 4}


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_local_judge_of_nan(value: float, context: EvalContext, load: Callable[[], Any], tokenizer: Any) -> None:
    """Equal answers are a draw without it; the others have no verdict, raw and controlled."""
    judge = Policy(broken(load(), value), tokenizer, "judge", meter=Meter(Ledger()), cache=None)
    context.judge = LocalJudge(judge)
    context.policy = Policy(broken(load(), 9.0), tokenizer, "other", meter=Meter(Ledger()), cache=None)
    for name, main_metric in (("arena_hard", "sc"), ("alpaca_eval", "lc")):
        result = run(make(name, max_new_tokens=5, limit=6), context)
        for metric in (main_metric, "win_rate", "shown_first", "judge_mass"):
            assert result.metric(metric).n_valid <= sum(v == 0.5 for v in result.items["items"]["preference"])
        assert result.invalid["win_rate"].get(NOT_FINITE, 0) >= 4


def test_a_judge_that_gives_an_option_no_probability(context: EvalContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to share among the options: no verdict, and no division by zero."""
    monkeypatch.setattr(Policy, "next_token_logps", lambda self, contexts, ids, batch: [[-INF, -INF]] * len(contexts))
    (verdict,) = context.judge.compare([("Hi", "a", "b")])
    assert math.isnan(verdict["first"])


def own_pairs(folder: Path) -> Path:
    """Pairs in RewardBench's format; one holds the same answer twice."""
    rows = [
        {"prompt": f"Say {i}", "chosen": str(i), "rejected": "no" if i else "0", "subset": "mine", "id": i}
        for i in range(5)
    ]
    path = folder / "rewardbench" / "filtered.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_implicit_rewards_of_nan(context: EvalContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(own_pairs(tmp_path)))
    result = run(make("rewardbench"), context)
    for metric in ("accuracy", "summed", "per_token"):
        assert (result.metric(metric).value, result.invalid[metric]) == (None, {NOT_FINITE: 4, NO_PAIR: 1})
    context.policy, context.start = context.start, context.policy
    result = run(make("rewardbench"), context)
    assert result.invalid["accuracy"] == {NOT_FINITE: 4, NO_PAIR: 1}
    assert (result.metric("summed").n_valid, result.invalid["summed"]) == (4, {NO_PAIR: 1})


@pytest.mark.parametrize(("value", "valid"), [(NAN, 0), (INF, 0), (-INF, 0), (0.0, 4)])
def test_reward_models(value: float, valid: int, tiny_dir: Path, tokenizer: Any, tmp_path: Path) -> None:
    """A head that gives no finite reward; one that gives 0 for all is a tie."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tiny_dir, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    with torch.no_grad():
        model.score.weight.fill_(value)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--data-dir", str(own_pairs(tmp_path))]
    done = CliRunner().invoke(main, ["score", "rewardbench", *arguments, "--store", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    (scores,) = json.loads(done.stdout, parse_constant=pytest.fail)["scores"]
    assert (scores["n_valid"], scores["n_total"]) == (valid, 5)
    (accuracy,) = scores["metrics"].values()
    assert accuracy["value"] == (50 if valid else None)
    assert (scores["subsets"]["mine"]["n_valid"], scores["subsets"]["mine"]["value"]) == (valid, accuracy["value"])
    assert scores["invalid"] == {"the same answer twice": 1} | ({} if valid else {NOT_FINITE: 4})
    assert ("4 pairs have a reward that is no finite number" in done.stderr) == (not valid)


def test_the_official_score_leaves_out_what_is_not_valid() -> None:
    pairs = [{"id": i, "subset": "mine", "weight": 1, "of": 4} for i in range(4)]
    scored = score_pairs(pairs, {"accuracy": [1.0, Invalid("x"), 0.0, 7.0]}, {}, "T")
    columns, invalid = checked_columns(*scored)
    assert columns["items"]["accuracy"] == [1.0, None, 0.0, None]
    assert invalid == {"accuracy": {"outside 0 to 1": 1, "x": 1}}


def test_an_oracle_has_no_verdict_on_rewards_that_are_not_finite() -> None:
    """1, NaN, inf, 2, -inf, 2 against each other: only finite rewards have a verdict; in training the rest are ties."""
    names = [str(i) for i in range(6)]
    pairs = [(a, b) for a in names for b in names]
    verdicts = Scripted().prefer([{"prompt": ""}] * 36, [a for a, _ in pairs], [b for _, b in pairs])
    for (a, b), verdict in zip(pairs, verdicts, strict=True):
        first, second = Scripted.rewards[int(a)], Scripted.rewards[int(b)]
        if math.isfinite(first) and math.isfinite(second):
            assert verdict == (1 if first > second else 0 if first < second else 0.5)
        else:
            assert math.isnan(verdict)
    ledger = Ledger()
    labels = MeteredOracle(Scripted(), ledger).prefer([{"prompt": ""}] * 3, ["0", "0", "1"], ["3", "1", "1"])
    assert (labels, ledger.get("oracle", "undecided")) == ([0, 0.5, 0.5], 2)


def test_the_best_and_the_worst_have_a_reward() -> None:
    assert best_and_worst([NAN, 1.0, 3.0, INF, 2.0, -INF]) == (2, 1)
    assert best_and_worst([NAN, 1.0, NAN]) is None
    assert best_and_worst([NAN, INF]) is None
    assert best_and_worst([1.0, 1.0]) is None
    for order in ([NAN, 1.0, 2.0], [1.0, NAN, 2.0], [2.0, 1.0, NAN]):
        picked = best_and_worst(order)
        assert picked is not None
        assert (order[picked.best], order[picked.worst]) == (2.0, 1.0)


def test_points_and_probabilities() -> None:
    assert [win_points(*pair) for pair in ((2, 1), (1, 2), (1, 1))] == [1, 0, 0.5]
    for value, reason in ((NAN, NOT_FINITE), (INF, NOT_FINITE), (None, NO_VALUE), ("x", NOT_A_NUMBER)):
        assert win_points(value, 1.0) == win_points(1.0, value) == Invalid(reason)  # type: ignore[arg-type]
    assert [probability(v) for v in (1.00000095, -1e-9, 0.1234567, 1.5, -2)] == [1, 0, 0.123457, 1.5, -2]
    assert math.isnan(probability(NAN))


@pytest.mark.parametrize(
    ("responses", "finite"),
    [
        ([[-1.0, False], [-2.0, True]], True),
        ([[-1.0, False], [NAN, True]], False),
        ([[-INF, False]], False),
        ([-3.0], True),
        ([NAN], False),
        (["a text", "nan"], True),
        ([], True),
        ([[[-1.0, [INF]]]], False),
    ],
)
def test_responses_of_lm_eval(responses: Any, finite: bool) -> None:
    assert has_finite_responses(responses) == finite


def lm_eval_rows(values: Sequence[Any], responses: Sequence[Any], key: str) -> list[dict[str, Any]]:
    return [
        {
            "task": "t", "doc_id": i, "filter": "none", "target": "0", "resps": r, "metrics": {key: v},
            "higher": {key: True},
        }
        for i, (v, r) in enumerate(zip(values, responses, strict=True))
    ]  # fmt: skip


def test_items_of_lm_eval_that_are_not_finite() -> None:
    from benchmarks.lmeval.any_task import AnyTask

    class Task(AnyTask):
        name, task, title = "lm_eval:t", "t", "t"

    benchmark = Task(Task.Options())
    good, bad = [[-1.0, False], [-2.0, False]], [[NAN, False], [-2.0, False]]
    rows = lm_eval_rows([1.0, 1.0, 0.0, 7.0], [good, bad, good, good], "acc")
    result = benchmark_result(benchmark, rows, {}, None)
    assert (result.metric("acc").value, result.metric("acc").n_valid) == (50, 2)
    assert result.invalid == {"acc": {NOT_FINITE: 1, "outside 0 to 1": 1}}
    rows = lm_eval_rows([[-6.0, 2], [NAN, 3], [-INF, 1], [-2.0, 2]], [[-6.0], [NAN], [-INF], [-2.0]], "word_perplexity")
    result = benchmark_result(benchmark, rows, {}, None)
    assert result.metric("word_perplexity").value == pytest.approx(np.exp(8 / 4), rel=1e-6)
    assert result.invalid == {"word_perplexity": {NOT_FINITE: 2}}
    rows = lm_eval_rows([[True, False], [True], [True, True]], [["x"], [[NAN, True]], ["y"]], "inst_acc")
    result = benchmark_result(benchmark, rows, {}, None)
    assert (result.metric("inst_acc").value, result.metric("inst_acc").n_valid) == (pytest.approx(0.75), 4)
    rows = lm_eval_rows([0.5, NAN, INF, 40.0], [["a"], ["b"], ["c"], ["d"]], "f1")
    result = benchmark_result(benchmark, rows, {}, None)
    assert (result.metric("f1").n_valid, result.invalid) == (2, {"f1": {NOT_FINITE: 2}})
