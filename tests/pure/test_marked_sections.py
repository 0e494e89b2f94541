"""Marked sections of any Markdown file: made from results, in place, and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from kit.command import Cli
from kit.results import PEOPLE, preference_result, run_result

from harness.errors import UserError
from harness.report.leaderboard import write_leaderboard
from harness.report.marked_sections import has_sections, update_sections, with_sections
from harness.score.results import result_path, write_result
from harness.store.json_files import digest


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for place, method in enumerate(("start", "dpo")):
        rewards = np.random.default_rng(place).random(PEOPLE)
        scored = preference_result(rewards, rewards)
        scored = scored.model_copy(update={"protocol_hash": digest(scored.protocol)})
        result = run_result(method, [scored], learning_rate=None, ledger={"phases": {}, "peak_memory_bytes": 0})
        write_result(result_path(tmp_path / "results", "demo", "pairs-96", method, 0), result)
    write_leaderboard(tmp_path / "results" / "demo" / "pairs-96")
    return tmp_path / "results"


def test_sections_are_those_of_the_page_and_the_rest_stays(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "docs" / "a.md"
    file.parent.mkdir()
    before = "# A\n\n<!-- sail-bench:demo/pairs-96 -->old<!-- /sail-bench -->\nafter\n"
    example = "```\n<!-- sail-bench:NAME -->\n```\nand `<!-- sail-bench:NAME -->` in code\n"
    one = "<!-- sail-bench:demo/pairs-96/verdict -->\n<!-- /sail-bench -->\n"
    file.write_text(before + example + one)
    assert update_sections(file, results)
    text, written = file.read_text(), (results / "demo/pairs-96/LEADERBOARD.md").read_text()
    table = next(block for block in written.split("\n\n") if block.startswith("| method"))
    verdict = next(block for block in written.split("\n\n") if block.startswith("* On gold"))
    assert text.startswith(f"# A\n\n<!-- sail-bench:demo/pairs-96 -->\n{verdict}\n\n{table}\n\n")
    assert "![Score against cost](../results/demo/pairs-96/cost.svg)\n<!-- /sail-bench -->\nafter\n" in text
    assert text.endswith(f"{example}<!-- sail-bench:demo/pairs-96/verdict -->\n{verdict}\n<!-- /sail-bench -->\n")
    assert not update_sections(file, results), "nothing changes twice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "a.md has no section to update: write the lines"),
        ("a\n<!-- sail-bench:demo/pairs-96 -->\n", "a.md, line 2: the section demo/pairs-96 is not closed"),
        ("<!-- sail-bench:demo/pairs-96 -->\n<!-- sail-bench:demo/pairs-96/table -->\n<!-- /sail-bench -->", "line 1"),
        ("<!-- sail-bench:demo/x -->\n<!-- /sail-bench -->", "no results demo/x in .*: name one of demo/pairs-96"),
        ("<!-- sail-bench:../demo/pairs-96 -->\n<!-- /sail-bench -->", "no results ../demo"),
        ("<!-- sail-bench:table -->\n<!-- /sail-bench -->", "no results table"),
    ],
)
def test_what_cannot_be_made_is_named(text: str, message: str, results: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        update_sections(file, results)
    assert file.read_text() == text


def test_the_command_updates_and_checks(results: Path, tmp_path: Path, cli: Cli) -> None:
    """A README and docs beside the results are checked without being named."""
    (tmp_path / "README.md").write_text("<!-- sail-bench:demo/pairs-96/table -->\n<!-- /sail-bench -->\n")
    assert cli("leaderboard", cwd=tmp_path).returncode == 0
    failed = cli("leaderboard", "--check", cwd=tmp_path)
    assert failed.returncode == 1
    assert "README.md" in failed.stderr
    updated = cli("leaderboard", "--update", "README.md", cwd=tmp_path)
    assert "updated README.md" in updated.stdout
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("<!-- sail-bench:demo/pairs-96/verdict -->\n<!-- /sail-bench -->\n")
    assert "a.md" in cli("leaderboard", "--check", cwd=tmp_path).stderr
    assert cli("leaderboard", "--update", "docs/a.md", cwd=tmp_path).returncode == 0
    assert cli("leaderboard", "--check", cwd=tmp_path).returncode == 0
    text = (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text(text.replace("0.", "1.", 1))
    assert cli("leaderboard", "--check", "--update", "README.md", cwd=tmp_path).returncode == 1
    assert (tmp_path / "README.md").read_text() != text, "a check changes nothing"


@pytest.mark.parametrize("name", ["README.md", "docs/leaderboard.md", "docs/choosing.md", "docs/negative-results.md"])
def test_the_committed_sections_are_those_of_the_results(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert has_sections(ROOT / name)
    assert with_sections(text, ROOT / name, ROOT / "results") == text
