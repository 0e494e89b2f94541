"""AlpacaEval 2's annotation files (``annotations.json``): verdicts and lengths by model, aligned by instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.alpaca_eval.evaluation_set import EvaluationSet
from benchmarks.alpaca_eval.verdict import preference_from_logprobs, stored_preference
from benchmarks.shared.judgment_files import nonempty_rows, refuse_mixture
from harness.benchmark import Row
from harness.errors import UserError
from harness.score.columns import Array

BASELINE = "gpt4_1106_preview"


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
    """

    model: str
    baseline: str
    index: NDArray[np.int64]
    y: Array
    length: Array
    baseline_length: Array
    problems: list[str]

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


class _Verdict(NamedTuple):
    y: float
    length: float
    baseline_length: float


def add_missing_outputs(rows: Sequence[Row], source: Path, outputs: Path | None) -> None:
    """Give rows without a text of the model that of its outputs file, in place.

    Args:
        rows: annotations.
        source: their file, for the error.
        outputs: the model's outputs; None to change nothing.

    Raises:
        UserError: these are another model's outputs.
    """
    by_instruction = {r["instruction"]: r for r in nonempty_rows(outputs, ["instruction", "output"])} if outputs else {}
    for row in rows:
        text, output = row.get("output_2"), by_instruction.get(row["instruction"])
        if text or output is None:
            continue
        names = [str(r[key]) for r, key in ((output, "generator"), (row, "generator_2")) if r.get(key)]
        if len(set(names)) < 2:
            row["output_2"] = output["output"]
        elif text is None:
            raise UserError(
                f"{outputs} holds answers of {names[0]}, and {source} lacks those of {names[1]}: score each model by "
                "itself, with its own --model-outputs"
            )


def align_annotations(rows: Sequence[Row], source: Path, evaluation_set: EvaluationSet) -> list[ModelAnnotations]:
    """Annotations by model, aligned by instruction. Dropped rows are counted in ``problems``.

    Args:
        rows: of one annotation file.
        source: that file; its name stands for a model that the rows do not name.
        evaluation_set: its order is the order of the result.

    Raises:
        UserError: rows of two judges or two baselines are mixed.
    """
    for key, kind in (("annotator", "judges"), ("generator_1", "baselines")):
        refuse_mixture(f"{source} mixes", kind, (str(r[key]) for r in rows if r.get(key)))
    baseline = str(next((r["generator_1"] for r in rows if r.get("generator_1")), BASELINE))
    known_answers = evaluation_set.generator in ("", baseline)
    baseline_answers = evaluation_set.answers if known_answers else [None] * len(evaluation_set.answers)
    places = {instruction: i for i, instruction in enumerate(evaluation_set.instructions)}
    by_model: dict[str, dict[int, _Verdict]] = {}
    dropped: dict[str, Counter[str]] = {}
    for row in rows:
        model = str(row.get("generator_2") or source.stem)
        verdicts, reasons = by_model.setdefault(model, {}), dropped.setdefault(model, Counter())
        place, value = places.get(row["instruction"]), _preference(row)
        if place is None:
            reasons["rows match no instruction of the evaluation set"] += 1
        elif value is None:
            reasons["rows have no verdict"] += 1
        elif place in verdicts:
            reasons["rows repeat an instruction (the first counts)"] += 1
        else:
            lengths = _length(row.get("output_2")), _length(row.get("output_1"), baseline_answers[place])
            verdicts[place] = _Verdict(value - 1, *lengths)
    total = len(evaluation_set.instructions)
    return [_aligned(model, baseline, verdicts, dropped[model], total) for model, verdicts in by_model.items()]


def _aligned(
    model: str, baseline: str, verdicts: dict[int, _Verdict], dropped: Counter[str], total: int
) -> ModelAnnotations:
    index = np.array(sorted(verdicts), dtype=np.int64)
    y, length, baseline_length = (
        np.array([verdicts[int(i)][field] for i in index], dtype=np.float64) for field in range(3)
    )
    problems = [f"{model}: {count} {reason}" for reason, count in dropped.items()]
    if len(index) < total:
        problems.append(f"{model}: {len(index)} of {total} instructions have a verdict")
    return ModelAnnotations(model, baseline, index, y, length, baseline_length, problems)


def _preference(row: Row) -> float | None:
    """The stored preference in [1, 2], else that of the stored log-probabilities; None without either."""
    value = stored_preference(row.get("preference"))
    if value is None and (top_logprobs := _top_logprobs(row)) is not None:
        return preference_from_logprobs(top_logprobs, bool(row.get("is_switched_outputs", False)))
    return value


def _top_logprobs(row: Row) -> dict[str, float] | None:
    """Log-probabilities of the first token in a row's raw completion, as the OpenAI API returned them."""
    raw = row.get("raw_completion")
    content = (raw.get("logprobs") or {}).get("content") if isinstance(raw, dict) else None
    if not content:
        return None
    return {t["token"]: float(t["logprob"]) for t in content[0].get("top_logprobs", [])}


def _length(*texts: str | None) -> float:
    """Characters of the first text that is not blank; 0 if those that are there are, NaN if there is none."""
    lengths = [len(text) for text in texts if text is not None]
    return float(next((n for n in lengths if n), 0)) if lengths else float("nan")
