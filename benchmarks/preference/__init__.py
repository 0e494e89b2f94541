"""``preference``: what training aimed at, on unseen prompts: gold reward against the distance from the start policy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from benchmarks.preference.diversity import ngram_counts
from benchmarks.shared.asking import task_requests
from benchmarks.shared.numbers import SHARE, none_if_nan, win_points
from harness.answer.chat import messages_of
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row, Scored
from harness.oracles.base import NoVerdict
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from harness.score.validity import Invalid, Range, value_or_reason
from sail.types import Completion, Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy


NO_ANSWER = "answer without a finite log-probability"
NO_REWARD = "no reward"
NO_VERDICT = "no verdict"

_RANGES: dict[str, Range] = {
    **dict.fromkeys(("preferred", "win", "win_reference", "truncated", "accurate"), SHARE),
    "tokens": (0, math.inf),
}


class PreferenceOptions(BenchmarkOptions):
    """``max_new_tokens``: longest answer."""

    max_new_tokens: int = Field(default=48, gt=0)


class Preference(Benchmark):
    """Reward, win rate against ``start``, KL both ways, length, truncation, distinct-n, perplexity under ``start``, and
    the implicit reward on held-out pairs.

    One answer a prompt at temperature 1; the noise is the same for every method, so that prompts pair closely. The
    reward margin is what self-labelled methods widen by construction: it is shown with its accuracy, and nothing is
    ranked by either. Where another oracle evaluates than trained, both rewards are shown. See docs/preference.md.
    """

    name = "preference"
    title = "Preference"
    version = 2
    summary = "reward on unseen prompts, wins, KL, length, diversity, held-out margin (the project's own task)"
    needs = frozenset({"weights", "task", "reference"})
    Options = PreferenceOptions
    options: PreferenceOptions

    def protocol(self) -> dict[str, Any]:
        """Adds the decoding."""
        return {**super().protocol(), "decoding": "T=1, one sample", "oracle": "gold reward"}

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer a prompt, no judge; a trained policy and start read each other's answers."""
        length = self.options.max_new_tokens
        return EvalCost(prompts * length, 0, prompts * (1 + trained) * length, prompts * (2 + trained), trained / 2)

    def requests(self, context: EvalContext) -> list[Request]:
        """One sampled answer a prompt."""
        return task_requests(context.policy, context.prompts, self.options.max_new_tokens)

    def answer(self, context: EvalContext) -> list[Row]:
        """Answers of the policy and of start to the same prompts, and the log-probabilities of each under the other."""
        prompts, length = context.prompts, self.options.max_new_tokens
        requests, start_requests = (task_requests(p, prompts, length) for p in (context.policy, context.start))
        with context.policy.meter.phase("eval"):
            answers = context.policy.sample(requests, context.progress)
            start_answers = context.start.sample(start_requests)
            under_start = _summed_logps(context, context.start, start_requests, answers)
            under_policy = _summed_logps(context, context.policy, requests, start_answers)
            margins = _margins(context)
        texts = [context.policy.text(a) for a in answers]
        start_texts = [context.start.text(a) for a in start_answers]
        rewards, start_rewards = context.oracle.versus(list(prompts), texts, start_texts)
        rows: list[Row] = [
            {
                "id": prompt["id"],
                "prompt": [turn["content"] for turn in messages_of(prompt)],
                "text": text,
                "reward": none_if_nan(reward),
                "start_reward": none_if_nan(start_reward),
                "unit": context.oracle.unit,
                "pairwise": context.oracle.pairwise,
                "tokens": len(answer.ids),
                "truncated": not answer.stopped,
                "logp": answer.logp,
            }
            for prompt, text, answer, reward, start_reward in zip(
                prompts, texts, answers, rewards, start_rewards, strict=True
            )
        ]
        for row, verdict in zip(rows, rewards, strict=True):
            if isinstance(verdict, NoVerdict):
                row["no_verdict"] = verdict.reason
        for row, start_logp, start_answer, logp in zip(rows, under_start, start_answers, under_policy, strict=True):
            row |= {"start_logp": start_logp}
            row |= {"start_answer_logp": start_answer.logp, "start_answer_policy_logp": logp}
        if context.training_oracle is not None:
            training_rewards, _ = context.training_oracle.versus(list(prompts), texts, start_texts)
            for row, reward in zip(rows, training_rewards, strict=True):
                row |= {"training_reward": none_if_nan(reward), "training_unit": context.training_oracle.unit}
        return rows + margins

    def score(self, rows: list[Row]) -> Scored:
        """Answers and held-out pairs are two groups of columns. A pairwise oracle's verdicts are column ``preferred``:
        no reward that could be compared with another method's."""
        answers = [r for r in rows if "reward" in r]
        pairs = [r for r in rows if "margin" in r]
        margins: Columns = {
            "id": [r["id"] for r in pairs],
            "margin": [round(r["margin"], 6) for r in pairs],
            "accurate": [win_points(r["margin"], 0) for r in pairs],
        }
        columns = _answer_columns(answers)
        return Scored(
            {"items": columns, "pairs": margins},
            [
                *_reward_metrics(answers, columns),
                metric("kl", "KL to start", "nats/answer", 0, "mean", "kl"),
                metric("reverse_kl", "reverse KL", "nats/answer", 0, "mean", "reverse_kl"),
                metric("start_perplexity", "start perplexity", "per token", 0, "perplexity", "start_nll"),
                metric("length", "length", "tokens", 0, "mean", "tokens"),
                metric("truncated", "truncated", "%", 0, "percent", "truncated"),
                metric("distinct_1", "distinct-1", "% of words", 0, "distinct", "distinct_1"),
                metric("distinct_2", "distinct-2", "% of word pairs", 0, "distinct", "distinct_2"),
                metric("margin", "held-out margin", "beta-free nats", 0, "mean", "margin", group="pairs"),
                metric("accuracy", "held-out accuracy", "%", 0, "percent", "accurate", group="pairs"),
            ],
            _RANGES,
        )


def _answer_columns(rows: list[Row]) -> Columns:
    """Columns of answers; ``training_reward`` and ``win_reference`` where the rows have them.

    What a policy whose probabilities are no numbers gives is no answer of it: none of its values is valid.
    """
    pairwise = bool(rows) and rows[0]["pairwise"]

    def missing(row: Row) -> Invalid:
        return Invalid(row.get("no_verdict", NO_VERDICT if pairwise else NO_REWARD))

    def of_answers(value: Callable[[Row], Any]) -> list[Any]:
        return [value(r) if math.isfinite(r["logp"]) else Invalid(NO_ANSWER) for r in rows]

    def reward_of(row: Row, key: str) -> float | Invalid:
        return missing(row) if row[key] is None else value_or_reason(round(row[key], 6))

    def win(row: Row) -> float | Invalid:
        if row["reward"] is None or row["start_reward"] is None:
            return missing(row)
        if not math.isfinite(row["start_answer_logp"]):
            return Invalid(NO_ANSWER)
        return win_points(row["reward"], row["start_reward"])

    columns: Columns = {
        "id": [r["id"] for r in rows],
        "preferred" if pairwise else "reward": of_answers(lambda r: reward_of(r, "reward")),
        "win": of_answers(win),
        "kl": [round(r["logp"] - r["start_logp"], 5) for r in rows],
        "reverse_kl": [round(r["start_answer_logp"] - r["start_answer_policy_logp"], 5) for r in rows],
        "start_nll": [round(-r["start_logp"], 5) for r in rows],
        "tokens": of_answers(lambda r: r["tokens"]),
        "truncated": of_answers(lambda r: int(r["truncated"])),
    }
    if rows and "training_reward" in rows[0]:
        columns["training_reward"] = of_answers(lambda r: reward_of(r, "training_reward"))
    if any("reference_won" in r for r in rows):
        columns["win_reference"] = of_answers(lambda r: _reference_points(r.get("reference_won")))
    for n in (1, 2):
        name, counts = f"distinct_{n}", ngram_counts([r["text"] for r in rows], n)
        columns |= {name: counts.new, f"{name}_only": counts.only, f"{name}_total": counts.total}
    return columns


def _reference_points(share: float | None) -> float | Invalid:
    return Invalid(NO_VERDICT) if share is None else win_points(share, 0.5)


def _reward_metrics(rows: list[Row], columns: Columns) -> list[Metric]:
    """Rewards of answers, and wins against start's answers and the reference method's."""
    unit = rows[0]["unit"] if rows else "reward"
    title = "gold reward" if unit == "share met" else "reward"
    reward = "preferred" if "preferred" in columns else "reward"
    metrics = [metric("gold_reward", title, unit, 1, "mean", reward, primary=True)]
    if "training_reward" in columns:
        training_unit = rows[0]["training_unit"]
        metrics.append(
            metric("training_reward", "training oracle's reward", training_unit, 0, "mean", "training_reward")
        )
    metrics.append(metric("win_rate", "win vs start", "win %", 1, "percent", "win"))
    if "win_reference" in columns:
        reference = next(r["reference"] for r in rows if "reference" in r)
        metrics.append(metric("win_reference", f"win vs `{reference}`", "win %", 1, "percent", "win_reference"))
    return metrics


def _summed_logps(
    context: EvalContext, policy: Policy, requests: list[Request], answers: list[Completion]
) -> list[float]:
    """Log-probabilities (nats, summed) of answers under ``policy``, as it is asked; where policy and start are one,
    those that they were sampled with."""
    if context.policy.identity == context.start.identity:
        return [answer.logp for answer in answers]
    sampled = [(request.prompt, answer.ids) for request, answer in zip(requests, answers, strict=True)]
    return policy.summed_logps(sampled, context.scoring_batch_size, context.progress)


def _margins(context: EvalContext) -> list[Row]:
    """Implicit margin h of each held-out pair: (log-ratio of chosen) - (log-ratio of rejected), nats."""
    pairs = context.heldout_pairs
    if context.policy.model is context.start.model:
        return [{"id": p["id"], "margin": 0.0} for p in pairs]
    sides = [(p["prompt_ids"], p[side]) for p in pairs for side in ("chosen_ids", "rejected_ids")]
    logps = context.policy.summed_logps(sides, context.scoring_batch_size, context.progress)
    return [
        {
            "id": p["id"],
            "margin": (logps[2 * i] - p["ref_chosen_logps"]) - (logps[2 * i + 1] - p["ref_rejected_logps"]),
        }
        for i, p in enumerate(pairs)
    ]
