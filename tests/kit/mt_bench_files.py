"""FastChat's files for MT-Bench, made by hand, and what ``sail-bench score mt_bench`` says about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit import score_files
from kit.rows import write_rows

Row = dict[str, Any]

PROMPTS = {
    "single-v1": "Q {question} A {answer}",
    "single-v1-multi-turn": "Q {question_1} A {answer_1} Q {question_2} A {answer_2}",
    "single-math-v1": "R {ref_answer_1} Q {question} A {answer}",
    "single-math-v1-multi-turn": "R {ref_answer_1} {ref_answer_2} Q {question_1} {question_2} A {answer_1} {answer_2}",
    "pair-v2": "Q {question} A {answer_a} B {answer_b}",
    "pair-v2-multi-turn": "Q {question_1} {question_2} A {answer_a_1} {answer_a_2} B {answer_b_1} {answer_b_2}",
    "pair-math-v1": "R {ref_answer_1} Q {question} A {answer_a} B {answer_b}",
    "pair-math-v1-multi-turn": "R {ref_answer_1} {ref_answer_2} Q {question_2} A {answer_a_2} B {answer_b_2}",
}


def rated(question: Any, turn: Any, score: Any, judgment: Any = None, model: Any = "m") -> Row:
    """A row of ``gpt-4_single.jsonl``."""
    row = {"question_id": question, "model": model, "judge": ["j", "single-v1"], "turn": turn, "score": score}
    return row if judgment is None else row | {"judgment": judgment}


def played(question: Any, turn: Any, winners: tuple[Any, Any], texts: tuple[Any, Any] | None = None) -> Row:
    """A row of ``gpt-4_pair.jsonl``: ``m`` against ``base``."""
    row = {"question_id": question, "model_1": "m", "model_2": "base", "turn": turn, "judge": ["j", "pair-v2"]}
    row |= {"g1_winner": winners[0], "g2_winner": winners[1]}
    return row if texts is None else row | {"g1_judgment": texts[0], "g2_judgment": texts[1]}


def score_command(path: Path, *arguments: object, code: int = 0) -> tuple[dict[str, Any], str]:
    """JSON and messages of ``sail-bench score mt_bench``."""
    report, notes = score_files.score_command("mt_bench", "--judgments", str(path), *map(str, arguments), code=code)
    return report, " ".join(notes.split())


def write_data(folder: Path, **replaced: list[Row]) -> Path:
    """A data folder with two questions in the official layout; other rows by the name of their file."""
    files = {
        "question": [
            {"question_id": 81, "category": "writing", "turns": ["One?", "Two?"]},
            {"question_id": 111, "category": "math", "turns": ["1+1?", "Twice?"]},
        ],
        "reference_answer_gpt-4": [{"question_id": 111, "choices": [{"turns": ["2", "4"]}]}],
        "judge_prompts": [{"name": n, "system_prompt": "S", "prompt_template": t} for n, t in PROMPTS.items()],
        "model_answer/given": [{"question_id": i, "choices": [{"turns": ["g1", "g2"]}]} for i in (81, 111)],
    }
    for name, rows in (files | {key.replace("__", "/"): rows for key, rows in replaced.items()}).items():
        write_rows(folder / "mt_bench" / f"{name}.jsonl", rows)
    return folder
