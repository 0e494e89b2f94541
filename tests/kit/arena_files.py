"""Arena-Hard's files, made by hand, and what ``sail-bench score arena_hard`` says about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit import score_files

Row = dict[str, Any]


def stored(*labels: str | None) -> list[Row | None]:
    """Games that hold the official tool's label alone."""
    return [{"score": label} for label in labels]


def with_texts(*texts: str | None, label: str | None = None) -> list[Row | None]:
    """Games that hold the judge's text, and one stored label for all."""
    return [{"judgment": text, "score": label} for text in texts]


def judged(question: Any, games: Any, model: Any = "m", **more: Any) -> Row:
    """A row of v0.1's judgments."""
    return {"question_id": question, "model": model, "judge": "j", "games": games} | more


def answered(question: Any, model: Any, text: str = "An answer", tokens: int = 3) -> Row:
    """A row of v0.1's answers."""
    turns = [{"content": text, "token_len": tokens}]
    return {"question_id": question, "model_id": model, "choices": [{"index": 0, "turns": turns}]}


def score_command(path: Path, *arguments: object, code: int = 0) -> tuple[Row, str]:
    """JSON and messages of ``sail-bench score arena_hard``."""
    report, notes = score_files.score_command("arena_hard", "--judgments", str(path), *map(str, arguments), code=code)
    return report, " ".join(notes.split())


def only(report: Row) -> Row:
    """The one model's scores."""
    (scores,) = report["scores"]
    return dict(scores)


def win_rate(report: Row) -> float | None:
    """The one model's win rate."""
    value: float | None = only(report)["metrics"]["win_rate"]["value"]
    return value
