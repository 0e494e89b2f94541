"""``rewardbench``: the implicit reward of a policy on labelled pairs: RewardBench, or pairs in its format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from benchmarks.rewardbench.accuracy import score_pairs
from benchmarks.rewardbench.pairs import draw_pairs, find_pairs_file, pairs_identity, repeated_pairs, subset_sizes
from benchmarks.rewardbench.sections import set_label
from benchmarks.shared.numbers import win_points
from harness.answer.answer_ids import answer_ids
from harness.answer.chat import text_ids
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, EvalCost, Row, Scored
from harness.budget.forecast import text_tokens
from harness.score.validity import Invalid

if TYPE_CHECKING:
    from harness.answer.policy import Policy


PUBLISHED_PAIRS, PUBLISHED_TOKENS = 2985, 700
"""Pairs of the published set, and tokens of one, about."""

NO_PAIR = "one answer twice, or no room for the answers"

TITLES = {
    "accuracy": "",
    "summed": "without reference, log pi",
    "per_token": "without reference, log pi per token",
}
"""Titles of the metrics; that of the primary one depends on the set."""


class RewardBenchOptions(BenchmarkOptions):
    """``limit``: so many pairs, drawn from the subsets in proportion (0: all). ``seed``: of that draw. ``max_length``:
    tokens of a prompt and an answer, no more than the model holds; a longer answer is cut."""

    limit: int = Field(default=0, ge=0)
    seed: int = 0
    max_length: int = Field(default=2048, gt=1)


class RewardBench(Benchmark):
    """How often the implicit reward, log pi(y|x) - log pi_start(y|x), is higher for the chosen answer (ties half).

    ``start`` is at 50 by construction. Beside it the same without a reference (log pi, summed and per token), where
    ``start`` has a value too. The official score is given where all 23 official subsets are there; else the mean
    over pairs. An answer has the tokens that the chat template gives it, its end included.
    """

    name = "rewardbench"
    version = 2
    title = "RewardBench"
    summary = "accuracy of the implicit reward on labelled pairs, by subset (--data-dir or the Hub)"
    needs = frozenset({"weights", "start"})
    Options = RewardBenchOptions
    options: RewardBenchOptions

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        self.path = find_pairs_file()
        self.label = set_label(subset_sizes(self.path), self.options.limit)

    def protocol(self) -> dict[str, Any]:
        """Adds the data."""
        protocol = super().protocol() | {"data": pairs_identity(self.path)}
        if not self.options.limit:
            del protocol["seed"]
        return protocol

    def prompt_texts(self) -> list[str]:
        """The prompts of a local file; none where they are on the Hub."""
        if self.path is None:
            return []
        pairs = draw_pairs(self.path, self.options.limit, self.options.seed)
        return list(dict.fromkeys(pair["prompt"] for pair in pairs))

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """Both answers of each pair under the policy; those under start are computed once, for all policies."""
        if self.path is None:
            count = min(self.options.limit or PUBLISHED_PAIRS, PUBLISHED_PAIRS)
            return EvalCost(0, 0, count * PUBLISHED_TOKENS)
        pairs = draw_pairs(self.path, self.options.limit, self.options.seed)
        return EvalCost(
            0, 0, sum(text_tokens([p["prompt"] + p[side] for side in ("chosen", "rejected")]) for p in pairs)
        )

    def answer(self, context: EvalContext) -> list[Row]:
        """Log-probabilities (nats, summed) of both answers under the policy and under start, and their tokens; None for
        a pair that cannot be judged: a prompt that fills ``max_length``, or two answers that are one."""
        if notice := repeated_pairs(self.path):
            print(f"{self.name}: {notice}", flush=True)
        pairs = draw_pairs(self.path, self.options.limit, self.options.seed)
        with context.policy.meter.phase("eval"):
            policy_logps = self._logps(context, context.policy, pairs)
            is_start = context.policy.identity == context.start.identity
            start_logps = policy_logps if is_start else self._logps(context, context.start.asked_by(""), pairs)
        return [
            {key: pair[key] for key in ("id", "subset", "weight", "of")} | {"policy": logps, "start": reference}
            for pair, logps, reference in zip(pairs, policy_logps, start_logps, strict=True)
        ]

    def _logps(self, context: EvalContext, policy: Policy, pairs: Sequence[Row]) -> list[dict[str, Any] | None]:
        """For each pair ``logps`` and ``tokens`` of the chosen and the rejected answer."""
        from harness.pairs.tokenised import context_window

        limit = min(self.options.max_length, context_window(policy))
        encoded: list[EncodedAnswers | None] = []
        for pair in pairs:
            prompt, answers = encode_answers(policy, pair["prompt"], (pair["chosen"], pair["rejected"]))
            chosen, rejected = (ids[: max(0, limit - len(prompt))] for ids in answers)
            valid = chosen and rejected and chosen != rejected
            encoded.append(EncodedAnswers(prompt, [chosen, rejected]) if valid else None)
        rows = [(pair.prompt, ids) for pair in encoded if pair for ids in pair.answers]
        values = iter(policy.continuation_logps(rows, context.scoring_batch_size, context.progress))
        return [
            pair
            and {"logps": [round(next(values)[0], 5) for _ in pair.answers], "tokens": list(map(len, pair.answers))}
            for pair in encoded
        ]

    def score(self, rows: list[Row]) -> Scored:
        """The implicit reward first; sections, if they are the official ones; then without a reference."""
        verdicts = [_verdicts(r) for r in rows]
        return score_pairs(rows, {name: [v[name] for v in verdicts] for name in TITLES}, TITLES, self.title)


def _verdicts(row: Row) -> dict[str, float | Invalid]:
    """1, 0 or one half by implicit reward, by log pi, and by log pi per token, or why there is none."""
    if row["policy"] is None or row["start"] is None:
        return dict.fromkeys(TITLES, Invalid(NO_PAIR))
    chosen, rejected = row["policy"]["logps"]
    chosen_tokens, rejected_tokens = row["policy"]["tokens"]
    start_chosen, start_rejected = row["start"]["logps"]
    return {
        "accuracy": win_points(chosen - start_chosen, rejected - start_rejected),
        "summed": win_points(chosen, rejected),
        "per_token": win_points(chosen / chosen_tokens, rejected / rejected_tokens),
    }


class EncodedAnswers(NamedTuple):
    """Token ids of a prompt, and of each answer to it up to the id that ends it."""

    prompt: list[int]
    answers: list[list[int]]


def encode_answers(policy: Policy, prompt: str, answers: Sequence[str]) -> EncodedAnswers:
    """Token ids of a prompt as ``policy`` is asked, and of answers to it.

    The answer's ids are those that the chat template writes after the opened turn; where a template writes a finished
    turn otherwise, the text's own and the id that ends the turn.

    Args:
        policy: whose chat template is used.
        prompt: one turn of the user.
        answers: texts of the assistant's turn.
    """
    turn = policy.instructed([{"role": "user", "content": prompt}])
    encoded = []
    for answer in answers:
        ids = answer_ids(policy.tokenizer, turn, [answer], policy.eos_ids)
        whole = ids.prompt == ids.asked
        encoded.append(ids.answers[0] if whole else [*text_ids(policy.tokenizer, answer), ids.answers[0][-1]])
    return EncodedAnswers(list(policy.render([{"role": "user", "content": prompt}])), encoded)
