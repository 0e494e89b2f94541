"""MT-Bench's grading (spec/evals 3): which prompt, how it is filled, how a rating is read, which rows are doubtful."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REFERENCED = ("math", "reasoning", "coding")

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}

_DOUBLE, _SINGLE = re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]")


def temperature(category: str) -> float:
    """The official sampling temperature of a category (0 where none is named: greedy)."""
    return TEMPERATURES.get(category, 0.0)


def rating(judgment: str) -> float | None:
    """The first number in double brackets, else in single ones; None if there is none."""
    found = _DOUBLE.search(judgment) or _SINGLE.search(judgment)
    return float(found.group(1)) if found else None


def prompt_name(category: str, turn: int) -> str:
    """Name of the official single-answer prompt for a category and a turn (1 or 2)."""
    name = "single-math-v1" if category in REFERENCED else "single-v1"
    return name if turn == 1 else f"{name}-multi-turn"


def fill(template: str, question: Sequence[str], answer: Sequence[str], reference: Sequence[str], turn: int) -> str:
    """The judge's user prompt for one turn. Braces inside texts are left alone.

    Args:
        question, answer, reference: both turns (``reference`` may be empty where the template asks for none).
    """
    return filled(template, question, {"answer": answer}, reference, turn)


def filled(
    template: str, question: Sequence[str], answers: Mapping[str, Sequence[str]], reference: Sequence[str], turn: int
) -> str:
    """The same for answers by the names that the template has for them (both turns of each)."""
    values = {"question": question[0]} | {name: said[0] for name, said in answers.items()} if turn == 1 else {}
    for i in range(turn):
        values[f"question_{i + 1}"] = question[i]
        values |= {f"{name}_{i + 1}": said[i] for name, said in answers.items()}
        if reference:
            values[f"ref_answer_{i + 1}"] = reference[i]
    return template.format(**values)


@dataclass
class Grades:
    """Ratings of one model: ``scores`` by (question, turn), and what is wrong with the file they came from."""

    scores: dict[tuple[int, int], float | None] = field(default_factory=dict)
    rows: int = 0
    duplicates: int = 0
    unparsed: int = 0
    out_of_range: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)

    @property
    def messy(self) -> list[str]:
        """Sentences on what keeps these ratings from being one clean run; empty if nothing does."""
        found = []
        if self.duplicates:
            found.append(
                f"{self.duplicates} rows repeat a question and turn: the judge ran more than once, and no rule says "
                f"which run counts"
            )
        if self.unparsed:
            found.append(f"{self.unparsed} ratings could not be read (-1)")
        if self.out_of_range:
            found.append(f"{self.out_of_range} ratings lie outside 1-10")
        if self.missing:
            found.append(f"{len(self.missing)} of the expected ratings are missing")
        return found


def collect(rows: Sequence[Mapping[str, Any]], questions: Sequence[int] = ()) -> dict[str, Grades]:
    """Ratings by model from rows of FastChat's judgment file. The first row of a (question, turn) is kept, repeats are
    counted; -1 is no rating.

    Args:
        questions: ids that each model should have in both turns (none: those in the file).
    """
    expected = {(q, t) for q in (questions or {int(r["question_id"]) for r in rows}) for t in (1, 2)}
    found: dict[str, Grades] = {}
    seen: Counter[tuple[str, int, int]] = Counter()
    for row in rows:
        grades = found.setdefault(str(row["model"]), Grades())
        key = int(row["question_id"]), int(row["turn"])
        grades.rows += 1
        seen[(str(row["model"]), *key)] += 1
        value = float(row["score"])
        grades.unparsed += value == -1
        grades.out_of_range += value != -1 and not 1 <= value <= 10
        if seen[(str(row["model"]), *key)] > 1:
            grades.duplicates += 1
            continue
        grades.scores[key] = None if value == -1 else value
    for grades in found.values():
        grades.missing = sorted(expected - set(grades.scores))
    return found


def official_mean(rows: Sequence[Mapping[str, Any]], model: str) -> float:
    """What FastChat's ``show_result`` prints: the mean over all rows but -1, repeats included. For comparison only."""
    values = [float(r["score"]) for r in rows if r["model"] == model and float(r["score"]) != -1]
    return sum(values) / len(values) if values else float("nan")
