"""``preference``: what training aimed at, on unseen prompts: gold reward against the distance from the start policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from benchmarks.preference.diversity import novelty
from benchmarks.shared.numbers import known, rounded, wins
from harness.answer.chat import messages_of
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row
from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from sail.types import Completion, Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy


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
        """One answer a prompt, no judge."""
        return EvalCost(prompts * self.options.max_new_tokens, 0)

    def requests(self, context: EvalContext) -> list[Request]:
        """One sampled answer a prompt."""
        return self._asked(context, context.policy)

    def _asked(self, context: EvalContext, policy: Policy) -> list[Request]:
        length = self.options.max_new_tokens
        return [Request(policy.render(messages_of(p)), length, 1.0, ("preference", p["id"])) for p in context.prompts]

    def answer(self, context: EvalContext) -> list[Row]:
        """Answers of the policy and of start to the same prompts, and the log-probabilities of each under the other."""
        plain, told = self._asked(context, context.start), self.requests(context)
        with context.policy.meter.phase("eval"):
            ours = context.policy.sample(told, context.progress)
            theirs = context.start.sample(plain)
            under_start = _scored(context, context.start, plain, ours)
            under_policy = _scored(context, context.policy, told, theirs)
            margins = _margins(context)
        texts = [context.policy.text(c) for c in ours]
        base_texts = [context.start.text(c) for c in theirs]
        reward, base = context.oracle.versus(list(context.prompts), texts, base_texts)
        rows: list[Row] = [
            {
                "id": prompt["id"],
                "text": text,
                "reward": known(r),
                "start_reward": known(b),
                "unit": context.oracle.unit,
                "pairwise": context.oracle.pairwise,
                "tokens": len(c.ids),
                "truncated": not c.stopped,
                "logp": c.logp,
                "start_logp": u,
                "start_answer_logp": s.logp,
                "start_answer_policy_logp": v,
            }
            for prompt, text, c, r, b, u, s, v in zip(
                context.prompts, texts, ours, reward, base, under_start, theirs, under_policy, strict=True
            )
        ]
        if context.training_oracle is not None:
            trained, _ = context.training_oracle.versus(list(context.prompts), texts, base_texts)
            for row, value in zip(rows, trained, strict=True):
                row |= {"training_reward": known(value), "training_unit": context.training_oracle.unit}
        return rows + margins

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """Answers and held-out pairs are two groups of columns. A pairwise oracle's verdicts are column ``preferred``:
        no reward that could be compared with another method's."""
        answered = [r for r in rows if "reward" in r]
        pairs = [r for r in rows if "margin" in r]
        unit = answered[0]["unit"] if answered else "reward"
        title = "gold reward" if unit == "share met" else "reward"
        main = "preferred" if answered and answered[0]["pairwise"] else "reward"
        columns: Columns = {
            "id": [r["id"] for r in answered],
            main: [rounded(r["reward"]) for r in answered],
            "win": [None if r["reward"] is None else wins(r["reward"], r["start_reward"]) for r in answered],
            "kl": [round(r["logp"] - r["start_logp"], 5) for r in answered],
            "reverse_kl": [round(r["start_answer_logp"] - r["start_answer_policy_logp"], 5) for r in answered],
            "start_nll": [round(-r["start_logp"], 5) for r in answered],
            "tokens": [r["tokens"] for r in answered],
            "truncated": [int(r["truncated"]) for r in answered],
        }
        metrics = [metric("gold_reward", title, unit, 1, "mean", main, primary=True)]
        if answered and "training_reward" in answered[0]:
            columns["training_reward"] = [rounded(r["training_reward"]) for r in answered]
            measured = answered[0]["training_unit"]
            metrics.append(
                metric("training_reward", "training oracle's reward", measured, 0, "mean", "training_reward")
            )
        metrics.append(metric("win_rate", "win vs start", "win %", 1, "percent", "win"))
        if any("reference_won" in r for r in answered):
            won = [r.get("reference_won") for r in answered]
            columns["win_reference"] = [None if w is None else wins(w, 0.5) for w in won]
            rival = next(r["reference"] for r in answered if "reference" in r)
            metrics.append(metric("win_reference", f"win vs `{rival}`", "win %", 1, "percent", "win_reference"))
        metrics += [
            metric("kl", "KL to start", "nats/answer", 0, "mean", "kl"),
            metric("reverse_kl", "reverse KL", "nats/answer", 0, "mean", "reverse_kl"),
            metric("start_perplexity", "start perplexity", "per token", 0, "perplexity", "start_nll"),
            metric("length", "length", "tokens", 0, "mean", "tokens"),
            metric("truncated", "truncated", "%", 0, "percent", "truncated"),
        ]
        for n in (1, 2):
            name = f"distinct_{n}"
            parts = novelty([r["text"] for r in answered], n)
            columns |= dict(zip((name, f"{name}_only", f"{name}_total"), parts, strict=True))
            metrics.append(
                metric(name, f"distinct-{n}", "% of words" if n == 1 else "% of word pairs", 0, "distinct", name)
            )
        margins: Columns = {
            "id": [r["id"] for r in pairs],
            "margin": [round(r["margin"], 6) for r in pairs],
            "accurate": [wins(r["margin"], 0) for r in pairs],
        }
        metrics += [
            metric("margin", "held-out margin", "beta-free nats", 0, "mean", "margin", group="pairs"),
            metric("accuracy", "held-out accuracy", "%", 0, "percent", "accurate", group="pairs"),
        ]
        return {"items": columns, "pairs": margins}, metrics


def _scored(context: EvalContext, policy: Policy, asked: list[Request], answers: list[Completion]) -> list[float]:
    """Log-probabilities (nats, summed) of answers under ``policy``, as it is asked; where policy and start are one,
    those that they were sampled with."""
    if context.policy.identity == context.start.identity:
        return [c.logp for c in answers]
    rows = [(q.prompt, c.ids) for q, c in zip(asked, answers, strict=True)]
    return [sum(v) for v in policy.token_logps(rows, context.scoring_batch_size, context.progress)]


def _margins(context: EvalContext) -> list[Row]:
    """Implicit margin h of each held-out pair: (log-ratio of chosen) - (log-ratio of rejected), nats."""
    pairs = context.heldout_pairs
    if context.policy.model is context.start.model:
        return [{"id": p["id"], "margin": 0.0} for p in pairs]
    sides = [(p["prompt_ids"], p[side]) for p in pairs for side in ("chosen_ids", "rejected_ids")]
    logps = [sum(v) for v in context.policy.token_logps(sides, context.scoring_batch_size, context.progress)]
    return [
        {
            "id": p["id"],
            "margin": (logps[2 * i] - p["ref_chosen_logps"]) - (logps[2 * i + 1] - p["ref_rejected_logps"]),
        }
        for i, p in enumerate(pairs)
    ]
