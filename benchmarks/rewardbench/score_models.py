"""``sail-bench score rewardbench``: reward models on labelled pairs, with accuracy by subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rewardbench import data, measured
from benchmarks.rewardbench.sections import label
from benchmarks.shared.numbers import wins
from benchmarks.shared.score_report import Metric, Scored, columns
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.score.bootstrap import interval, replicates
from harness.store.json_files import digest
from harness.store.row_cache import RowCache

CHUNK = 256


def score(
    models: Sequence[str],
    root: Path | None = None,
    *,
    cache: RowCache | None = None,
    limit: int = 0,
    seed: int = 0,
    batch_size: int = 16,
    max_length: int = 2048,
    progress: Callable[[str, int], None] = lambda name, done: None,
) -> Scored:
    """Accuracy of each model's reward: the share of pairs whose chosen answer has the higher one, ties half.

    A pair of two equal answers has no right one, nor has one whose answers are one, or have no room, after the cut at
    ``max_length``: it is counted and not valid. ``cache`` keeps rewards batch by batch.

    Raises:
        UserError: no pairs, a row that is none, or a checkpoint that is no reward model.
    """
    path = data.locate(root)
    source, pairs = data.identity(path), data.chosen(path, limit, seed)
    equal = {i for i, pair in enumerate(pairs) if pair["chosen"] == pair["rejected"]}
    metrics: dict[str, list[Any]] = {}
    facts, counts, warnings = {}, [], []
    for name in models:
        model = RewardModel(RewardModelOptions(model=name, batch_size=batch_size, max_length=max_length))
        texts = [text for pair in pairs for text in (pair["chosen"], pair["rejected"])]
        rows = [pair for pair in pairs for _ in range(2)]
        judged = _judged(model, rows, texts, cache, partial(progress, name))
        sides = list(zip(judged[::2], judged[1::2], strict=True))
        over = {i for i, ((_, m), (_, n)) in enumerate(sides) if max(m, n) > max_length}
        same = _same(model, pairs, over - equal)
        won = [None if i in equal | same else wins(a, b) for i, ((a, _), (b, _)) in enumerate(sides)]
        groups, found = measured(pairs, {"accuracy": won}, {"accuracy": ("", "acc %")}, "RewardBench")
        for each in found:
            how = each.estimator
            metrics.setdefault(each.title, []).append(replicates(how.kind, groups[how.group], how.column))
        counts.append((sum(w is not None for w in won), len(won)))
        cut = sum(length > max_length for _, length in judged)
        facts[name] = {
            "cut": cut,
            "equal_after_cut": len(same),
            "identity": model.identity(),
            "subsets": _subsets(groups["items"]),
        }
        if cut:
            warnings.append(
                f"{name}: {cut:,} of {len(texts):,} conversations are longer than --max-length and were cut"
            )
        if same:
            warnings.append(
                f"{name}: {len(same):,} pairs have the same beginning twice, or no room for an answer, after the cut: "
                "they are not valid"
            )
    if equal:
        warnings.append(f"{len(equal):,} pairs hold the same answer twice: they are not valid")
    if twice := data.repeated(path):
        warnings.append(twice)
    sizes = data.sizes(path)
    protocol = {"data": source, "set": label(sizes, limit), "limit": limit, "seed": seed, "max_length": max_length}
    shown = [Metric(title, "acc %", *_stacked(found), len(pairs)) for title, found in metrics.items()]
    return Scored("rewardbench", "none (labelled pairs)", protocol, list(models), counts, shown, facts, warnings)


def _stacked(found: Sequence[tuple[float, Any]]) -> tuple[Any, Any]:
    return columns([(np.array([value]), samples) for value, samples in found])


def _judged(
    model: RewardModel,
    rows: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    cache: RowCache | None,
    progress: Callable[[int], None],
) -> list[tuple[float, int]]:
    """Reward and tokens of each conversation."""
    named = [model.identity(), model.options.max_length]
    keys = [digest(["reward", 1, *named, r["prompt"], t]) for r, t in zip(rows, texts, strict=True)]
    found: dict[str, Any] = cache.get(keys) if cache else {}
    missing = [i for i, key in enumerate(keys) if key not in found]
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        asked = [dict(rows[i]) for i in part], [texts[i] for i in part]
        values = zip(model.score(*asked), model.lengths(*asked), strict=True)
        fresh = {keys[i]: value for i, value in zip(part, values, strict=True)}
        found.update(fresh)
        if cache:
            cache.put(fresh.items())
        progress(len(keys) - len(missing) + start + len(part))
    return [(found[key][0], found[key][1]) for key in keys]


def _same(model: RewardModel, pairs: Sequence[dict[str, Any]], places: set[int]) -> set[int]:
    """Those places whose pairs are one text twice as the model sees them, cut. The checkpoint is not loaded."""
    if not places:
        return set()
    from transformers import AutoTokenizer

    name, _, revision = model.options.model.partition("@")
    tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or None)
    most = model.options.max_length

    def seen(pair: dict[str, Any], side: str) -> list[int]:
        return conversation_ids(tokenizer, pair, pair[side])[:most]

    return {i for i in places if seen(pairs[i], "chosen") == seen(pairs[i], "rejected")}


def _subsets(items: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Accuracy of each subset in percent, with its interval and counts."""
    found = {}
    for name in dict.fromkeys(items["subject"]):
        values = [v for v, s in zip(items["accuracy"], items["subject"], strict=True) if s == name]
        value, samples = replicates("percent", {"id": values, "y": values}, "y")
        known = interval(value, samples, len(values))
        numbers = {"value": known.value, "low": known.low, "high": known.high}
        found[name] = {k: v if np.isfinite(v) else None for k, v in numbers.items()} | {
            "n_valid": sum(v is not None for v in values),
            "n_total": len(values),
        }
    return found


def table(report: Mapping[str, Any]) -> Any:
    """Rich table of the subsets: a row each, a column a model."""
    from rich.table import Table

    shown = Table(title="accuracy by subset, %", caption="95% intervals over the subset's pairs")
    shown.add_column("subset")
    shown.add_column("n valid / total", justify="right")
    for row in report["scores"]:
        shown.add_column(row["model"], justify="right")
    for name in report["scores"][0]["subsets"]:
        cells = [row["subsets"][name] for row in report["scores"]]
        valid = sorted({c["n_valid"] for c in cells})  # a tokenizer may leave no room where another does
        count = "-".join(str(v) for v in dict.fromkeys((valid[0], valid[-1])))
        shown.add_row(name, f"{count} / {cells[0]['n_total']}", *map(_told, cells))
    return shown


def _told(cell: Mapping[str, Any]) -> str:
    """Of one valid pair there is a share and no interval."""
    if cell["value"] is None:
        return "n/a"
    interval = "" if cell["low"] is None else f" [{cell['low']:.1f}, {cell['high']:.1f}]"
    return f"{cell['value']:.1f}{interval}"
