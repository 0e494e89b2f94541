"""AlpacaEval 2 from the official tool's own files: annotations, outputs, the evaluation set, difficulty and anchors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.alpaca_eval.verdict import preference, read, win_rate
from benchmarks.shared.score_report import Metric, Scored, columns, enough, joint_draw, some_rows
from harness.errors import UserError
from harness.score.length_control import NO_ANCHORS, Anchors, fit_length_control, length_controlled_rate, official_fit
from harness.store import user_files as files

Array = NDArray[np.float64]

Fit = Literal["exact", "official"]

BASELINE = "gpt4_1106_preview"


@dataclass(frozen=True)
class Official:
    """What belongs to the official 805 instructions: their order, the baseline's answers (None where the file has none)
    and its name (empty where not told), difficulty (n,) and the anchor rows."""

    instructions: list[str]
    answers: list[str | None]
    generator: str
    difficulty: Array | None
    anchors: Anchors
    anchor_index: NDArray[np.int64]
    sha256: str


def official(eval_set: Path | None, data_dir: Path | None) -> Official:
    """The evaluation set (a file, or from ``data_dir/alpaca_eval``), with difficulty and anchors where that folder, or
    else the evaluation set's own, has both.

    Raises:
        UserError: no evaluation set is named, or a file is not what it should be.
    """
    folder = data_dir / "alpaca_eval" if data_dir and (data_dir / "alpaca_eval").is_dir() else data_dir
    names = ("eval_set_gpt4_1106_preview.jsonl", "alpaca_eval_gpt4_baseline.json", "alpaca_eval.json")
    path = eval_set or (files.first_existing(folder, *names) if folder else None)
    if path is None:
        raise UserError(
            "The order of the instructions is needed: name the evaluation set with --eval-set or --data-dir"
        )
    rows = some_rows(path, ["instruction"])
    instructions = [r["instruction"] for r in rows]
    answers = [r.get("baseline_output", r.get("output")) for r in rows]
    generator = str(next((r["generator"] for r in rows if r.get("generator")), ""))
    seen = hashlib.sha256(path.read_bytes())
    difficulty, anchors, places = None, NO_ANCHORS, np.zeros(0, dtype=np.int64)
    for beside in (folder or path.parent, path.parent):
        hard = files.first_existing(beside, "instruction_difficulty.csv", "instruction_difficulty_recovered.csv")
        gamed = files.first_existing(beside, "df_gamed.csv", "gamed_baseline_reconstructed.csv")
        if hard and gamed:
            break
    if hard and gamed:
        seen.update(hard.read_bytes() + gamed.read_bytes())
        found = files.read_csv_rows(hard, ["instruction_difficulty"])
        difficulty = np.array([float(r["instruction_difficulty"]) for r in found])
        if len(difficulty) != len(instructions):
            raise UserError(
                f"{hard} has {len(difficulty)} rows and {path} {len(instructions)}: they must belong together"
            )
        rows_ = files.read_csv_rows(gamed, ["index", "std_delta_len", "preference"])
        if not rows_:
            raise UserError(f"{gamed} holds no rows: name a file that is not empty")
        places = np.array([int(r["index"]) for r in rows_], dtype=np.int64)
        anchors = Anchors(
            np.tanh([float(r["std_delta_len"]) for r in rows_]),
            difficulty[places],
            np.array([float(r["preference"]) for r in rows_]),
        )
    return Official(instructions, answers, generator, difficulty, anchors, places, seen.hexdigest()[:16])


@dataclass
class Annotated:
    """One model's valid rows against ``baseline``, aligned to the evaluation set: ``index``, ``y`` in [0, 1], lengths
    in characters (NaN where there is no text)."""

    model: str
    baseline: str
    index: NDArray[np.int64]
    y: Array
    length: Array
    baseline_length: Array
    problems: list[str]

    @property
    def unmeasured(self) -> str:
        """Why the lengths cannot be controlled for; empty if they can. The baseline itself needs no lengths."""
        if self.model == self.baseline or not len(self.y):
            return ""
        for key, lengths, mend in (
            ("output_2", self.length, "name the model's outputs with --model-outputs"),
            ("output_1", self.baseline_length, f"take an --eval-set with the answers of {self.baseline}"),
        ):
            if missing := int(np.isnan(lengths).sum()):
                return f"{missing} rows have no {key}: {mend}"
            if not lengths.any():
                return f"{key} is blank in all rows: {mend}"
        return ""


def _logprobs(row: dict[str, Any]) -> dict[str, float] | None:
    """Log-probabilities of the first token in a row's raw completion, as the OpenAI API returned them."""
    raw = row.get("raw_completion")
    content = (raw.get("logprobs") or {}).get("content") if isinstance(raw, dict) else None
    if not content:
        return None
    return {t["token"]: float(t["logprob"]) for t in content[0].get("top_logprobs", [])}


def _filled(rows: Sequence[dict[str, Any]], source: Path, outputs: Path | None) -> None:
    """Give rows without a text of the model that of ``outputs``.

    Raises:
        UserError: these are another model's outputs.
    """
    texts = {r["instruction"]: r for r in some_rows(outputs, ["instruction", "output"])} if outputs else {}
    for row in rows:
        own, other = row.get("output_2"), texts.get(row["instruction"])
        if own or other is None:
            continue
        names = [str(r[key]) for r, key in ((other, "generator"), (row, "generator_2")) if r.get(key)]
        if len(set(names)) < 2:
            row["output_2"] = other["output"]
        elif own is None:
            raise UserError(
                f"{outputs} holds answers of {names[0]}, and {source} lacks those of {names[1]}: score each model by "
                "itself, with its own --model-outputs"
            )


def _length(*texts: str | None) -> float:
    """Characters of the first text that is not blank; 0 if those that are there are, NaN if there is none."""
    found = [len(t) for t in texts if t is not None]
    return float(next((n for n in found if n), 0)) if found else float("nan")


def aligned(rows: Sequence[dict[str, Any]], source: Path, known: Official) -> list[Annotated]:
    """Rows of annotations by model, aligned by instruction. What is dropped is counted and told.

    Raises:
        UserError: rows of two judges or two baselines are mixed.
    """
    where = {text: i for i, text in enumerate(known.instructions)}
    for key, what in (("annotator", "judges"), ("generator_1", "baselines")):
        names = sorted({str(r[key]) for r in rows if r.get(key)})
        if len(names) > 1:
            raise UserError(f"{source} mixes {what} ({', '.join(names)}): score each by itself")
    baseline = str(next((r["generator_1"] for r in rows if r.get("generator_1")), BASELINE))
    theirs = known.answers if known.generator in ("", baseline) else [None] * len(known.answers)
    found: dict[str, dict[int, tuple[float, float, float]]] = {}
    dropped: dict[str, Counter[str]] = {}
    for row in rows:
        model = str(row.get("generator_2") or source.stem)
        mine, bad = found.setdefault(model, {}), dropped.setdefault(model, Counter())
        index = where.get(row["instruction"])
        value = read(row.get("preference"))
        if value is None and (top := _logprobs(row)) is not None:
            value = preference(top, bool(row.get("is_switched_outputs", False)))
        if index is None:
            bad["rows match no instruction of the evaluation set"] += 1
        elif value is None:
            bad["rows have no verdict"] += 1
        elif index in mine:
            bad["rows repeat an instruction (the first counts)"] += 1
        else:
            mine[index] = value - 1, _length(row.get("output_2")), _length(row.get("output_1"), theirs[index])
    out = []
    for model, mine in found.items():
        order = np.array(sorted(mine), dtype=np.int64)
        y, length, against = (np.array([mine[int(i)][k] for i in order], dtype=np.float64) for k in range(3))
        told = [f"{model}: {n} {what}" for what, n in dropped[model].items()]
        if len(order) < len(known.instructions):
            told.append(f"{model}: {len(order)} of {len(known.instructions)} instructions have a verdict")
        out.append(Annotated(model, baseline, order, y, length, against, told))
    return out


def score(
    paths: Sequence[Path],
    eval_set: Path | None = None,
    data_dir: Path | None = None,
    outputs: Path | None = None,
    how: Fit = "exact",
    row_numbers: bool = False,
) -> Scored:
    """Score official annotation files.

    Args:
        outputs: the model's outputs, to take lengths from if the annotations hold no texts. how: ``exact`` maximum
            likelihood, or the ``official`` L1 fit with C by cross-validation (needs scikit-learn). row_numbers: the
            published misalignment: take the row's number for the item's index (spec/evals 1.4).

    Raises:
        UserError: a file that is missing, broken or empty, or mixed judges or baselines.
    """
    if how == "official" and find_spec("sklearn") is None:
        raise UserError("--fit official needs scikit-learn: python -m pip install scikit-learn")
    known = official(eval_set, data_dir)
    found: list[Annotated] = []
    judges: set[str] = set()
    for path in paths:
        rows = some_rows(path, ["instruction", "preference"])
        _filled(rows, path, outputs)
        judges |= {str(r["annotator"]) for r in rows if r.get("annotator")}
        found += aligned(rows, path, known)
    for what, names in (("judges", judges), ("baselines", {a.baseline for a in found})):
        if len(names) > 1:
            raise UserError(f"The files mix {what} ({', '.join(sorted(names))}): score each by itself")
    if len({a.model for a in found}) < len(found):
        raise UserError("Two annotation files hold the same model: leave one out")
    total = len(known.instructions)
    draw = joint_draw(total)
    raw = [_means(a.y, draw, a.index) for a in found]
    valid = [len(a.y) for a in found]
    metrics = [Metric("win_rate", "win %", *columns(raw), total, valued=valid)]
    warnings = [p for a in found for p in a.problems]
    if known.difficulty is None:
        warnings.append(
            "no length-controlled win rate: instruction_difficulty.csv and df_gamed.csv are neither in --data-dir nor "
            "beside --eval-set"
        )
    else:
        warnings += [f"{a.model}: no length-controlled win rate, as {a.unmeasured}" for a in found if a.unmeasured]
        if how == "official":
            warnings.append("--fit official gives the score alone: its interval is of the exact fit in each resample")
        metrics.insert(
            0,
            Metric(
                "length_controlled",
                "win %",
                *columns([_lc(a, known, draw, how, row_numbers) for a in found]),
                total,
                valued=valid,
            ),
        )
        for a, lc, wr in zip(found, metrics[0].values, metrics[1].values, strict=True):
            if lc < min(wr - wr / 4, wr - 10) or lc > max(wr + (100 - wr) / 4, wr + 10):
                warnings.append(
                    f"{a.model}: length control moves the win rate from {wr:.1f} to {lc:.1f}; look at the answers"
                )
    return Scored(
        "AlpacaEval 2",
        next(iter(judges), "not named in the file"),
        {
            "benchmark": "alpaca_eval_2",
            "set": known.sha256,
            "fit": how,
            "interval": "exact fit in each resample",
            "row_numbers": row_numbers,
            "baseline": found[0].baseline,
        },
        [a.model for a in found],
        [(n, total) for n in valid],
        metrics,
        {a.model: _facts(a, total) for a in found},
        warnings,
    )


def _facts(a: Annotated, total: int) -> dict[str, Any]:
    raw = win_rate([float(v) + 1 for v in a.y]).dict()
    if not enough(len(a.y), total):
        raw["discrete_win_rate"] = float("nan")
    return {k: raw[k] for k in ("standard_error", "n_wins", "n_wins_base", "n_draws", "discrete_win_rate")} | {
        "avg_length": int(a.length.mean()) if np.isfinite(a.length).all() and len(a.y) else None
    }


def _nothing(draw: Array) -> tuple[Array, Array]:
    return np.array([np.nan]), np.full(len(draw), np.nan)


def _means(y: Array, draw: Array, index: NDArray[np.int64]) -> tuple[Array, Array]:
    if not enough(len(y), draw.shape[1]):
        return _nothing(draw)
    weights = draw[:, index]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * np.array([y.mean()]), 100 * (weights @ y) / weights.sum(1)


def _lc(a: Annotated, known: Official, draw: Array, how: Fit, row_numbers: bool) -> tuple[Array, Array]:
    assert known.difficulty is not None
    if a.unmeasured or not enough(len(a.y), draw.shape[1]):
        return _nothing(draw)
    if a.model == a.baseline:  # by definition
        return np.array([50.0]), np.full(len(draw), 50.0)
    gamma = known.difficulty[np.arange(len(a.y)) if row_numbers else a.index]
    delta, one, weights = a.baseline_length - a.length, np.ones((1, len(a.y))), draw[:, a.index]
    if how == "exact":
        found = fit_length_control(a.y, delta, gamma, one, known.anchors)
    else:
        found = official_fit(a.y, delta, gamma, known.anchors)[0][None]
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a verdict
        samples = length_controlled_rate(fit_length_control(a.y, delta, gamma, weights, known.anchors), gamma, weights)
    return length_controlled_rate(found, gamma, one), samples
