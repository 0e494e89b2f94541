"""AlpacaEval 2's evaluation set: instructions in order, baseline answers, difficulty and anchor rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared.judgment_files import nonempty_rows
from harness.errors import UserError
from harness.score.columns import Array
from harness.score.length_control import NO_ANCHORS, Anchors
from harness.store import user_files

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
    """

    instructions: list[str]
    answers: list[str | None]
    generator: str
    difficulty: Array | None
    anchors: Anchors
    anchor_index: NDArray[np.int64]
    sha256: str


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
    rows = nonempty_rows(path, ["instruction"])
    content, control = path.read_bytes(), None
    for candidate in (folder or path.parent, path.parent):
        difficulty = user_files.first_existing(candidate, *DIFFICULTY_FILES)
        anchors = user_files.first_existing(candidate, *ANCHOR_FILES)
        if difficulty and anchors:
            content += difficulty.read_bytes() + anchors.read_bytes()
            control = _read_length_control(difficulty, anchors, path, len(rows))
            break
    return EvaluationSet(
        instructions=[row["instruction"] for row in rows],
        answers=[row.get("baseline_output", row.get("output")) for row in rows],
        generator=str(next((row["generator"] for row in rows if row.get("generator")), "")),
        difficulty=control.difficulty if control else None,
        anchors=control.anchors if control else NO_ANCHORS,
        anchor_index=control.anchor_index if control else np.zeros(0, dtype=np.int64),
        sha256=hashlib.sha256(content).hexdigest()[:16],
    )


def _read_length_control(difficulty_file: Path, anchor_file: Path, set_file: Path, count: int) -> _LengthControl:
    """Difficulty of the ``count`` instructions of ``set_file``, and the anchor rows.

    Raises:
        UserError: the files do not belong together, or there are no anchor rows.
    """
    difficulty_rows = user_files.read_csv_rows(difficulty_file, ["instruction_difficulty"])
    difficulty = np.array([float(row["instruction_difficulty"]) for row in difficulty_rows])
    if len(difficulty) != count:
        raise UserError(
            f"{difficulty_file} has {len(difficulty)} rows and {set_file} {count}: they must belong together"
        )
    anchor_rows = user_files.read_csv_rows(anchor_file, ["index", "std_delta_len", "preference"])
    if not anchor_rows:
        raise UserError(f"{anchor_file} holds no rows: name a file that is not empty")
    index = np.array([int(row["index"]) for row in anchor_rows], dtype=np.int64)
    anchors = Anchors(
        np.tanh([float(row["std_delta_len"]) for row in anchor_rows]),
        difficulty[index],
        np.array([float(row["preference"]) for row in anchor_rows]),
    )
    return _LengthControl(difficulty, anchors, index)
