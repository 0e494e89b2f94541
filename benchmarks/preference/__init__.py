"""``preference``: what training aimed at, on unseen prompts: gold reward against the distance from the start policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, Row, metric
from harness.prompts import turns
from harness.results import Columns, Metric
from sail.types import Completion, Request

if TYPE_CHECKING:
    from harness.policy import Policy


class PreferenceOptions(BenchmarkOptions):
    """``max_new_tokens``: longest answer."""

    max_new_tokens: int = Field(default=48, gt=0)


class Preference(Benchmark):
    """Gold reward, win rate against ``start``, held-out margin, KL, length, truncation, perplexity under ``start``.

    One answer a prompt at temperature 1; the noise is the same for every method, so that prompts pair closely. The
    reward margin is what self-labelled methods optimise by construction: it is shown, and nothing is ranked by it.
    """

    name = "preference"
    title = "Preference"
    summary = "gold reward on unseen prompts, win rate against start, KL, length, perplexity (the project's own task)"
    on_task = True
    Options = PreferenceOptions
    options: PreferenceOptions

    def protocol(self) -> dict[str, Any]:
        """Adds the decoding."""
        return {**super().protocol(), "decoding": "T=1, one sample", "oracle": "gold reward"}

    def predicted(self, prompts: int, trained: bool) -> tuple[int, int]:
        """One answer a prompt, no judge."""
        return prompts * self.options.max_new_tokens, 0

    def requests(self, context: EvalContext) -> list[Request]:
        """One sampled answer a prompt."""
        return self._asked(context, context.policy)

    def _asked(self, context: EvalContext, policy: Policy) -> list[Request]:
        length = self.options.max_new_tokens
        return [Request(policy.render(turns(p)), length, 1.0, ("preference", p["id"])) for p in context.prompts]

    def answer(self, context: EvalContext) -> list[Row]:
        """Answers of the policy and of start to the same prompts, and log-probabilities under start."""
        plain = self._asked(context, context.start)
        with context.policy.meter.phase("eval"):
            ours = context.policy.sample(self.requests(context), context.progress)
            theirs = context.start.sample(plain)
            under_start = _under_start(context, plain, ours)
            margins = _margins(context)
        texts = [context.policy.text(c) for c in ours]
        base_texts = [context.start.text(c) for c in theirs]
        reward, base = context.oracle.versus(list(context.prompts), texts, base_texts)
        rows: list[Row] = [
            {
                "id": prompt["id"],
                "text": text,
                "reward": r,
                "start_reward": b,
                "unit": context.oracle.unit,
                "tokens": len(c.ids),
                "truncated": not c.stopped,
                "logp": c.logp,
                "start_logp": u,
            }
            for prompt, text, c, r, b, u in zip(context.prompts, texts, ours, reward, base, under_start, strict=True)
        ]
        return rows + margins

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """Answers and held-out pairs are two groups of columns."""
        answered = [r for r in rows if "reward" in r]
        pairs = [r for r in rows if "margin" in r]
        unit = answered[0]["unit"] if answered else "reward"
        title = "gold reward" if unit == "share met" else "reward"
        columns: Columns = {
            "id": [r["id"] for r in answered],
            "reward": [round(r["reward"], 6) for r in answered],
            "win": [
                0.5 + 0.5 * ((r["reward"] > r["start_reward"]) - (r["reward"] < r["start_reward"])) for r in answered
            ],
            "kl": [round(r["logp"] - r["start_logp"], 5) for r in answered],
            "start_nll": [round(-r["start_logp"], 5) for r in answered],
            "tokens": [r["tokens"] for r in answered],
            "truncated": [int(r["truncated"]) for r in answered],
        }
        margins: Columns = {"id": [r["id"] for r in pairs], "margin": [round(r["margin"], 6) for r in pairs]}
        return {"items": columns, "pairs": margins}, [
            metric("gold_reward", title, unit, 1, "mean", "reward", primary=True),
            metric("win_rate", "win vs start", "win %", 1, "percent", "win"),
            metric("kl", "KL to start", "nats/answer", 0, "mean", "kl"),
            metric("start_perplexity", "start perplexity", "per token", 0, "perplexity", "start_nll"),
            metric("length", "length", "tokens", 0, "mean", "tokens"),
            metric("truncated", "truncated", "%", 0, "percent", "truncated"),
            metric("margin", "held-out margin", "beta-free nats", 0, "mean", "margin", group="pairs"),
        ]


def _under_start(context: EvalContext, asked: list[Request], ours: list[Completion]) -> list[float]:
    if context.policy.identity == context.start.identity:
        return [c.logp for c in ours]
    rows = [(q.prompt, c.ids) for q, c in zip(asked, ours, strict=True)]
    return [sum(v) for v in context.start.token_logps(rows, context.scoring_batch_size, context.progress)]


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
