"""``rewardbench``: the implicit reward of a policy on labelled pairs: RewardBench, or pairs in its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from benchmarks.rewardbench import data
from benchmarks.rewardbench.sections import SECTION, SECTIONS, WEIGHTS, label, official
from benchmarks.shared.numbers import wins
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, Row
from harness.score.metrics import metric
from harness.score.results import Columns, Metric

if TYPE_CHECKING:
    from harness.answer.policy import Policy

Ids = Sequence[int]


class RewardBenchOptions(BenchmarkOptions):
    """``limit``: so many pairs, drawn by ``seed`` from the subsets in proportion (0: all). ``max_length``: tokens of a
    prompt and an answer, no more than the model holds; a longer answer is cut."""

    limit: int = Field(default=0, ge=0)
    seed: int = 0
    max_length: int = Field(default=2048, gt=1)


class RewardBench(Benchmark):
    """How often the implicit reward, log pi(y|x) - log pi_start(y|x), is higher for the chosen answer (ties half).

    ``start`` is at 50 by construction. Beside it the same without a reference (log pi, summed and per token), where
    ``start`` has a value too. The official score is told where all 23 official subsets are there; else the mean over
    pairs. An answer has the tokens that the chat template gives it, its end included.
    """

    name = "rewardbench"
    title = "RewardBench"
    summary = "accuracy of the implicit reward on labelled pairs, by subset (--data-dir or the Hub)"
    needs = frozenset({"weights", "start"})
    Options = RewardBenchOptions
    options: RewardBenchOptions

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        self.path = data.locate()
        self.label = label(data.sizes(self.path), self.options.limit)

    def protocol(self) -> dict[str, Any]:
        """Adds the data."""
        found = super().protocol() | {"data": data.identity(self.path)}
        if not self.options.limit:
            del found["seed"]
        return found

    def prompt_texts(self) -> list[str]:
        """The prompts of a local file; none where they are on the Hub."""
        if self.path is None:
            return []
        pairs = data.chosen(self.path, self.options.limit, self.options.seed)
        return list(dict.fromkeys(pair["prompt"] for pair in pairs))

    def answer(self, context: EvalContext) -> list[Row]:
        """Log-probabilities (nats, summed) of both answers under the policy and under start, and their tokens; None for
        a pair that cannot be judged: a prompt that fills ``max_length``, or two answers that are one."""
        if twice := data.repeated(self.path):
            print(f"{self.name}: {twice}", flush=True)
        pairs = data.chosen(self.path, self.options.limit, self.options.seed)
        with context.policy.meter.phase("eval"):
            ours = self._logps(context, context.policy, pairs)
            same = context.policy.identity == context.start.identity
            base = ours if same else self._logps(context, context.start, pairs)
        return [
            {key: pair[key] for key in ("id", "subset", "weight", "of")} | {"policy": mine, "start": theirs}
            for pair, mine, theirs in zip(pairs, ours, base, strict=True)
        ]

    def _logps(self, context: EvalContext, policy: Policy, pairs: Sequence[Row]) -> list[dict[str, Any] | None]:
        """For each pair ``logps`` and ``tokens`` of the chosen and the rejected answer."""
        from harness.pairs.tokenised import context_window

        limit = min(self.options.max_length, context_window(policy))
        encoded = []
        for pair in pairs:
            head, *tails = encode(policy, pair["prompt"], (pair["chosen"], pair["rejected"]))
            cut = [tail[: max(0, limit - len(head))] for tail in tails]
            encoded.append((head, cut) if cut[0] and cut[1] and cut[0] != cut[1] else None)
        rows = [(each[0], tail) for each in encoded if each for tail in each[1]]
        values = iter(policy.continuation_logps(rows, context.scoring_batch_size, context.progress))
        return [
            each and {"logps": [round(next(values)[0], 5) for _ in each[1]], "tokens": [len(t) for t in each[1]]}
            for each in encoded
        ]

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """The implicit reward first; sections, if they are the official ones; then without a reference."""
        values = [_verdicts(r) for r in rows]
        return measured(rows, {name: [v.get(name) for v in values] for name in TITLES}, TITLES, self.title)


TITLES = {
    "accuracy": ("", "acc %"),
    "summed": ("without reference, log pi", "acc %"),
    "per_token": ("without reference, log pi per token", "acc %"),
}


def measured(
    rows: Sequence[Row], values: dict[str, list[float | None]], titles: dict[str, tuple[str, str]], title: str
) -> tuple[dict[str, Columns], list[Metric]]:
    """Columns and metrics of pairs whose ``values`` are 1, 0, one half or None: the first is primary, with sections.

    Args:
        rows: ``id``, ``subset``, ``weight`` and ``of`` of each pair.
    """
    columns: Columns = {"id": [r["id"] for r in rows], "subject": [r["subset"] for r in rows], **values}
    drawn = any(r["weight"] != 1 for r in rows)
    if drawn:
        columns["weight"] = [r["weight"] for r in rows]
    groups, (main, *others) = {"items": columns}, values
    full = official(Counter(columns["subject"]))
    kind = "sections" if full else "weighted_percent" if drawn else "percent"
    head = title if full else f"{title}-format pairs, mean"
    metrics = [metric(main, head, titles[main][1], 1, kind, main, primary=True)]
    if full:
        columns["section"] = [SECTION[s] for s in columns["subject"]]
        columns["section_weight"] = [round(WEIGHTS[r["subset"]] / r["of"] * r["weight"], 6) for r in rows]
        for section in SECTIONS:
            inside = [i for i, name in enumerate(columns["section"]) if name == section]
            names = ("id", main, "section", "section_weight")
            groups[section] = {name: [columns[name][i] for i in inside] for name in names}
            metrics.append(metric(section, section, "acc %", 1, kind, main, group=section))
    metrics += [metric(name, titles[name][0], titles[name][1], 1, kind, name) for name in others]
    return groups, metrics


def _verdicts(row: Row) -> dict[str, float]:
    """1, 0 or one half by implicit reward, by log pi, and by log pi per token; nothing for a pair that is not valid."""
    if row["policy"] is None or row["start"] is None:
        return {}
    (a, b), (m, n), (c, d) = row["policy"]["logps"], row["policy"]["tokens"], row["start"]["logps"]
    return {"accuracy": wins(a - c, b - d), "summed": wins(a, b), "per_token": wins(a / m, b / n)}


def encode(policy: Policy, prompt: str, answers: Sequence[str]) -> list[list[int]]:
    """Token ids of a prompt as ``policy`` is asked, and of each answer to it up to the id that ends it.

    The answer's ids are those that the chat template writes after the opened turn; where a template writes a finished
    turn otherwise, the text's own and the first end id.
    """
    turn = [{"role": "user", "content": prompt}]
    head, ends = list(policy.render(turn)), policy.eos_ids
    found = [head]
    for answer in answers:
        said = [*policy.instructed(turn), {"role": "assistant", "content": answer}]
        whole: list[int] = policy.tokenizer.apply_chat_template(said, return_dict=True)["input_ids"]
        tail = whole[len(head) :]
        last = max((i for i, token in enumerate(tail) if token in ends), default=-1)
        if whole[: len(head)] == head and last >= 0:
            found.append(tail[: last + 1])
        else:
            found.append([*policy.tokenizer(answer, add_special_tokens=False)["input_ids"], ends[0]])
    return found
