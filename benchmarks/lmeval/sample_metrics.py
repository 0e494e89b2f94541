"""From lm-eval's values of an item to per-prompt columns and a metric of ours."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, NamedTuple

from harness.score.metrics import metric
from harness.score.results import Columns, Metric
from harness.score.validity import NOT_FINITE, Invalid

SHARES = re.compile(r"^(acc|exact_match|em\b|f1|mc[12]|prompt_level|pass@)")
"""Metrics that are shown in percent."""


UNIT_SHARES = re.compile(r"^(acc|mc[12]|prompt_level|pass@)")
"""Metrics whose values lie between 0 and 1 in every task."""


class SampleValues(NamedTuple):
    """One metric of lm-eval: its name ``key``, a value an item (None where there is none), whether higher is better
    (None if lm-eval does not say), and of each item whether the model's own numbers are finite."""

    key: str
    values: list[Any]
    higher_is_better: bool | None
    finite: list[bool]


def has_finite_responses(responses: Any) -> bool:
    """Whether no number among a model's responses to an item (log-likelihoods, at any depth) is NaN or infinite."""
    if isinstance(responses, list | tuple):
        return all(map(has_finite_responses, responses))
    return not isinstance(responses, float) or math.isfinite(responses)


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
    key, values, higher, finite = samples
    better: Literal[-1, 0, 1] = 0 if higher is None else 1 if higher else -1
    columns = groups[group]

    def gated(column: list[Any]) -> list[Any]:
        return [value if is_finite else Invalid(NOT_FINITE) for value, is_finite in zip(column, finite, strict=True)]

    present = [value for value in values if value is not None]
    if all(isinstance(value, bool | int | float) for value in present):
        columns[name] = gated([None if value is None else float(value) for value in values])
        is_share = SHARES.match(key) is not None
        kind = ("weighted_" if "weight" in columns else "") + ("percent" if is_share else "mean")
        return metric(name, title, f"{key} %" if is_share else key, better, kind, name, group=group)
    if all(isinstance(value, list) and all(isinstance(part, bool) for part in value) for value in present):
        columns[name] = gated([None if value is None else [float(part) for part in value] for value in values])
        return metric(name, title, key, better, "pooled_mean", name, group=group)
    if key in ("word_perplexity", "byte_perplexity"):  # values are (log-likelihood, count)
        nll = gated([None if v is None else -v[0] for v in values])
        groups[name] = {"id": columns["id"], "nll": nll, "tokens": [None if v is None else v[1] for v in values]}
        return metric(name, title, key, better, "perplexity", "nll", group=name)
    return None
