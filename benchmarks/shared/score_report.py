"""What ``sail-bench score`` gives back: scores with intervals and counts, differences from a reference, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError, unknown
from harness.score.bootstrap import Interval, draws, interval
from harness.score.verdicts import differences_from
from harness.store import user_files as files

Array = NDArray[np.float64]


@dataclass
class Metric:
    """One metric of all models: ``values`` (M,) and ``samples`` (M, R), replicates of one joint draw of
    ``prompts`` prompts, of which ``valued`` (M,) have a value for the model (None: all); its interval is over these.

    A ``detail`` stands in the JSON only, and is not compared.
    """

    name: str
    unit: str
    values: Array
    samples: Array
    prompts: int
    detail: bool = False
    valued: Any = None

    def interval(self, i: int) -> Interval:
        """Value and interval of a model."""
        return interval(float(self.values[i]), self.samples[i], self.counts[i])

    @property
    def counts(self) -> list[int]:
        """Prompts with a value, of each model."""
        return [self.prompts] * len(self.values) if self.valued is None else [int(n) for n in self.valued]


@dataclass
class Scored:
    """Scores of models on one benchmark under one protocol and judge."""

    benchmark: str
    judge: str
    protocol: dict[str, Any]
    models: list[str]
    counts: list[tuple[int, int]]
    metrics: list[Metric]
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def as_json(self, reference: str | None = None) -> dict[str, Any]:
        """Everything as one JSON object.

        Raises:
            UserError: ``reference`` is none of the models.
        """
        if reference is not None and reference not in self.models:
            raise unknown("model", reference, self.models)
        rows = []
        for i, model in enumerate(self.models):
            valid, total = self.counts[i]
            row: dict[str, Any] = {"model": model, "n_valid": valid, "n_total": total, "metrics": {}}
            for metric in self.metrics:
                found = metric.interval(i)
                row["metrics"][metric.name] = {
                    "value": _plain(found.value),
                    "low": _plain(found.low),
                    "high": _plain(found.high),
                    "unit": metric.unit,
                    "detail": metric.detail,
                }
            facts = self.facts.get(model, {})
            rows.append(row | {k: _plain(v) if isinstance(v, float) else v for k, v in facts.items()})
        out = {"benchmark": self.benchmark, "judge": self.judge, "protocol": self.protocol, "scores": rows}
        if reference is not None:
            out["reference"] = reference
            out["differences"] = [
                {
                    "metric": metric.name,
                    "model": d.model,
                    "value": _plain(d.interval.value),
                    "low": _plain(d.interval.low),
                    "high": _plain(d.interval.high),
                    "minimum_detectable": _plain(d.interval.mdd),
                    "p": _plain(d.p),
                    "p_holm": _plain(d.p_holm),
                    "verdict": d.verdict,
                }
                for metric in self.metrics
                if not metric.detail
                for d in differences_from(self.models, metric.values, metric.samples, reference, metric.counts)
            ]
        return out | {"warnings": self.warnings}


def some_rows(path: Path, needed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of a file that holds at least one.

    Raises:
        UserError: it is missing, broken or empty.
    """
    found = files.read_user_rows(path, needed)
    if not found:
        raise UserError(f"{path} holds no rows: name a file that is not empty")
    return found


def enough(valid: Any, prompts: int) -> Any:
    """Whether so many prompts with a value (a number or an array) give a score: as in comparisons
    (:func:`harness.score.bootstrap.replicates`), fewer than two of several are no measurement."""
    return np.asarray(valid) >= min(2, max(prompts, 1))


def joint_draw(prompts: int) -> Array:
    """Bootstrap counts of all prompts, one draw for all models."""
    return draws(prompts)


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def tables(report: Mapping[str, Any]) -> list[Any]:
    """Rich tables of a report: the scores, and the differences if a reference was named."""
    from rich.table import Table

    first = report["scores"][0]["metrics"] if report["scores"] else {}
    names = [name for name, found in first.items() if not found["detail"]]
    scores = Table(title=f"{report['benchmark']}, judge {report['judge']}", caption="95% intervals over prompts")
    scores.add_column("model")
    for name in names:
        unit = report["scores"][0]["metrics"][name]["unit"]
        scores.add_column(f"{name}\n{unit}", justify="right")
    scores.add_column("n valid / total", justify="right")
    for row in sorted(report["scores"], key=lambda r: -(r["metrics"][names[0]]["value"] or 0)):
        cells = [_cell(row["metrics"][n]) for n in names]
        scores.add_row(row["model"], *cells, f"{row['n_valid']} / {row['n_total']}")
    found = [scores]
    if report.get("differences"):
        table = Table(title=f"difference from {report['reference']}", caption="paired by prompt; p after Holm")
        for column in ("model", "metric", "difference", "p", "verdict", "smallest that 80% power would show"):
            table.add_column(column, justify="left" if column in ("model", "metric", "verdict") else "right")
        for d in report["differences"]:
            mdd = d["minimum_detectable"]
            p = "n/a" if d["p_holm"] is None else f"{d['p_holm']:.3f}"
            table.add_row(d["model"], d["metric"], _cell(d), p, d["verdict"], "n/a" if mdd is None else f"{mdd:.2f}")
        found.append(table)
    return found


def _cell(values: Mapping[str, Any]) -> str:
    if values["value"] is None:
        return "n/a"
    text = f"{values['value']:.2f}"
    return text if values["low"] is None else f"{text} [{values['low']:.2f}, {values['high']:.2f}]"


def columns(found: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Stack (value (1,), samples (R,)) of several models to (M,) and (M, R)."""
    return np.array([v[0] for v, _ in found]), np.stack([s for _, s in found])
