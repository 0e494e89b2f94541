"""Judgment files for ``sail-bench score``, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import golden

from harness.cli import main


def golden_rows(*path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden(*path).read_text(encoding="utf-8").split("\n") if line]


def score_command(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The command's JSON (which has no NaN) and what it printed beside."""
    done = CliRunner().invoke(main, ["score", *arguments])
    assert done.exit_code == code, done.output
    return (json.loads(done.stdout, parse_constant=pytest.fail) if code == 0 else {}), done.stderr


def write_file(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """A file of rows in a folder, by its name a JSON list or JSON lines."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(r) + "\n" for r in rows)
    path.write_text(text, encoding="utf-8")
    return path


def metric_value(report: dict[str, Any], metric: str, row: int = 0) -> Any:
    return report["scores"][row]["metrics"][metric]["value"]
