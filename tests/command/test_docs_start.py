"""The commands of docs/start.md, in the order of the page, where a comparison of `tiny` is finished already."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from conftest import ROOT
from kit.command import Cli
from kit.doc_blocks import blocks, command_lines

STEPS = [block for block in blocks(ROOT / "docs" / "start.md") if block.language == "bash" or "title" in block.marks]


def run_steps(cli: Cli, folder: Path, *, nightly: bool) -> list[str]:
    """Write the page's files and run its commands; those that take long only if asked."""
    shown = []
    for block in STEPS:
        if "title" in block.marks:
            (folder / block.marks["title"]).write_text(block.text)
        elif "not-run" not in block.marks and ("nightly" in block.marks) == nightly:
            for command in (line for line in command_lines(block) if line.startswith("sail-bench ")):
                added = shlex.split(block.marks.get("nightly-adds", ""))
                done = cli(*shlex.split(command)[1:], *added, cwd=folder)
                expected = (0, 1) if " diff " in command else (0,)
                assert done.returncode in expected, (command, done.stdout, done.stderr)
                shown.append(done.stdout + done.stderr)
    return shown


@pytest.mark.slow
def test_the_first_ten_minutes(tiny_copy: Path, smollm2_start: Path, cli: Cli) -> None:
    """Each command does what the page says of it."""
    compared, planned, differences, methods, budgets, mine = run_steps(cli, tiny_copy, nightly=False)
    assert "LEADERBOARD.md" in compared
    assert "hours" in planned
    assert "start" in differences
    assert "sail-pr" in methods
    assert "pairs-16" in budgets
    assert "simpo" in mine


@pytest.mark.nightly
def test_the_real_comparison(tmp_path: Path, smollm2_start: Path, cli: Cli) -> None:
    """The page's `compare smollm2`, cut to the options that the block's mark ``nightly-adds`` names: the whole takes a
    quarter of an hour."""
    run_steps(cli, tmp_path, nightly=True)
    page = (tmp_path / "results/local/smollm2/pairs-64/LEADERBOARD.md").read_text()
    assert "`start`" in page and "gold reward" in page
