"""Arena-Hard's files, made by hand, and what ``sail-bench score arena_hard`` says about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from harness.cli import main

Row = dict[str, Any]


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stored(*labels: str | None) -> list[Row | None]:
    """Games that hold the official tool's label alone."""
    return [{"score": label} for label in labels]


def told(*texts: str | None, label: str | None = None) -> list[Row | None]:
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
    result = CliRunner().invoke(main, ["score", "arena_hard", "--judgments", str(path), *map(str, arguments)])
    assert result.exit_code == code, result.output
    return (json.loads(result.stdout) if code == 0 else {}), " ".join(result.stderr.split())


def only(report: Row) -> Row:
    """The one model's scores."""
    (scores,) = report["scores"]
    return dict(scores)


def win_rate(report: Row) -> float | None:
    """The one model's win rate."""
    value: float | None = only(report)["metrics"]["win_rate"]["value"]
    return value
