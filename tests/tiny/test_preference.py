"""``preference``: every figure against brute force; distinct-n and its interval; what the page shows of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.preference import Preference, PreferenceOptions
from benchmarks.preference.diversity import ngram_counts
from harness.answer.chat import render
from harness.answer.policy import Policy
from harness.benchmark import EvalContext, Row, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.judge.local import LocalJudge
from harness.oracles.base import Oracle
from harness.oracles.constraints import ConstraintOracle, load_prompts
from harness.oracles.metered import MeteredOracle
from harness.report.leaderboard import render_pages as pages
from harness.score.bootstrap import RESAMPLES, draws, interval, replicates
from harness.score.estimators import distinct, sections
from harness.score.results import BenchmarkResult


class Longer(Oracle):
    """A pairwise oracle: the longer answer, softly."""

    name = "longer"
    summary = "longer wins"
    unit = "win share"
    pairwise = True

    def prefer(self, rows: Any, firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        return [0.5 + 0.3 * float(np.sign(len(a) - len(b))) for a, b in zip(firsts, seconds, strict=True)]


class Letters(Oracle):
    """Another oracle that scores."""

    name = "letters"
    summary = "letters"
    unit = "letters"

    def score(self, rows: Any, texts: Sequence[str]) -> list[float]:
        return [float(sum(c.isalpha() for c in t)) for t in texts]


@pytest.fixture
def context(load: Callable[[], Any], tokenizer: Any) -> EvalContext:
    """The tiny policy, moved a little, against the tiny start policy; eight held-out pairs."""
    from kit.training import perturb

    meter = Meter(Ledger())
    policy = Policy(perturb(load(), scale=0.01), tokenizer, "moved", meter=meter, cache=None)
    start = Policy(load(), tokenizer, "start", meter=meter, cache=None)
    prompts = load_prompts("eval")[:8]
    ids = [render(tokenizer, [{"role": "user", "content": p["prompt"]}]) for p in prompts]
    pairs = []
    for i, prompt in enumerate(ids):
        sides = [5 + i, 6, 7], [8, 9 + i]
        logps = [sum(v) for v in start.token_logps([(prompt, s) for s in sides])]
        pair = {"id": i, "prompt_ids": prompt, "chosen_ids": sides[0], "rejected_ids": sides[1]}
        pairs.append(pair | {"ref_chosen_logps": logps[0], "ref_rejected_logps": logps[1]})
    oracle = MeteredOracle(ConstraintOracle(), meter.ledger)
    return EvalContext(policy, start, LocalJudge(start), oracle, prompts, pairs, 8)


BENCHMARK = Preference(PreferenceOptions(max_new_tokens=6))


def scored(context: EvalContext) -> tuple[list[Row], BenchmarkResult]:
    rows = BENCHMARK.answer(context)
    return rows, benchmark_result(BENCHMARK, rows, BENCHMARK.protocol(), None)


def plain_logp(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """One forward of one sequence."""
    with torch.no_grad():
        logps = torch.log_softmax(model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1], -1)
    return float(logps[range(len(answer)), list(answer)].sum())


def test_both_directions_of_the_kl(context: EvalContext) -> None:
    """The reverse one scores start's own answers under the policy, by plain forwards."""
    _, result = scored(context)
    requests = BENCHMARK.requests(context)
    for name, sampler, other in (
        ("kl", context.policy, context.start),
        ("reverse_kl", context.start, context.policy),
    ):
        answers = sampler.sample(requests)
        gaps = [
            plain_logp(sampler.model, q.prompt, a.ids) - plain_logp(other.model, q.prompt, a.ids)
            for q, a in zip(requests, answers, strict=True)
        ]
        assert result.metric(name).value == pytest.approx(np.mean(gaps), abs=1e-3)
        assert result.items["items"][name] == pytest.approx(gaps, abs=1e-3)
    assert result.metric("kl").value != result.metric("reverse_kl").value


def test_the_estimates_are_those_of_the_enumerated_divergences() -> None:
    """Two small policies whose answers are all enumerated: the mean over many sampled answers of what a row holds goes
    to KL(policy || start) and KL(start || policy), both positive, each in its own direction."""
    from kit.enumerable import PROMPTS, RESPONSES, log_probabilities, policy
    from kit.training import perturb

    start, moved = policy(0), perturb(policy(0), 5, 0.1)
    with torch.no_grad():
        ref, own = log_probabilities(start), log_probabilities(moved)
    exact = {
        "kl": float((own.exp() * (own - ref)).sum(1).mean()),
        "reverse_kl": float((ref.exp() * (ref - own)).sum(1).mean()),
    }
    rng = np.random.default_rng(0)
    draw = {
        (name, at): rng.choice(len(RESPONSES), 20000, p=(p := table[at].double().exp().numpy()) / p.sum())
        for name, table in (("own", own), ("ref", ref))
        for at in range(len(PROMPTS))
    }
    rows: list[Row] = []
    for i, at in itertools.product(range(20000), range(len(PROMPTS))):
        a, b = (int(draw[name, at][i]) for name in ("own", "ref"))
        rows.append(
            {
                "id": i, "text": "x", "reward": 0.0, "start_reward": 0.0, "unit": "reward", "pairwise": False,
                "tokens": len(RESPONSES[a]), "truncated": False,
                "logp": float(own[at, a]), "start_logp": float(ref[at, a]),
                "start_answer_logp": float(ref[at, b]), "start_answer_policy_logp": float(own[at, b]),
            }
        )  # fmt: skip
    items = BENCHMARK.score(rows).columns
    for name, value in exact.items():
        sampled = np.array(items["items"][name])
        error = sampled.std() / len(sampled) ** 0.5
        assert value > 20 * error
        assert abs(sampled.mean() - value) < 4 * error
    assert abs(exact["kl"] - exact["reverse_kl"]) > 0.01


def test_margin_and_accuracy_on_held_out_pairs(context: EvalContext) -> None:
    rows, result = scored(context)
    expected = []
    for pair in context.heldout_pairs:
        ratios = [
            plain_logp(context.policy.model, pair["prompt_ids"], pair[side])
            - plain_logp(context.start.model, pair["prompt_ids"], pair[side])
            for side in ("chosen_ids", "rejected_ids")
        ]
        expected.append(ratios[0] - ratios[1])
    assert [r["margin"] for r in rows if "margin" in r] == pytest.approx(expected, abs=1e-3)
    assert {m > 0 for m in expected} == {True, False}
    assert result.metric("accuracy").value == pytest.approx(100 * np.mean([m > 0 for m in expected]), abs=1e-4)
    even = [{"id": i, "margin": m} for i, m in enumerate((0.0, 2.0, -1.0, 0.0))]
    assert BENCHMARK.score(even)[0]["pairs"]["accurate"] == [0.5, 1, 0, 0.5]


def test_start_is_even_by_construction(context: EvalContext) -> None:
    context.policy = context.start
    _, result = scored(context)
    values = {m.name: m.value for m in result.metrics}
    even = {"win_rate": 50, "kl": 0, "reverse_kl": 0, "margin": 0, "accuracy": 50}
    assert {name: values[name] for name in even} == even


def test_both_oracles_are_shown(context: EvalContext) -> None:
    context.training_oracle = MeteredOracle(Letters(), Ledger())
    rows, result = scored(context)
    texts = [r["text"] for r in rows if "text" in r]
    assert result.metric("gold_reward").primary
    assert [m.name for m in result.metrics if m.primary] == ["gold_reward"]
    training = result.metric("training_reward")
    assert (training.unit, training.better) == ("letters", 0)
    assert training.value == pytest.approx(np.mean(Letters().score([], texts)))
    assert result.metric("gold_reward").value == pytest.approx(
        np.mean(ConstraintOracle().score(list(context.prompts), texts)), abs=1e-5
    )


def test_verdicts_of_a_pairwise_oracle_are_no_rewards(context: EvalContext) -> None:
    """Nothing is compared with another method's answers by those on start's; asked about them, it says who wins."""
    from kit.results import details
    from kit.results import run_result as run

    context.oracle = MeteredOracle(Longer(), Ledger())
    rows, result = scored(context)
    assert set(result.items["items"]["preferred"]) <= {0.2, 0.5, 0.8}
    assert "reward" not in result.items["items"]
    wins = [0.5 + np.sign(v - 0.5) / 2 for v in result.items["items"]["preferred"]]
    assert result.items["items"]["win"] == wins
    page = pages([run("start", [result]), run("dpo", [result]), run("sail-pr", [result])])["LEADERBOARD.md"]
    assert "win vs start" in page
    assert "win vs `dpo`" not in page
    shares = [0.8, 0.5, None, 0.2, 0.2, 0.9, None, 0.1]
    compared = [r | {"reference": "dpo", "reference_won": w} for r, w in zip(rows, shares, strict=False) if "text" in r]
    against = benchmark_result(BENCHMARK, compared, BENCHMARK.protocol(), None)
    assert against.items["items"]["win_reference"] == [1, 0.5, None, 0, 0, 1, None, 0]
    won = against.metric("win_reference")
    assert (won.value, won.n_valid, won.n_total) == (pytest.approx(100 * 2.5 / 6), 6, 8)
    page = pages([run("start", [result]), run("dpo", [result]), run("sail-pr", [against])])["LEADERBOARD.md"]
    part = details(page, "Distance from the start policy")
    assert "| win vs `dpo`, win % |" in part


def test_the_page_shows_them_and_says_why_none_is_ranked(context: EvalContext) -> None:
    from kit.results import details
    from kit.results import run_result as run

    _, result = scored(context)
    page = pages([run("start", [result]), run("dpo", [result]), run("sail-pr", [result])])["LEADERBOARD.md"]
    part = details(page, "Distance from the start policy")
    header, _, *body = [line for line in part.split("\n") if line.startswith("|")]
    titles = [t.strip() for t in header.strip("|").split("|")]
    for title in (
        "win vs `dpo`, win %",
        "reverse KL, nats/answer",
        "distinct-2, % of word pairs",
        "held-out accuracy, %",
    ):
        assert title in titles
    cells = {r.split("|")[1].strip(): [c.strip() for c in r.strip("|").split("|")] for r in body}
    assert cells["`dpo`"][titles.index("win vs `dpo`, win %")] == ""
    assert cells["`sail-pr`"][titles.index("win vs `dpo`, win %")] == "50.0 (no spread)"
    assert all(len(row) == len(titles) for row in cells.values())
    assert "by construction" in part
    scores = details(page, "All scores, with counts")
    assert "margin" not in scores
    assert "accuracy" not in scores


# distinct-n

TEXTS = ["The cat sat. The cat!", "A dog sat", "", "the CAT sat", "one", "a dog sat on a dog"]


def brute(texts: Sequence[str], n: int) -> float:
    """Percent, by a set of all n-grams."""
    grams = [
        tuple(w[i : i + n]) for t in texts for w in [re.findall(r"\w+", t.casefold())] for i in range(len(w) - n + 1)
    ]
    return 100 * len(set(grams)) / len(grams)


def columns(texts: Sequence[str], n: int) -> dict[str, Any]:
    return {"id": list(range(len(texts)))} | dict(zip(("d", "d_only", "d_total"), ngram_counts(texts, n), strict=True))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_distinct_n_is_the_share_of_a_set(n: int) -> None:
    assert distinct(columns(TEXTS, n), "d", np.ones((1, 6)))[0] == pytest.approx(brute(TEXTS, n))


def test_leaving_an_answer_out_is_exact() -> None:
    """Weight 0 for one answer, 1 for the others: the set without it."""
    for n, left in itertools.product((1, 2), range(6)):
        weights = np.ones((1, 6))
        weights[0, left] = 0
        rest = [t for i, t in enumerate(TEXTS) if i != left]
        assert distinct(columns(TEXTS, n), "d", weights)[0] == pytest.approx(brute(rest, n))


def test_no_words_no_value() -> None:
    assert np.isnan(distinct(columns(["", "!"], 1), "d", np.ones((1, 2)))).all()


def corpus(rng: np.random.Generator, answers: int = 60) -> list[str]:
    """Answers of different lengths over a vocabulary whose frequencies fall like Zipf's."""
    p = 1 / np.arange(1, 401)
    return [" ".join(f"w{w}" for w in rng.choice(400, rng.integers(3, 25), p=p / p.sum())) for _ in range(answers)]


@pytest.mark.slow
def test_the_interval_of_distinct_n_covers_what_such_a_set_has() -> None:
    """Over 150 corpora of one law; counted in a resample, as for a mean, it would nearly never do."""
    rng = np.random.default_rng(0)
    truth = np.mean([brute(corpus(rng), 2) for _ in range(600)])
    hit = naive = 0
    for k in range(150):
        texts = corpus(rng)
        value, samples = replicates("distinct", columns(texts, 2), "d")
        bounds = interval(value, samples, 60)
        assert value == pytest.approx(brute(texts, 2))
        assert samples.mean() == pytest.approx(value, abs=4 * samples.std() / RESAMPLES**0.5)
        hit += bounds.low <= truth <= bounds.high
        if k < 15:
            again = [
                brute([t for t, c in zip(texts, w, strict=True) for _ in range(int(c))], 2) for w in draws(60)[:100]
            ]
            naive += np.percentile(again, 2.5) <= truth <= np.percentile(again, 97.5)
    assert hit / 150 > 0.95 - 3 * (0.05 * 0.95 / 150) ** 0.5
    assert naive <= 3


def test_sections_average_weighted_means() -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "id": list(range(30)),
        "section": ["a"] * 20 + ["b"] * 10,
        "section_weight": rng.uniform(0.5, 2, 30).tolist(),
        "y": [None, *rng.integers(0, 2, 29).tolist()],
    }
    weights = np.vstack([np.ones(30), draws(30)[:3]])
    values = sections(columns, "y", weights)
    for row, value in zip(weights, values, strict=True):
        parts = []
        for name in ("a", "b"):
            inside = [i for i in range(30) if columns["section"][i] == name and columns["y"][i] is not None]
            total = sum(row[i] * columns["section_weight"][i] for i in inside)
            parts.append(sum(row[i] * columns["section_weight"][i] * columns["y"][i] for i in inside) / total)
        assert value == pytest.approx(100 * sum(parts) / 2)
