"""The check of the GPU path: its table, and at night the whole script on a CPU, from the source tree alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from gpu.figures import Figure, Outcome, table

SCRIPT = [sys.executable, str(ROOT / "tests/gpu/gpu_check.py")]


def test_the_table_shows_what_was_missed_and_why() -> None:
    figures = (Figure("a", 1234.5, "x", "big", True), Figure("b", 0.5, "%", "all", False), Figure("c", "word"))
    outcomes = [
        Outcome("one", "ok", 2.0, figures),
        Outcome("two", "skipped", 0.0, reason="no | here"),
        Outcome("three", "out of time", 60.0, reason="over 60 s"),
    ]
    rows = table({"GPU": "H"}, outcomes).splitlines()
    assert "* GPU: H" in rows and "62 s in all." in rows
    assert "| one | a | 1,234 x | big: reached |" in rows and "| one | b | 0.5 % | all: **missed** |" in rows
    assert "| two | **skipped** | no / here | |" in rows and "| three | **out of time** | over 60 s | |" in rows
    assert [figure.what for figure in outcomes[0].missed] == ["b"]


@pytest.mark.nightly
def test_it_runs_on_a_cpu_from_the_source_tree(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [*SCRIPT, "--small", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    record = json.loads((tmp_path / "out/gpu-check-cpu.json").read_text())
    states = {part["part"]: part["status"] for part in record["parts"]}
    assert states.pop("vLLM") == "skipped" and set(states.values()) == {"ok"} and len(states) == 7
    assert (tmp_path / "out/gpu-check-cpu.md").is_file()
