"""Every block and command of the documentation is run, parsed or validated, or says why it is not."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from kit.command import tiny_recipe
from kit.doc_blocks import PROSE, ROOT, Block, alternatives, blocks, command_lines, fault, inline_commands

from harness.recipe.recipe import Recipe
from harness.run.plugins import load, plugins

TUTORIALS = {"docs/add-an-oracle.md", "docs/add-a-benchmark.md"}
"""Pages that ``tests/command/test_tutorials.py`` runs from the first block to the last."""
RUN_BY = {"README.md": "tests/tiny/test_library.py", "docs/sail.md": "tests/tiny/test_library.py"}
"""The test that runs the blocks of Python of a page."""
OURS_IN_TUTORIALS = {"win-by-margin", "capitals", "plain_language"}
SHELL = ("mkdir", "cd", "python")

EVERY = [block for path in PROSE for block in blocks(path)]


def identity(value: object) -> str:
    return value.where if isinstance(value, Block) else str(value)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_commands_exist_and_take_their_options(path: Path) -> None:
    """Parsed by the command line's own parser, without running."""
    faults = []
    for block in blocks(path):
        if "not-run" in block.marks:
            continue
        lines = [line for line in command_lines(block) if not _by_the_tutorial(block, line) and line != "true"]
        faults += [f"{block.where}: {wrong}" for wrong in map(fault, lines) if wrong]
    faults += [f"{path.name}: {wrong}" for wrong in map(fault, inline_commands(path)) if wrong]
    assert not faults, "\n".join(faults)


def _by_the_tutorial(block: Block, line: str) -> bool:
    return block.page in {*TUTORIALS, "docs/add-a-method.md"} and line.split()[0] in SHELL


@pytest.mark.parametrize("block", [b for b in EVERY if b.language in ("yaml", "json", "toml")], ids=identity)
def test_data_blocks_are_valid(block: Block) -> None:
    """A block of YAML is a recipe, or part of one: with the rest of the recipe `tiny` it validates."""
    if block.language == "toml":
        assert tomllib.loads(block.text)
        return
    if block.language == "json":
        assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())
        return
    part = yaml.safe_load(block.text.replace("COMMIT", "a" * 40))
    recipe = Recipe.model_validate(part if {"name", "model", "data"} <= part.keys() else tiny_recipe() | part)
    known = {*plugins("methods"), *recipe.variants, *recipe.endpoints, *OURS_IN_TUTORIALS}
    assert {*recipe.methods, *(v.method for v in recipe.variants.values())} <= known
    for name, options in recipe.benchmarks.items():
        if name not in OURS_IN_TUTORIALS:
            load("benchmarks", name.partition(":")[0]).Options.model_validate(options)
    for spec in filter(None, (recipe.oracle, recipe.eval_oracle)):
        if spec.name not in OURS_IN_TUTORIALS:
            load("oracles", spec.name).Options.model_validate(spec.options)


@pytest.mark.parametrize("block", [b for b in EVERY if b.language in ("python", "py")], ids=identity)
def test_python_is_run_somewhere(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a test that reads the page, or here; what is no whole program says so."""
    code = compile(block.text, block.where, "exec")
    test = block.marks.get("run-by", RUN_BY.get(block.page, ""))
    if block.page in TUTORIALS and "title" in block.marks:
        test = "tests/command/test_tutorials.py"
    if test:
        assert Path(block.page).name in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not read the page"
    elif "not-run" not in block.marks:
        monkeypatch.chdir(tmp_path)
        exec(code, {"__name__": "block"})


def test_other_blocks_are_text() -> None:
    """A block of another language would be checked by nothing."""
    unknown = [b.where for b in EVERY if b.language not in ("", "bash", "yaml", "json", "toml", "python", "py", "text")]
    assert not unknown
    unexplained = [b.where for b in EVERY for mark in ("not-run", "nightly") if len(b.marks.get(mark, "a reason")) < 8]
    assert not unexplained


def test_the_parse_sees_what_is_wrong() -> None:
    """Each kind of mistake that a page can hold."""
    wrong = {
        "sail-bench compar tiny": "no such command",
        "sail-bench compare tiny --buget x": "No such option",
        "sail-bench compare tiny smollm2": "more arguments",
        "sail-bench plan tiny --machine": "requires an argument",
        "sail-bench score alpaca_eval --annotations f --fit offical": "is none of",
        "python -m nox -s comparison": "no such session",
        "python -m nox -s compare -- tiny --method dpo": "No such option",
        "python -m tests.speed.nothing": "no module",
        "python -m pip install '.[repot]'": "no extra",
        "python -m pip install 'sail-bench[repot]'": "no extra",
        "python -m pytest tests/pure/test_nothing.py": "does not exist",
        "python tests/nothing.py": "no such file",
        "curl https://example.org": "not checked",
    }
    for command, words in wrong.items():
        assert re.search(words, fault(command), re.I), (command, fault(command))
    for command in ("sail-bench compare RECIPE [--budget NAME] [--seeds N]", "sail-bench", "A=1 sail-bench methods"):
        assert fault(command) == "", command
    assert alternatives("sail-bench methods | oracles") == ["sail-bench methods", "sail-bench oracles"]


def test_blocks_are_read_with_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    shell = '    ```bash not-run="it needs a network"\n    a \\\n      b\n    ```\n'
    page.write_text(f"* a\n\n{shell}\n```\n$ sail-bench x\nout\n```\n")
    monkeypatch.setattr("kit.doc_blocks.ROOT", tmp_path)
    first, second = blocks(page)
    assert (first.language, first.marks, first.line) == ("bash", {"not-run": "it needs a network"}, 3)
    assert command_lines(first) == ["a b"]
    assert command_lines(second) == ["sail-bench x"]
