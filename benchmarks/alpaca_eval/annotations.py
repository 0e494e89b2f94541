"""AlpacaEval 2's annotations (``annotations.json``): verdicts and lengths by model, aligned by instruction."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.alpaca_eval.annotation_files import AnnotationFile
from benchmarks.alpaca_eval.evaluation_set import EvaluationSet
from benchmarks.alpaca_eval.layouts import AnnotationRow, OutputRow, reply_of_completion
from benchmarks.alpaca_eval.verdict import (
    BASELINE_WINS,
    DRAW,
    MODEL_WINS,
    is_switched,
    read_preference,
    stored_preference,
)
from benchmarks.shared.judgment_files import first_valid_rows, read_typed_rows, refuse_mixture
from harness.answer.verdict import NO_LOGPROBS, Verdict
from harness.errors import UserError
from harness.score.columns import Array

BASELINE = "gpt4_1106_preview"
NO_ROW = "no row"
STORED_AS_COMPUTED = 1e-3
"""Stored preferences and those of the log-probabilities beside them differ by less, but for rounding."""


class OfficialRate(NamedTuple):
    """Raw win rate (percent) by alpaca_eval's own rules, and the rows that it averages; NaN where it fails."""

    win_rate: float
    n: int


@dataclass
class ModelAnnotations:
    """One model's rows with a verdict against ``baseline``, aligned to the evaluation set.

    Attributes:
        model: its name.
        baseline: the name of the model that it is compared with.
        index: place of each row in the evaluation set, ascending, shape (n,).
        y: preference for the model, in [0, 1], shape (n,).
        length: characters of the model's answers, shape (n,); NaN where there is no text.
        baseline_length: the same of the baseline's answers.
        problems: sentences on rows that were dropped or are missing.
        invalid: how many instructions have no verdict, by reason.
        official: the raw win rate by alpaca_eval's own rules.
        unlike_logprobs: rows whose stored preference is not that of the log-probabilities beside it.
    """

    model: str
    baseline: str
    index: NDArray[np.int64]
    y: Array
    length: Array
    baseline_length: Array
    problems: list[str]
    invalid: dict[str, int]
    official: OfficialRate
    unlike_logprobs: int

    @property
    def missing_lengths(self) -> str:
        """Why the lengths cannot be controlled for; empty if they can. The baseline itself needs no lengths."""
        if self.model == self.baseline or not len(self.y):
            return ""
        for key, lengths, fix in (
            ("output_2", self.length, "name the model's outputs with --model-outputs"),
            ("output_1", self.baseline_length, f"take an --eval-set with the answers of {self.baseline}"),
        ):
            if missing := int(np.isnan(lengths).sum()):
                return f"{missing} rows have no {key}: {fix}"
            if not lengths.any():
                return f"{key} is blank in all rows: {fix}"
        return ""


class ModelOutputs:
    """Answers of a model from its outputs file, for annotations that hold no texts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, OutputRow] = {}
        for _, row in read_typed_rows(path, OutputRow):
            if row.output is not None:
                self._rows.setdefault(row.instruction, row)

    def answer_for(self, row: AnnotationRow, source: Path) -> str | None:
        """The model's answer: that of the annotation, else the one of the outputs file.

        Args:
            row: annotation.
            source: its file, for the error.

        Raises:
            UserError: the file holds another model's outputs.
        """
        output = self._rows.get(row.instruction)
        if row.output_2 or output is None:
            return row.output_2
        names = [name for name in (output.generator, row.generator_2) if name]
        if len(set(names)) < 2:
            return output.output
        if row.output_2 is None:
            raise UserError(
                f"{self.path} holds answers of {names[0]}, and {source} lacks those of {names[1]}: score each model by "
                "itself, with its own --model-outputs"
            )
        return row.output_2


class _Placed(NamedTuple):
    """A row, its place in the evaluation set, and its verdict."""

    place: int
    row: AnnotationRow
    verdict: Verdict[float]


def align_annotations(
    file: AnnotationFile, evaluation_set: EvaluationSet, outputs: ModelOutputs | None = None
) -> list[ModelAnnotations]:
    """Annotations by model, aligned by instruction. The first valid row of an instruction counts; what is dropped is
    counted in ``problems``.

    Args:
        file: its rows may be of several models.
        evaluation_set: its order is the order of the result.
        outputs: answers of a model whose texts the rows lack.

    Raises:
        UserError: rows of two judges or two baselines are mixed, or ``outputs`` are another model's.
    """
    rows = [row for _, row in file.rows]
    refuse_mixture(f"{file.path} mixes", "judges", (row.annotator for row in rows if row.annotator))
    refuse_mixture(f"{file.path} mixes", "baselines", (row.generator_1 for row in rows if row.generator_1))
    baseline = next((row.generator_1 for row in rows if row.generator_1), BASELINE)
    by_model: dict[str, list[AnnotationRow]] = {}
    for row in rows:
        by_model.setdefault(file.model_of(row), []).append(row)
    alignment = _Alignment(file.path, baseline, evaluation_set, outputs)
    return [alignment.of_model(model, its_rows) for model, its_rows in by_model.items()]


class _Alignment:
    """Aligns the rows of one model of a file to the evaluation set."""

    def __init__(
        self, source: Path, baseline: str, evaluation_set: EvaluationSet, outputs: ModelOutputs | None
    ) -> None:
        self.source, self.baseline, self.outputs = source, baseline, outputs
        self.places = {instruction: i for i, instruction in enumerate(evaluation_set.instructions)}
        is_baseline = evaluation_set.generator in ("", baseline)
        self.baseline_answers = evaluation_set.answers if is_baseline else [None] * len(evaluation_set.answers)

    def of_model(self, model: str, rows: Sequence[AnnotationRow]) -> ModelAnnotations:
        """The rows of a model in the order of the evaluation set."""
        placed = [
            _Placed(self.places[row.instruction], row, annotated_preference(row))
            for row in rows
            if row.instruction in self.places
        ]
        counted, replaced, repeats = first_valid_rows(
            placed, lambda placed: placed.place, lambda placed: placed.verdict.value is not None
        )
        judged = sorted((p for p in counted if p.verdict.value is not None), key=lambda p: p.place)
        invalid = Counter(p.verdict.reason for p in counted if p.verdict.value is None)
        unlike = sum(_is_unlike_logprobs(p.row) for p in judged)
        no_verdict = ", ".join(f"{count} {reason}" for reason, count in sorted(invalid.items()))
        counts = {
            "rows match no instruction of the evaluation set": len(rows) - len(placed),
            f"rows have no verdict ({no_verdict})": invalid.total(),
            "failed rows replaced by a re-run": len(replaced),
            "rows repeat an instruction (the first valid one counts)": len(repeats),
            "rows store another preference than their log-probabilities give (the stored one counts)": unlike,
        }
        problems = [f"{model}: {count} {what}" for what, count in counts.items() if count]
        total = len(self.places)
        if len(judged) < total:
            problems.append(f"{model}: {len(judged)} of {total} instructions have a verdict")
        invalid[NO_ROW] = total - len(counted)
        return ModelAnnotations(
            model=model,
            baseline=self.baseline,
            index=np.array([p.place for p in judged], dtype=np.int64),
            y=np.array([p.verdict.value for p in judged], dtype=np.float64) - BASELINE_WINS,
            length=_lengths([[self._answer(p.row)] for p in judged]),
            baseline_length=_lengths([[p.row.output_1, self.baseline_answers[p.place]] for p in judged]),
            problems=problems,
            invalid={reason: count for reason, count in sorted(invalid.items()) if count},
            official=official_win_rate([row.preference for row in rows]),
            unlike_logprobs=unlike,
        )

    def _answer(self, row: AnnotationRow) -> str | None:
        return self.outputs.answer_for(row, self.source) if self.outputs else row.output_2


def _lengths(candidates: Sequence[Sequence[str | None]]) -> Array:
    """Characters of each row's first text that is not blank: 0 if those that are there are, NaN if there is none."""
    texts = [[text for text in row if text is not None] for row in candidates]
    lengths = [next((len(text) for text in row if text), 0) if row else float("nan") for row in texts]
    return np.array(lengths, dtype=np.float64)


def annotated_preference(row: AnnotationRow) -> Verdict[float]:
    """The stored preference in [1, 2], else that of the stored log-probabilities, or why there is neither."""
    value = row.preference
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    if missing and row.raw_completion is not None:
        return _preference_of_completion(row)
    return stored_preference(value)


def _preference_of_completion(row: AnnotationRow) -> Verdict[float]:
    reply = reply_of_completion(row.raw_completion)
    if reply is None:
        return Verdict(None, NO_LOGPROBS)
    switched = row.is_switched_outputs
    return read_preference(reply, is_switched(row.instruction) if switched is None else switched, "logprobs")


def _is_unlike_logprobs(row: AnnotationRow) -> bool:
    stored = stored_preference(row.preference).value
    computed = _preference_of_completion(row).value if isinstance(row.raw_completion, dict) else None
    return stored is not None and computed is not None and abs(computed - stored) > STORED_AS_COMPUTED


def official_win_rate(stored: Sequence[Any]) -> OfficialRate:
    """Raw win rate by alpaca_eval's own rules: over all rows of a file, repeats included. Whatever turns into a number
    counts if it is 0 (a draw) or lies between 1 and 2, and the others are dropped.

    Args:
        stored: preferences as they stand in the file; a text that is no number fails there.
    """
    values = []
    for value in stored:
        try:
            number = float("nan") if value is None else float(value)
        except (TypeError, ValueError, OverflowError):
            return OfficialRate(float("nan"), 0)
        number = number or DRAW
        if BASELINE_WINS <= number <= MODEL_WINS:
            values.append(number - BASELINE_WINS)
    return OfficialRate(100 * sum(values) / len(values) if values else float("nan"), len(values))
