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
from benchmarks.scored import Metric, Scored, columns, joint_draw
from harness import files
from harness.errors import UserError
from harness.stats.length_control import NONE, Anchors, controlled, fit, official_fit

Array = NDArray[np.float64]
Fit = Literal["exact", "official"]
BASELINE = "gpt4_1106_preview"


@dataclass(frozen=True)
class Official:
    """What belongs to the official 805 instructions: their order, difficulty (n,) and the anchor rows."""

    instructions: list[str]
    difficulty: Array | None
    anchors: Anchors
    anchor_index: NDArray[np.int64]
    sha256: str


def official(eval_set: Path | None, data_dir: Path | None) -> Official:
    """The evaluation set (a file, or from ``data_dir/alpaca_eval``) with difficulty and anchors where they are there.

    Raises:
        UserError: no evaluation set is named, or a file is not what it should be.
    """
    folder = data_dir / "alpaca_eval" if data_dir and (data_dir / "alpaca_eval").is_dir() else data_dir
    names = ("eval_set_gpt4_1106_preview.jsonl", "alpaca_eval_gpt4_baseline.json", "alpaca_eval.json")
    path = eval_set or (files.first(folder, *names) if folder else None)
    if path is None:
        raise UserError(
            "The order of the instructions is needed: name the evaluation set with --eval-set or --data-dir"
        )
    rows = files.rows(path, ["instruction"])
    instructions = [r["instruction"] for r in rows]
    seen = hashlib.sha256(path.read_bytes())
    difficulty, anchors, places = None, NONE, np.zeros(0, dtype=np.int64)
    hard = files.first(folder, "instruction_difficulty.csv", "instruction_difficulty_recovered.csv") if folder else None
    gamed = files.first(folder, "df_gamed.csv", "gamed_baseline_reconstructed.csv") if folder else None
    if hard is not None and gamed is not None:
        seen.update(hard.read_bytes() + gamed.read_bytes())
        found = files.table(hard, ["instruction_difficulty"])
        difficulty = np.array([float(r["instruction_difficulty"]) for r in found])
        if len(difficulty) != len(instructions):
            raise UserError(
                f"{hard} has {len(difficulty)} rows and {path} {len(instructions)}: they must belong together"
            )
        rows_ = files.table(gamed, ["index", "std_delta_len", "preference"])
        places = np.array([int(r["index"]) for r in rows_], dtype=np.int64)
        anchors = Anchors(
            np.tanh([float(r["std_delta_len"]) for r in rows_]),
            difficulty[places],
            np.array([float(r["preference"]) for r in rows_]),
        )
    return Official(instructions, difficulty, anchors, places, seen.hexdigest()[:16])


@dataclass
class Annotated:
    """One model's valid rows, aligned to the evaluation set: ``index``, ``y`` in [0, 1], lengths in characters."""

    model: str
    index: NDArray[np.int64]
    y: Array
    length: Array
    baseline_length: Array
    problems: list[str]


def _logprobs(row: dict[str, Any]) -> dict[str, float] | None:
    """Log-probabilities of the first token in a row's raw completion, as the OpenAI API returned them."""
    raw = row.get("raw_completion")
    content = (raw.get("logprobs") or {}).get("content") if isinstance(raw, dict) else None
    if not content:
        return None
    return {t["token"]: float(t["logprob"]) for t in content[0].get("top_logprobs", [])}


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
    found: dict[str, dict[int, tuple[float, int, int]]] = {}
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
            mine[index] = value - 1, len(row["output_2"] or ""), len(row["output_1"] or "")
    out = []
    for model, mine in found.items():
        order = np.array(sorted(mine), dtype=np.int64)
        y, ours, theirs = (np.array([mine[int(i)][k] for i in order], dtype=np.float64) for k in range(3))
        told = [f"{model}: {n} {what}" for what, n in dropped[model].items()]
        if len(order) < len(known.instructions):
            told.append(f"{model}: {len(order)} of {len(known.instructions)} instructions have a verdict")
        out.append(Annotated(model, order, y, ours, theirs, told))
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
        UserError: a file that is missing or broken, or mixed judges.
    """
    if how == "official" and find_spec("sklearn") is None:
        raise UserError("--fit official needs scikit-learn: python -m pip install scikit-learn")
    known = official(eval_set, data_dir)
    texts = {r["instruction"]: r for r in files.rows(outputs, ["instruction", "output"])} if outputs else {}
    found: list[Annotated] = []
    judges: set[str] = set()
    for path in paths:
        rows = files.rows(path, ["instruction", "preference"])
        for row in rows:
            row["output_2"] = row.get("output_2") or texts.get(row["instruction"], {}).get("output", "")
        judges |= {str(r["annotator"]) for r in rows if r.get("annotator")}
        found += aligned(rows, path, known)
    if len(judges) > 1:
        raise UserError(f"The files mix judges ({', '.join(sorted(judges))}): score each by itself")
    if len({a.model for a in found}) < len(found):
        raise UserError("Two annotation files hold the same model: leave one out")
    draw = joint_draw(len(known.instructions))
    raw = [_means(a.y, draw[:, a.index]) for a in found]
    metrics = [Metric("win_rate", "win %", *columns(raw), len(draw[0]))]
    warnings = [p for a in found for p in a.problems]
    if known.difficulty is None:
        warnings.append("no length-controlled win rate: instruction difficulty and anchors are absent (--data-dir)")
    else:
        metrics.insert(
            0,
            Metric(
                "length_controlled",
                "win %",
                *columns([_lc(a, known, draw, how, row_numbers) for a in found]),
                len(draw[0]),
            ),
        )
        for a, lc, wr in zip(found, metrics[0].values, metrics[1].values, strict=True):
            if lc < min(wr - wr / 4, wr - 10) or lc > max(wr + (100 - wr) / 4, wr + 10):
                warnings.append(
                    f"{a.model}: length control moves the win rate from {wr:.1f} to {lc:.1f}; look at the answers"
                )
    total = len(known.instructions)
    return Scored(
        "AlpacaEval 2",
        next(iter(judges), "not named in the file"),
        {
            "benchmark": "alpaca_eval_2",
            "set": known.sha256,
            "fit": how,
            "row_numbers": row_numbers,
            "baseline": BASELINE,
        },
        [a.model for a in found],
        [(len(a.y), total) for a in found],
        metrics,
        {a.model: _facts(a) for a in found},
        warnings,
    )


def _facts(a: Annotated) -> dict[str, Any]:
    raw = win_rate([float(v) + 1 for v in a.y]).dict()
    return {k: raw[k] for k in ("standard_error", "n_wins", "n_wins_base", "n_draws", "discrete_win_rate")} | {
        "avg_length": int(a.length.mean()) if len(a.length) else None
    }


def _means(y: Array, weights: Array) -> tuple[Array, Array]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * np.array([y.mean()]), 100 * (weights @ y) / weights.sum(1)


def _lc(a: Annotated, known: Official, draw: Array, how: Fit, row_numbers: bool) -> tuple[Array, Array]:
    assert known.difficulty is not None
    gamma = known.difficulty[np.arange(len(a.y)) if row_numbers else a.index]
    delta, one, weights = a.baseline_length - a.length, np.ones((1, len(a.y))), draw[:, a.index]
    if not delta.any():  # the baseline itself
        return np.array([50.0]), np.full(len(draw), 50.0)
    if how == "exact":
        found = fit(a.y, delta, gamma, one, known.anchors)
    else:
        found = official_fit(a.y, delta, gamma, known.anchors)[0][None]
    samples = controlled(fit(a.y, delta, gamma, weights, known.anchors), gamma, weights)
    return controlled(found, gamma, one), samples
