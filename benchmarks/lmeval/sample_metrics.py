"""From lm-eval's values of an item to per-prompt columns and a metric of ours."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from harness.score.metrics import metric
from harness.score.results import Columns, Metric

SHARES = re.compile(r"^(acc|exact_match|em\b|f1|mc[12]|prompt_level|pass@)")
"""Metrics that are shown in percent."""


class SampleValues(NamedTuple):
    """One metric of lm-eval: its name ``key``, a value an item (None where there is none), and whether higher is better
    (None if lm-eval does not say)."""

    key: str
    values: list[Any]
    higher_is_better: bool | None


def add_metric(samples: SampleValues, name: str, title: str, groups: dict[str, Columns], group: str) -> Metric | None:
    """The metric of some values, with its columns added to ``groups``; None for one that is no mean over items and no
    perplexity (a correlation, say).

    Args:
        samples: in the order of the group's items.
        name: of the metric and its column.
        title: of the metric.
        groups: columns by group; a perplexity becomes a group of its own.
        group: the group of the items.
    """
    key, values, higher = samples
    better: Literal[-1, 0, 1] = 0 if higher is None else 1 if higher else -1
    columns = groups[group]
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool | int | float) for value in present):
        columns[name] = [None if value is None else float(value) for value in values]
        is_share = SHARES.match(key) is not None
        kind = ("weighted_" if "weight" in columns else "") + ("percent" if is_share else "mean")
        return metric(name, title, f"{key} %" if is_share else key, better, kind, name, group=group)
    if all(isinstance(value, list) and all(isinstance(part, bool) for part in value) for value in present):
        columns[name] = [None if value is None else [float(part) for part in value] for value in values]
        return metric(name, title, key, better, "pooled_mean", name, group=group)
    if key in ("word_perplexity", "byte_perplexity"):  # values are (log-likelihood, count)
        groups[name] = {"id": columns["id"], "nll": [-v[0] for v in values], "tokens": [v[1] for v in values]}
        return metric(name, title, key, better, "perplexity", "nll", group=name)
    return None
