"""AlpacaEval 2's evaluation set: instructions in order, baseline answers, difficulty and anchor rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.alpaca_eval.layouts import SetRow
from benchmarks.shared.judgment_files import TypedRow, read_typed_rows
from benchmarks.shared.published import PUBLISHED
from harness.errors import UserError
from harness.score.columns import Array
from harness.score.length_control import NO_ANCHORS, Anchors
from harness.store import user_files
from harness.store.json_files import digest, file_digest

OFFICIAL_COUNT = 805
OFFICIAL_INSTRUCTIONS = "a0f6db1679e6f3c5"
"""sha256 (16 hex digits) of the JSON list of the official instructions, in order."""

SET_FILES = ("eval_set_gpt4_1106_preview.jsonl", "alpaca_eval_gpt4_baseline.json")
DIFFICULTY_FILES = ("instruction_difficulty.csv", "instruction_difficulty_recovered.csv")
ANCHOR_FILES = ("df_gamed.csv", "gamed_baseline_reconstructed.csv")


@dataclass(frozen=True)
class EvaluationSet:
    """The official 805 instructions, or others in the same form, and what length control needs of them.

    Attributes:
        instructions: in the official order.
        answers: the baseline's; None where the file has none.
        generator: the baseline's name; empty if the file does not name it.
        difficulty: of each instruction, shape (n,); None if it is not at hand.
        anchors: the anchor rows of length control; none without ``difficulty``.
        anchor_index: the instruction of each anchor row, shape (m,).
        sha256: of the files' bytes, 16 hex digits.
        official: these are the official 805 instructions, in order.
    """

    instructions: list[str]
    answers: list[str | None]
    generator: str
    difficulty: Array | None
    anchors: Anchors
    anchor_index: NDArray[np.int64]
    sha256: str
    official: bool


class _LengthControl(NamedTuple):
    difficulty: Array
    anchors: Anchors
    anchor_index: NDArray[np.int64]


def read_evaluation_set(eval_set: Path | None, data_dir: Path | None) -> EvaluationSet:
    """The evaluation set, with difficulty and anchors where its data folder, or else its own folder, has both.

    Args:
        eval_set: its file.
        data_dir: the data folder, or its folder ``alpaca_eval``; the set is read from there if ``eval_set`` is None.

    Raises:
        UserError: no evaluation set is named, or a file is not what it should be.
    """
    folder = data_dir / "alpaca_eval" if data_dir and (data_dir / "alpaca_eval").is_dir() else data_dir
    path = eval_set or (user_files.first_existing(folder, *SET_FILES, "alpaca_eval.json") if folder else None)
    if path is None:
        raise UserError(
            "The order of the instructions is needed: name the evaluation set with --eval-set or --data-dir"
        )
    rows = read_set_rows(path)
    content, control = path.read_bytes(), None
    for candidate in (folder or path.parent, path.parent):
        difficulty = user_files.first_existing(candidate, *DIFFICULTY_FILES)
        anchors = user_files.first_existing(candidate, *ANCHOR_FILES)
        if difficulty and anchors:
            content += difficulty.read_bytes() + anchors.read_bytes()
            control = _read_length_control(difficulty, anchors, path, len(rows))
            break
    return EvaluationSet(
        instructions=[row.instruction for _, row in rows],
        answers=[row.answer for _, row in rows],
        generator=next((row.generator for _, row in rows if row.generator), ""),
        difficulty=control.difficulty if control else None,
        anchors=control.anchors if control else NO_ANCHORS,
        anchor_index=control.anchor_index if control else np.zeros(0, dtype=np.int64),
        sha256=hashlib.sha256(content).hexdigest()[:16],
        official=is_official(path, rows),
    )


def read_set_rows(path: Path) -> list[TypedRow[SetRow]]:
    """Items of an evaluation set, in order.

    Raises:
        UserError: the file is broken, a row breaks the layout, or an instruction stands there twice.
    """
    rows = read_typed_rows(path, SetRow)
    first: dict[str, str] = {}
    for place, row in rows:
        if row.instruction in first:
            raise UserError(f"{path}, {place}: the instruction of {first[row.instruction]} again: leave one out")
        first[row.instruction] = place
    return rows


def is_official(path: Path, rows: Sequence[TypedRow[SetRow]]) -> bool:
    """Whether these are the official 805 instructions, in order.

    Args:
        path: of the set, which may be the published file.
        rows: of it.
    """
    if len(rows) != OFFICIAL_COUNT:
        return False
    published = PUBLISHED[f"alpaca_eval/{SET_FILES[1]}"].sha256
    return digest([row.instruction for _, row in rows]) == OFFICIAL_INSTRUCTIONS or file_digest(path) == published


def _read_length_control(difficulty_file: Path, anchor_file: Path, set_file: Path, count: int) -> _LengthControl:
    """Difficulty of the ``count`` instructions of ``set_file``, and the anchor rows.

    Raises:
        UserError: the files do not belong together, or there are no anchor rows.
    """
    difficulty_rows = user_files.read_csv_rows(difficulty_file, ["instruction_difficulty"])
    difficulty = np.array(
        [_csv_number(difficulty_file, i, row, "instruction_difficulty") for i, row in enumerate(difficulty_rows, 1)]
    )
    if len(difficulty) != count:
        raise UserError(
            f"{difficulty_file} has {len(difficulty)} rows and {set_file} {count}: they must belong together"
        )
    anchor_rows = list(enumerate(user_files.read_csv_rows(anchor_file, ["index", "std_delta_len", "preference"]), 1))
    if not anchor_rows:
        raise UserError(f"{anchor_file} holds no rows: name a file that is not empty")
    index = np.array(
        [_csv_number(anchor_file, i, row, "index", (0, count - 1), whole=True) for i, row in anchor_rows],
        dtype=np.int64,
    )
    anchors = Anchors(
        np.tanh([_csv_number(anchor_file, i, row, "std_delta_len") for i, row in anchor_rows]),
        difficulty[index],
        np.array([_csv_number(anchor_file, i, row, "preference", (0, 1)) for i, row in anchor_rows]),
    )
    return _LengthControl(difficulty, anchors, index)


def _csv_number(
    path: Path,
    place: int,
    row: Mapping[str, str | None],
    column: str,
    limits: tuple[float, float] = (-math.inf, math.inf),
    whole: bool = False,
) -> float:
    """A finite number of a CSV file.

    Args:
        path: the file, for the error.
        place: number of the row below the header, for the error.
        row: by column.
        column: whose value is taken.
        limits: least and greatest number.
        whole: whether it must be an integer.

    Raises:
        UserError: it is none, or none that is allowed.
    """
    text = row[column] or ""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and limits[0] <= number <= limits[1] and (not whole or number.is_integer()):
        return number
    kind = "a whole number" if whole else "a number"
    between = f" from {limits[0]:g} to {limits[1]:g}" if math.isfinite(limits[0]) else ""
    raise UserError(f"{path}, row {place}: the column {column!r} holds {text[:40]!r}, and {kind}{between} is expected")
