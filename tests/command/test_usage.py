"""Mistakes in how a command is written: one sentence with the fix, before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import ROOT
from kit.command import Cli, write_tiny


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["plan", "tiny", "--budget", "pairs-16", "--budget", "pairs-32"],
            "--budget is given twice: give it once, and run the command once for each budget",
        ),
        (["compare", "tiny", *["--results", "a"] * 3], "--results is given 3 times: give it once"),
        (["compare", "--seeds", "1", "tiny", "--seeds=2"], "--seeds is given twice"),
        (["score", "alpaca_eval", "--eval-set", "a", "--eval-set", "b"], "--eval-set is given twice"),
        (["store", "ls", "--store", "a", "--store", "b"], "--store is given twice"),
        (["plan", "tiny", "--budget", "pairs-16,pairs-32"], "names several: run the command once for each budget"),
        (["--budget", "pairs-16", "compare", "tiny"], "options come after the command, as in 'sail-bench compare"),
        (["compare", "tiny", "--methods", "dpo", "sail-pr"], "have commas between them and no space, as in --methods"),
        (["compare", "tiny", "smollm2"], "a command takes one recipe"),
        (["compare", "tiny", "--output", "x"], "--results FOLDER is where results go"),
        (["compare", "--recipe", "tiny"], "give the recipe without a flag, as in 'sail-bench compare RECIPE'"),
        (["compare", "tiny", "--resume"], "the same command again resumes"),
        (["run", "tiny"], "No such command 'run': 'sail-bench compare RECIPE' trains and evaluates."),
        (["compare", "tiny", "--methods", "DPPO"], "did you mean 'dpo'?"),
        (["compare", "tiny", "--methods", "qqq"], "that of a plugin is known once its package is installed"),
        (["compare", "folder"], "folder is a folder: name a recipe's file, which ends in .yaml"),
        (["compare", "folder/readme.txt"], "folder/readme.txt is no YAML file: name a recipe's file"),
        (["score", "alpaca_eval"], "score alpaca_eval reads annotations: give --annotations FILE"),
        (["report", "tiny"], "tiny does not exist (a recipe's results are in results/local/tiny): give the folder"),
        (["report", "a/b"], "a/b does not exist: give the folder of a comparison"),
        (["report", str(ROOT / "results/smollm2/pairs-64/dpo")], "is one row: give the folder of its comparison"),
        (["report"], "run 'sail-bench compare' first"),
        (["power", "tiny", "--detect", "300"], "--detect 300 is no difference in points of 100: give a number up to"),
    ],
)
def test_mistakes(cli: Cli, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/readme.txt").touch()
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "readme.txt"]


def test_lists_that_are_given_twice_are_joined(cli: Cli, tmp_path: Path) -> None:
    arguments = (
        "--methods",
        "dpo",
        "--methods",
        "sail-pr,ipo",
        "--benchmarks",
        "mmlu",
        "--benchmarks",
        "arc_challenge",
    )
    twice = cli("plan", "tiny", *arguments, cwd=tmp_path)
    once = cli("plan", "tiny", "--methods", "dpo,sail-pr,ipo", "--benchmarks", "mmlu,arc_challenge", cwd=tmp_path)
    assert twice.returncode == 0, twice.stderr
    assert twice.stdout == once.stdout
    assert "tiny: 3 runs" in once.stdout
    assert "tiny: 1 run," in cli("plan", "tiny", "--methods", "start", cwd=tmp_path).stdout


def test_a_users_own_file_is_not_to_be_removed(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text('{"a": 1}\n')
    row = ROOT / "results/smollm2/pairs-64/dpo"
    for other in ("good.jsonl", ROOT / "results/smollm2/pairs-64/LEADERBOARD.md"):
        done = cli("diff", row, other, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr == (
            f"Error: {other} is not a result file: give a folder results/RECIPE/BUDGET, that of a row, or a "
            "seed-N.json.\n"
        )
    (tmp_path / "seed-0.json").write_text(json.dumps({"schema_version": 1}))
    done = cli("diff", row, "seed-0.json", cwd=tmp_path)
    assert (done.returncode, "remove" in done.stderr, "RunResult" in done.stderr) == (2, False, False)


def test_names_in_a_recipe_have_their_file_and_line(cli: Cli, tmp_path: Path) -> None:
    changes = {"methods": ["start", "dpo", "dppo"], "benchmarks": {"mtbench": {}}, "oracle": "constrants"}
    recipe = write_tiny(tmp_path / "mine.yaml", **changes, method_options={"dpo": {"betta": 1}}, reference="dpoo")
    lines = recipe.read_text().splitlines()
    done = cli("plan", recipe, cwd=tmp_path)
    assert done.returncode == 2
    for words, line in {
        "'dppo': did you mean 'dpo'?": "- dppo",
        "'mtbench': did you mean 'mt_bench'?": "  mtbench: {}",
        "'constrants': did you mean 'constraints'?": "oracle: constrants",
        "Option 'betta' of method dpo": "  dpo:",
        "'dpoo': did you mean 'dpo'?": "reference: dpoo",
    }.items():
        (error,) = [text for text in done.stderr.splitlines() if words in text]
        assert error.endswith(f" (mine.yaml, line {lines.index(line) + 1})."), error
