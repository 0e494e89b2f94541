"""``curve``: gold reward and KL on the way, at fixed shares of the budget, and the area under the reward's curve."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from benchmarks.shared.asking import task_requests
from benchmarks.shared.numbers import none_if_nan
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row, Scored
from harness.budget.forecast import TYPICAL_PROMPT
from harness.score.metrics import metric
from harness.score.results import Columns
from harness.score.validity import Invalid, value_or_reason

if TYPE_CHECKING:
    from harness.answer.policy import Policy

NOT_KEPT = "the run ended before this share"
NO_REWARD = "no reward"

Share = Annotated[float, Field(gt=0, le=1)]


class _AnswerScore(NamedTuple):
    """Gold reward of an answer (None where the oracle gives none, or the answer has no finite log-probability), and
    log pi - log pi_start (nats); both None where no policy was kept."""

    reward: float | None
    kl: float | None


class CurveOptions(BenchmarkOptions):
    """``fractions``: shares of the budget whose policies are scored. ``prompts``: the first so many evaluation prompts
    (0: all). ``max_new_tokens``: longest answer."""

    fractions: list[Share] = Field(default=[0.25, 0.5, 0.75, 1.0], min_length=1)
    prompts: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=48, gt=0)


class Curve(Benchmark):
    """How fast a method learns: two methods that end alike can differ in what half the budget buys.

    The policy kept at the first step boundary that reaches each fraction answers the prompts of ``preference`` with the
    same noise. The area is the mean reward over the budget, by trapezoids from the start policy at 0; it is computed
    for each prompt, so that it pairs.
    """

    name = "curve"
    title = "Learning curve"
    summary = "gold reward and KL at shares of the budget, and the area under the reward's curve"
    needs = frozenset({"weights", "task"})
    Options = CurveOptions
    options: CurveOptions

    def protocol(self) -> dict[str, Any]:
        """Adds the decoding."""
        return {**super().protocol(), "decoding": "T=1, one sample", "oracle": "gold reward"}

    def fractions(self) -> list[float]:
        """The policies it needs."""
        return sorted(self.options.fractions)

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """One answer a prompt and fraction; those of the final policy are shared with ``preference``."""
        policies, length = len(self.options.fractions) if trained else 1, self.options.max_new_tokens
        answers = min(prompts, self.options.prompts or prompts) * policies
        return EvalCost(answers * length, 0, answers * (2 * TYPICAL_PROMPT + length))

    def answer(self, context: EvalContext) -> list[Row]:
        """One row a prompt: reward and KL of start and of each policy on the way; None where no policy was kept."""
        prompts = list(context.prompts)[: self.options.prompts or None]
        rows: list[Row] = [{"id": p["id"], "unit": context.oracle.unit, "reward": {}, "kl": {}} for p in prompts]
        for row, score in zip(rows, self._scores(context, context.start, prompts), strict=True):
            row["start_reward"] = score.reward
        for fraction in self.fractions():
            policy = context.kept(fraction)
            scores = (
                [_AnswerScore(None, None)] * len(rows) if policy is None else self._scores(context, policy, prompts)
            )
            for row, score in zip(rows, scores, strict=True):
                row["reward"][f"{fraction:g}"], row["kl"][f"{fraction:g}"] = score
        return rows

    def _scores(self, context: EvalContext, policy: Policy, prompts: list[Row]) -> list[_AnswerScore]:
        """One sampled answer to each prompt, with the noise of the benchmark ``preference``."""
        length = self.options.max_new_tokens
        requests, start_requests = (task_requests(p, prompts, length) for p in (policy, context.start))
        with policy.meter.phase("eval"):
            answers = policy.sample(requests, context.progress)
            start_answers = context.start.sample(start_requests, context.progress)
            if policy.identity == context.start.identity:
                start_logps = [answer.logp for answer in answers]
            else:
                sampled = [(request.prompt, a.ids) for request, a in zip(requests, answers, strict=True)]
                start_logps = context.start.summed_logps(sampled, context.scoring_batch_size)
        texts, start_texts = [policy.text(a) for a in answers], [context.start.text(a) for a in start_answers]
        rewards, _ = context.oracle.versus(prompts, texts, start_texts)
        return [
            _AnswerScore(none_if_nan(reward) if math.isfinite(answer.logp) else None, answer.logp - start_logp)
            for reward, answer, start_logp in zip(rewards, answers, start_logps, strict=True)
        ]

    def score(self, rows: list[Row]) -> Scored:
        """A column a fraction, and the area."""
        unit = rows[0]["unit"] if rows else "reward"
        title = "gold reward" if unit == "share met" else "reward"
        names = [f"{f:g}" for f in self.fractions()]
        columns: Columns = {"id": [r["id"] for r in rows], "area": [_area(r, names) for r in rows]}
        metrics = [metric("area", f"area under {title}", unit, 1, "mean", "area", primary=True)]
        shown: tuple[tuple[str, str, str, Literal[0, 1]], ...] = (
            ("reward", title, unit, 1),
            ("kl", "KL to start", "nats/answer", 0),
        )
        for kind, what, measured, better in shown:
            for name in names:
                columns[f"{kind}_{name}"] = [_value(r, kind, name) for r in rows]
                label = f"{what} at {float(name):.0%}"
                metrics.append(metric(f"{kind}_{name}", label, measured, better, "mean", f"{kind}_{name}"))
        return Scored({"items": columns}, metrics)


def _value(row: Row, kind: str, fraction: str) -> float | Invalid:
    """Reward or KL at a share of the budget, to six decimals, or why there is none."""
    value = row[kind][fraction]
    if value is not None:
        return value_or_reason(round(value, 6))
    return Invalid(NOT_KEPT if row["kl"][fraction] is None else NO_REWARD)


def _area(row: Row, names: list[str]) -> float | Invalid:
    """Mean reward over the budget up to the last fraction, by trapezoids, to six decimals, or why there is none."""
    start = Invalid(NO_REWARD) if row["start_reward"] is None else value_or_reason(row["start_reward"])
    x, y = [0.0, *map(float, names)], [start, *[_value(row, "reward", name) for name in names]]
    values = [row["start_reward"], *[row["reward"][name] for name in names]]
    invalid = next((value for value in y if isinstance(value, Invalid)), None)
    if invalid is not None:
        return invalid
    total = sum((b - a) * (v + w) / 2 for a, b, v, w in zip(x, x[1:], values, values[1:], strict=False))
    return round(float(total / x[-1]), 6)
