"""``curve``: gold reward and KL on the way, at fixed shares of the budget, and the area under the reward's curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from benchmarks.shared.numbers import known, rounded
from harness.answer.chat import messages_of
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from sail.types import Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy

Share = Annotated[float, Field(gt=0, le=1)]


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
        asked = min(prompts, self.options.prompts or prompts)
        return EvalCost(asked * self.options.max_new_tokens * (len(self.options.fractions) if trained else 1), 0)

    def answer(self, context: EvalContext) -> list[Row]:
        """One row a prompt: reward and KL of start and of each policy on the way; None where no policy was kept."""
        prompts = list(context.prompts)[: self.options.prompts or None]
        rows: list[Row] = [{"id": p["id"], "unit": context.oracle.unit, "reward": {}, "kl": {}} for p in prompts]
        start, _ = self._scores(context, context.start, prompts)
        for row, reward in zip(rows, start, strict=True):
            row["start_reward"] = reward
        for fraction in self.fractions():
            policy = context.kept(fraction)
            rewards, kls = ([None] * len(rows),) * 2 if policy is None else self._scores(context, policy, prompts)
            for row, reward, kl in zip(rows, rewards, kls, strict=True):
                row["reward"][f"{fraction:g}"], row["kl"][f"{fraction:g}"] = reward, kl
        return rows

    def _scores(self, context: EvalContext, policy: Policy, prompts: list[Row]) -> tuple[list[Any], list[Any]]:
        length = self.options.max_new_tokens
        asked = [Request(policy.render(messages_of(p)), length, 1.0, ("preference", p["id"])) for p in prompts]
        with policy.meter.phase("eval"):
            answers = policy.sample(asked, context.progress)
            plain = [context.start.render(messages_of(p)) for p in prompts]
            base = context.start.sample(
                [Request(p, length, 1.0, q.key) for p, q in zip(plain, asked, strict=True)], context.progress
            )
            scored = [(q.prompt, a.ids) for q, a in zip(asked, answers, strict=True)]
            own = policy.identity == context.start.identity
            under = [a.logp for a in answers] if own else list(map(sum, context.start.token_logps(scored)))
        texts, theirs = [policy.text(a) for a in answers], [context.start.text(a) for a in base]
        rewards, _ = context.oracle.versus(prompts, texts, theirs)
        return [known(r) for r in rewards], [a.logp - u for a, u in zip(answers, under, strict=True)]

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """A column a fraction, and the area."""
        unit = rows[0]["unit"] if rows else "reward"
        title = "gold reward" if unit == "share met" else "reward"
        names = [f"{f:g}" for f in self.fractions()]
        columns: Columns = {"id": [r["id"] for r in rows], "area": [rounded(_area(r, names)) for r in rows]}
        metrics = [metric("area", f"area under {title}", unit, 1, "mean", "area", primary=True)]
        shown: tuple[tuple[str, str, str, Literal[0, 1]], ...] = (
            ("reward", title, unit, 1),
            ("kl", "KL to start", "nats/answer", 0),
        )
        for kind, what, measured, better in shown:
            for name in names:
                columns[f"{kind}_{name}"] = [rounded(r[kind][name]) for r in rows]
                label = f"{what} at {float(name):.0%}"
                metrics.append(metric(f"{kind}_{name}", label, measured, better, "mean", f"{kind}_{name}"))
        return {"items": columns}, metrics


def _area(row: Row, names: list[str]) -> float | None:
    """Mean reward over the budget up to the last fraction, by trapezoids."""
    x, y = [0.0, *map(float, names)], [row["start_reward"], *[row["reward"][n] for n in names]]
    if any(value is None for value in y):
        return None
    total = sum((b - a) * (v + w) / 2 for a, b, v, w in zip(x, x[1:], y, y[1:], strict=False))
    return float(total / x[-1])
