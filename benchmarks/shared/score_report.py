"""What ``sail-bench score`` gives back: scores with intervals and counts, differences from a reference, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape

from harness.errors import unknown
from harness.report.rich_table import rich_table
from harness.score.bootstrap import Interval, draws, interval
from harness.score.columns import Array
from harness.score.verdicts import differences_from

if TYPE_CHECKING:
    from rich.table import Table


class Estimate(NamedTuple):
    """An estimate of one model, shape (1,), and its bootstrap replicates, shape (R,)."""

    value: Array
    samples: Array

    @classmethod
    def missing(cls, resamples: int) -> Estimate:
        """Where there is no score: NaN throughout."""
        return cls(np.array([np.nan]), np.full(resamples, np.nan))


@dataclass
class ScoredMetric:
    """One metric of all M models.

    Attributes:
        name: as in the JSON and the heading of a column.
        unit: second line of that heading.
        values: shape (M,); NaN where a model has no score.
        samples: replicates of one joint draw of prompts for all models, shape (M, R).
        prompts: how many are resampled.
        detail: in the JSON only, and not compared.
        valued: how many prompts have a value, for each model; None if all have. Intervals count these.
    """

    name: str
    unit: str
    values: Array
    samples: Array
    prompts: int
    detail: bool = False
    valued: Sequence[int] | NDArray[np.int64] | None = None

    @classmethod
    def stacked(
        cls, name: str, unit: str, estimates: Sequence[Estimate], prompts: int, valued: Sequence[int] | None = None
    ) -> ScoredMetric:
        """The metric from one estimate a model.

        Args:
            name: of the metric.
            unit: of the metric.
            estimates: in the order of the models, from one joint draw.
            prompts: how many are resampled.
            valued: how many of them have a value, for each model.
        """
        values = np.array([estimate.value[0] for estimate in estimates])
        return cls(name, unit, values, np.stack([e.samples for e in estimates]), prompts, valued=valued)

    def interval(self, model: int) -> Interval:
        """Value and interval of a model, by its place."""
        return interval(float(self.values[model]), self.samples[model], self.counts[model])

    @property
    def counts(self) -> list[int]:
        """Prompts with a value, of each model."""
        return [self.prompts] * len(self.values) if self.valued is None else [int(n) for n in self.valued]


class Count(NamedTuple):
    """Valid judgments (or pairs) of those that there should be."""

    valid: int
    total: int


@dataclass
class ScoreReport:
    """Scores of models on one benchmark under one protocol and judge.

    Attributes:
        benchmark: title of the table.
        judge: its name.
        protocol: what else can change the scores, as JSON.
        models: names; all other lists are in their order.
        counts: judgments of each model.
        metrics: the first one sorts the table.
        facts: further JSON values by model.
        warnings: sentences on what is not as it should be.
        shown_facts: headings of the facts that stand in the table too (the official tool's value), by their keys.
        caption: what else is said below the table (the alignment, the baseline).
    """

    benchmark: str
    judge: str
    protocol: dict[str, Any]
    models: list[str]
    counts: list[Count]
    metrics: list[ScoredMetric]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    shown_facts: dict[str, str] = field(default_factory=dict)
    caption: str = ""

    def as_json(self, reference: str | None = None) -> dict[str, Any]:
        """Everything as one JSON object, with the differences of all other models from ``reference`` if it is named.

        Raises:
            UserError: ``reference`` is none of the models.
        """
        if reference is not None and reference not in self.models:
            raise unknown("model", reference, self.models)
        report = {
            "benchmark": self.benchmark,
            "judge": self.judge,
            "protocol": self.protocol,
            "scores": [self._score(place) for place in range(len(self.models))],
            "shown_facts": self.shown_facts,
            "caption": self.caption,
        }
        if reference is not None:
            report |= {"reference": reference, "differences": self._differences(reference)}
        return report | {"warnings": self.warnings}

    def _score(self, place: int) -> dict[str, Any]:
        """A model's counts, metrics and facts."""
        model, count = self.models[place], self.counts[place]
        metrics = {m.name: _bounds(m.interval(place)) | {"unit": m.unit, "detail": m.detail} for m in self.metrics}
        facts = {k: _json_number(v) if isinstance(v, float) else v for k, v in self.facts.get(model, {}).items()}
        return {"model": model, "n_valid": count.valid, "n_total": count.total, "metrics": metrics} | facts

    def _differences(self, reference: str) -> list[dict[str, Any]]:
        """Every other model minus the reference, metric by metric."""
        return [
            {
                "metric": metric.name,
                "model": d.model,
                **_bounds(d.interval),
                "minimum_detectable": _json_number(d.interval.mdd),
                "p": _json_number(d.p),
                "p_holm": _json_number(d.p_holm),
                "verdict": d.verdict,
            }
            for metric in self.metrics
            if not metric.detail
            for d in differences_from(self.models, metric.values, metric.samples, reference, metric.counts)
        ]


def is_enough(valid: Any, prompts: int) -> Any:
    """Whether so many prompts with a value (a number or an array) give a score: as in comparisons
    (:func:`harness.score.bootstrap.replicates`), fewer than two of several are no measurement."""
    return np.asarray(valid) >= min(2, max(prompts, 1))


def joint_draw(prompts: int) -> Array:
    """Bootstrap counts of all prompts, one draw for all models; shape (R, prompts)."""
    return draws(prompts)


def score_tables(report: Mapping[str, Any]) -> list[Table]:
    """Tables of a report (:meth:`ScoreReport.as_json`): the scores, and the differences if a reference was named."""
    scores = report["scores"]
    first = scores[0]["metrics"] if scores else {}
    names = [name for name, values in first.items() if not values["detail"]]
    facts: Mapping[str, str] = report.get("shown_facts", {})
    headings = [escape(f"{name}\n{first[name]['unit']}") for name in names]
    rows = [
        [
            escape(row["model"]),
            *(_cell(row["metrics"][n]) for n in names),
            *(_fact(row.get(key)) for key in facts),
            f"{row['n_valid']} / {row['n_total']}",
        ]
        for row in sorted(scores, key=lambda row: -(row["metrics"][names[0]]["value"] or 0))
    ]
    tables = [
        rich_table(
            escape(f"{report['benchmark']}, judge {report['judge']}"),
            ["model", *headings, *facts.values(), "n valid / total"],
            rows,
            caption="; ".join(filter(None, ["95% intervals over prompts", escape(report.get("caption", ""))])),
        )
    ]
    if report.get("differences"):
        tables.append(
            rich_table(
                escape(f"difference from {report['reference']}"),
                ["model", "metric", "difference", "p", "verdict", "smallest that 80% power would show"],
                [_difference_cells(difference) for difference in report["differences"]],
                caption="paired by prompt; p after Holm",
                left=("metric", "verdict"),
            )
        )
    return tables


def _difference_cells(difference: Mapping[str, Any]) -> list[str]:
    smallest, p = difference["minimum_detectable"], difference["p_holm"]
    return [
        escape(difference["model"]),
        escape(difference["metric"]),
        _cell(difference),
        "n/a" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
        escape(difference["verdict"]),
        "n/a" if smallest is None else f"{smallest:.2f}",
    ]


def _fact(value: Any) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    return escape(str(value))


def _cell(values: Mapping[str, Any]) -> str:
    if values["value"] is None:
        return "n/a"
    text = f"{values['value']:.2f}"
    return text if values["low"] is None else f"{text} [{values['low']:.2f}, {values['high']:.2f}]"


def _bounds(interval: Interval) -> dict[str, float | None]:
    return {key: _json_number(getattr(interval, key)) for key in ("value", "low", "high")}


def _json_number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
