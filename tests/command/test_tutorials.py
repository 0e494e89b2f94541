"""The tutorials docs/add-an-oracle.md and docs/add-a-benchmark.md, run from the first block to the last."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from kit.doc_blocks import blocks
from kit.environment import Environment

pytestmark = pytest.mark.slow


def as_script(page: str) -> str:
    """The page as a shell script: blocks with a title are files, blocks of bash are commands."""
    parts = []
    for block in blocks(ROOT / "docs" / page):
        if "title" in block.marks:
            parts.append(f"cat > {block.marks['title']} <<'END-OF-BLOCK'\n{block.text}END-OF-BLOCK\n")
        elif block.language == "bash":
            parts.append(block.text)
    return "\n".join(parts)


def test_the_tutorial_for_an_oracle(environment: Environment, finished_tiny: Path, tmp_path: Path) -> None:
    """The oracle is listed, evaluates a comparison, and its unit heads the column."""
    stored = f"cp -r {finished_tiny / '.sail-bench'} .\n"
    script = as_script("add-an-oracle.md").replace("sail-bench compare", f"{stored}sail-bench compare")
    shown = environment.run(script, tmp_path)
    assert "3 passed" in shown
    assert "plain_language  Flesch reading ease of the answer, up to a ceiling (plain-language 0.1.0)" in shown
    page = (tmp_path / "plain-language/results/local/plain/pairs-16/LEADERBOARD.md").read_text()
    assert "reading ease" in page.split("<details>")[0]
    assert "Failed runs" not in page
    declared = "import importlib.metadata as m; print([r for r in m.requires('plain-language') if 'test' in r])"
    assert "pytest" in environment.run(f'python -c "{declared}"', tmp_path)


def test_the_tutorial_for_a_benchmark(environment: Environment, finished_tiny: Path, tmp_path: Path) -> None:
    """The benchmark is listed, has a column, and its answers stand in the result file."""
    stored = f"cp -r {finished_tiny / '.sail-bench'} .\n"
    script = as_script("add-a-benchmark.md").replace("sail-bench compare", f"{stored}sail-bench compare")
    shown = environment.run(script, tmp_path)
    assert "2 passed" in shown
    assert "capitals  names of capitals, by substring (capitals 0.1.0)" in shown
    page = (tmp_path / "capitals/results/local/tiny/pairs-16/LEADERBOARD.md").read_text()
    assert "Capitals (12 questions of our own" in page
    assert '"right"' in (tmp_path / "capitals/results/local/tiny/pairs-16/dpo/seed-0.json").read_text()
    assert "Failed runs" not in page
