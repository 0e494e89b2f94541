"""``python -m tests.chaos --quick``: every part runs to its end, and nothing is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.nightly
def test_a_look(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = {part["part"]: part for part in json.loads((tmp_path / "chaos.json").read_text())["parts"]}
    assert list(parts) == ["kills", "processes", "jobs", "ray", "damage", "full-disk", "two", "fuzz"]
    for name, part in parts.items():
        assert not part["broken"]
        assert sum(line["cases"] for line in part["lines"]) or all(line["skipped"] for line in part["lines"]), name
    assert sum(line["cases"] for line in parts["fuzz"]["lines"]) >= 70
