"""The example package and the tutorial, in a fresh environment with wheels of ours and of theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT
from kit.command import Cli
from kit.environment import Environment, wheel
from kit.results import details

pytestmark = pytest.mark.slow


def test_the_example_package(environment: Environment, tiny_copy: Path, tmp_path: Path) -> None:
    """Built as a wheel and installed beside ours: listed, compared, and in the leaderboard with its origin."""
    (tmp_path / "wheels").mkdir()
    built = wheel(ROOT / "examples" / "sail-revkl", tmp_path / "wheels")
    environment.run(f"python -m pip install -q {built}", tmp_path)
    shown = environment.run("sail-bench methods", tmp_path)
    assert "sail-revkl  SAIL-PR with a reverse-KL penalty to the start policy (sail-revkl 0.1.0)" in shown
    assert "penalty 0.05" in shown
    environment.run("sail-bench compare tiny --methods start,dpo,sail-revkl --benchmarks preference", tiny_copy)
    page = (tiny_copy / "results/local/tiny/pairs-16/LEADERBOARD.md").read_text()
    row = next(line for line in details(page, "Methods").split("\n") if line.startswith("| `sail-revkl`"))
    assert "sail-revkl 0.1.0" in row
    assert "penalty 0.05" in row
    assert "Failed runs" not in page
    tests = ROOT / "examples" / "sail-revkl" / "tests"
    assert "2 passed" in environment.run(f"python -m pytest -q -p no:cacheprovider {tests}", tmp_path)


def test_the_tutorial_as_it_stands(environment: Environment, finished_tiny: Path, tmp_path: Path) -> None:
    """Every ``bash`` block of docs/add-a-method.md, one after the other in one shell. The store has `start` and
    `dpo` already."""
    text = (ROOT / "docs" / "add-a-method.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    assert len(blocks) == 4
    blocks.insert(1, f"cp -r {finished_tiny / '.sail-bench'} .")
    shown = environment.run("\n".join(blocks), tmp_path)
    assert "3 passed" in shown
    assert "win-by-margin  one line for the listing (win-by-margin 0.1.0)" in shown
    page = (tmp_path / "win-by-margin/results/local/tiny/pairs-16/LEADERBOARD.md").read_text()
    assert "| `win-by-margin` |" in page
    code = (tmp_path / "win-by-margin" / "win_by_margin.py").read_text()
    (shown_code,) = re.findall(r"```python run-by=[^\n]*\n(.*?)```", text, re.S)
    for line in shown_code.strip().split("\n")[1:]:
        assert line in code, "the page shows the code that the command writes"


def test_the_skeleton_refuses_what_it_should(cli: Cli, tmp_path: Path) -> None:
    for name, words in (("My_Method", "no name for a method"), ("dpo", "installed already")):
        done = cli("new-method", name, cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
    assert cli("new-method", "ok", cwd=tmp_path).returncode == 0
    done = cli("new-method", "ok", cwd=tmp_path)
    assert done.returncode == 2
    assert "ok exists" in done.stderr
