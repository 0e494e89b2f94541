"""``sail-bench score rewardbench``: reward models on labelled pairs, with accuracy by subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.markup import escape

from benchmarks.rewardbench.accuracy import score_pairs
from benchmarks.rewardbench.pairs import draw_pairs, find_pairs_file, pairs_identity, repeated_pairs, subset_sizes
from benchmarks.rewardbench.sections import set_label
from benchmarks.shared.numbers import win_points
from benchmarks.shared.score_report import Count, Estimate, ScoredMetric, ScoreReport
from harness.benchmark import Row
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.report.rich_table import rich_table
from harness.score.bootstrap import interval, replicates
from harness.score.validity import Invalid, checked_columns
from harness.store.json_files import digest
from harness.store.row_cache import RowCache

if TYPE_CHECKING:
    from rich.table import Table


CHUNK = 256

EQUAL, EQUAL_CUT = "the same answer twice", "the same beginning twice, or no room, after the cut"


@dataclass
class _ModelScores:
    """A model's estimates by the metric's title, its counts, facts and warnings."""

    estimates: dict[str, Estimate]
    count: Count
    facts: dict[str, Any]
    warnings: list[str]


class RewardedConversation(NamedTuple):
    """A model's reward of a conversation, and the tokens of that conversation before any cut."""

    reward: float
    tokens: int


def score_reward_models(
    models: Sequence[str],
    root: Path | None = None,
    *,
    cache: RowCache | None = None,
    limit: int = 0,
    seed: int = 0,
    batch_size: int = 16,
    max_length: int = 2048,
    progress: Callable[[str, int], None] = lambda name, done: None,
) -> ScoreReport:
    """Accuracy of each model's reward: the share of pairs whose chosen answer has the higher one, ties half.

    A pair of two equal answers has no right one, nor has one whose answers are one, or have no room, after the cut at
    ``max_length``: it is counted and not valid.

    Args:
        models: directories or Hub ids.
        root: where the pairs are (:func:`benchmarks.rewardbench.pairs.find_pairs_file`).
        cache: keeps rewards batch by batch.
        limit: so many pairs, drawn by subset (0: all).
        seed: of that draw.
        batch_size: conversations in a forward pass.
        max_length: tokens of a conversation; what is longer is cut.
        progress: called with a model's name and the answers that it has rewarded.

    Raises:
        UserError: no pairs, a row that is none, or a checkpoint that is no reward model.
    """
    path = find_pairs_file(root)
    source, pairs = pairs_identity(path), draw_pairs(path, limit, seed)
    scores = []
    for name in models:
        model = RewardModel(RewardModelOptions(model=name, batch_size=batch_size, max_length=max_length))
        scores.append(_score_model(model, pairs, cache, partial(progress, name)))
    warnings = [f"{name}: {warning}" for name, s in zip(models, scores, strict=True) for warning in s.warnings]
    if equal := len(_equal_answers(pairs)):
        warnings.append(f"{equal:,} pairs hold the same answer twice: they are not valid")
    if notice := repeated_pairs(path):
        warnings.append(notice)
    label = set_label(subset_sizes(path), limit)
    protocol = {"data": source, "set": label, "limit": limit, "seed": seed, "max_length": max_length}
    metrics = [
        ScoredMetric.stacked(title, "acc %", [s.estimates[title] for s in scores], len(pairs))
        for title in (scores[0].estimates if scores else ())
    ]
    facts = {name: s.facts for name, s in zip(models, scores, strict=True)}
    counts = [s.count for s in scores]
    return ScoreReport("rewardbench", "none (labelled pairs)", protocol, list(models), counts, metrics, facts, warnings)


def _score_model(
    model: RewardModel, pairs: Sequence[Row], cache: RowCache | None, progress: Callable[[int], None]
) -> _ModelScores:
    equal, rewarded = _equal_answers(pairs), rewards_of_answers(model, pairs, cache, progress)
    max_length = model.limit
    chosen, rejected = rewarded[::2], rewarded[1::2]
    sides = list(zip(chosen, rejected, strict=True))
    cut_pairs = {i for i, (a, b) in enumerate(sides) if max(a.tokens, b.tokens) > max_length}
    equal_after_cut = _equal_after_cut(model, pairs, cut_pairs - equal)
    verdicts = [
        Invalid(EQUAL) if i in equal else Invalid(EQUAL_CUT) if i in equal_after_cut else win_points(a.reward, b.reward)
        for i, (a, b) in enumerate(sides)
    ]
    scored = score_pairs(pairs, {"accuracy": verdicts}, {}, "RewardBench")
    metrics, (groups, invalid) = scored.metrics, checked_columns(*scored)
    reasons = invalid.get(metrics[0].name, {})
    estimates = {}
    for metric in metrics:
        estimator = metric.estimator
        value, samples = replicates(estimator.kind, groups[estimator.group], estimator.column)
        estimates[metric.title] = Estimate(np.array([value]), samples)
    cut = sum(r.tokens > max_length for r in rewarded)
    warnings = []
    if cut:
        longest = "--max-length" if max_length == model.options.max_length else f"the {max_length:,} tokens it holds"
        warnings.append(f"{cut:,} of {len(rewarded):,} conversations are longer than {longest} and were cut")
    if equal_after_cut:
        warnings.append(
            f"{len(equal_after_cut):,} pairs have the same beginning twice, or no room for an answer, after the cut: "
            "they are not valid"
        )
    if without_value := sum(count for reason, count in reasons.items() if reason not in (EQUAL, EQUAL_CUT)):
        warnings.append(f"{without_value:,} pairs have a reward that is no finite number: they are not valid")
    facts = {
        "invalid": reasons,
        "cut": cut,
        "equal_after_cut": len(equal_after_cut),
        "identity": model.identity(),
        "subsets": _subset_accuracies(groups["items"]),
    }
    return _ModelScores(estimates, Count(len(verdicts) - sum(reasons.values()), len(verdicts)), facts, warnings)


def _equal_answers(pairs: Sequence[Row]) -> set[int]:
    """Places of pairs that hold the same answer twice."""
    return {i for i, pair in enumerate(pairs) if pair["chosen"] == pair["rejected"]}


def rewards_of_answers(
    model: RewardModel, pairs: Sequence[Row], cache: RowCache | None, progress: Callable[[int], None]
) -> list[RewardedConversation]:
    """Rewards of the chosen and the rejected answer of each pair, in turn.

    Args:
        model: loaded only if the cache lacks a reward.
        pairs: with ``prompt``, ``chosen`` and ``rejected``.
        cache: keeps rewards batch by batch.
        progress: called with the number of answers that have a reward.
    """
    rows = [pair for pair in pairs for _ in range(2)]
    texts = [pair[side] for pair in pairs for side in ("chosen", "rejected")]
    identity = [model.identity(), model.limit]
    keys = [digest(["reward", 1, *identity, row["prompt"], text]) for row, text in zip(rows, texts, strict=True)]
    rewards: dict[str, Any] = cache.get(keys) if cache else {}
    missing = [i for i, key in enumerate(keys) if key not in rewards]
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        part_rows, part_texts = [dict(rows[i]) for i in part], [texts[i] for i in part]
        values = zip(model.score_beginnings(part_rows, part_texts), model.lengths(part_rows, part_texts), strict=True)
        fresh = {keys[i]: value for i, value in zip(part, values, strict=True)}
        rewards.update(fresh)
        if cache:
            cache.put(fresh.items())
        progress(len(keys) - len(missing) + start + len(part))
    return [RewardedConversation(rewards[key][0], rewards[key][1]) for key in keys]


def _equal_after_cut(model: RewardModel, pairs: Sequence[Row], places: set[int]) -> set[int]:
    """Those places whose pairs are one text twice as the model sees them, cut. The checkpoint is not loaded."""
    if not places:
        return set()

    def cut_ids(pair: Row, side: str) -> list[int]:
        return conversation_ids(model.tokenizer, pair, pair[side])[: model.limit]

    return {i for i in places if cut_ids(pairs[i], "chosen") == cut_ids(pairs[i], "rejected")}


def _subset_accuracies(items: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Accuracy of each subset in percent, with its interval and counts, as JSON."""
    accuracies = {}
    for name in dict.fromkeys(items["subject"]):
        values = [v for v, subset in zip(items["accuracy"], items["subject"], strict=True) if subset == name]
        value, samples = replicates("percent", {"id": values, "y": values}, "y")
        bounds = interval(value, samples, len(values))
        numbers = {"value": bounds.value, "low": bounds.low, "high": bounds.high}
        accuracies[name] = {k: v if np.isfinite(v) else None for k, v in numbers.items()} | {
            "n_valid": sum(v is not None for v in values),
            "n_total": len(values),
        }
    return accuracies


def subset_table(report: Mapping[str, Any]) -> Table:
    """Table of the subsets of a report: a row each, a column a model."""
    scores = report["scores"]
    rows = []
    for name in scores[0]["subsets"]:
        cells = [score["subsets"][name] for score in scores]
        valid = sorted({cell["n_valid"] for cell in cells})  # a tokenizer may leave no room where another does
        count = "-".join(str(v) for v in dict.fromkeys((valid[0], valid[-1])))
        rows.append([escape(name), f"{count} / {cells[0]['n_total']}", *map(_cell, cells)])
    return rich_table(
        "accuracy by subset, %",
        ["subset", "n valid / total", *(escape(score["model"]) for score in scores)],
        rows,
        caption="95% intervals over the subset's pairs",
    )


def _cell(accuracy: Mapping[str, Any]) -> str:
    """Of one valid pair there is a share and no interval."""
    if accuracy["value"] is None:
        return "n/a"
    interval = "" if accuracy["low"] is None else f" [{accuracy['low']:.1f}, {accuracy['high']:.1f}]"
    return f"{accuracy['value']:.1f}{interval}"
