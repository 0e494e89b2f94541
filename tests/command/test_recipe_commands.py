"""Recipes made by the command line, and the manners of its commands: JSON, quiet, colours, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from kit.command import Cli, write_tiny
from kit.rows import write_rows
from rich.console import Console

from harness.pairs.held_out_file import divide_file
from harness.pairs.pair_source import PairSource
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.quick import quick_name
from harness.recipe.schema import recipe_schema
from harness.run.progress import Display
from harness.run.recipe_check import check_recipe


def pairs(count: int, prompts: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {i % prompts}?", "chosen": f"Yes, {i}.", "rejected": f"No {i}."} for i in range(count)
    ]


def test_a_model_and_pairs_make_a_recipe(cli: Cli, tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", pairs(60, 40))
    command = ["plan", "--model", "tiny", "--data", "mine.jsonl"]
    done = cli(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed, _, where = done.stderr.partition("\n\ncompare puts this recipe into ")
    assert where.startswith("results/local/tiny-mine/recipe.yaml when it begins.")
    assert not (tmp_path / "results").exists()
    (tmp_path / "printed.yaml").write_text(printed)
    recipe = load_recipe(str(tmp_path / "printed.yaml"))
    assert check_recipe(recipe) == ([], [])
    assert (recipe.name, recipe.model, recipe.reference) == ("tiny-mine", "tiny", "dpo")
    assert cli(*command, cwd=tmp_path).stdout == done.stdout
    write_rows(tmp_path / "mine.jsonl", pairs(60, 41))
    assert cli(*command, cwd=tmp_path).returncode == 0


def test_a_judge_compares_the_answers_to_the_users_prompts(cli: Cli, tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", pairs(20, 20))
    write_rows(tmp_path / "held.jsonl", pairs(30, 30)[20:])
    given = [
        "--judge",
        "judge-1",
        "--judge-url",
        "http://127.0.0.1:9/v1",
        "--no-preflight",
        "--test",
        "held.jsonl",
        "--name",
        "mine",
    ]
    done = cli("plan", "--model", "tiny", "--data", "mine.jsonl", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "printed.yaml").write_text(done.stderr.partition("\n\ncompare puts")[0])
    recipe = load_recipe(str(tmp_path / "printed.yaml"))
    assert recipe.eval_oracle is not None
    assert recipe.eval_oracle.model_dump() == {
        "name": "llm_judge", "options": {"model": "judge-1", "base_url": "http://127.0.0.1:9/v1"},
    }  # fmt: skip
    assert "preference" in recipe.benchmarks
    raw = yaml.safe_load((tmp_path / "printed.yaml").read_text())
    assert raw["data"]["train"] == "../../../mine.jsonl"
    assert raw["data"]["test"] == "../../../held.jsonl"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name a recipe: tiny and smollm2 come with the package"),
        (["tiny", "--model", "x"], "--model makes a recipe, and tiny is one"),
        (["--model", "tiny"], "Without a recipe, --data is needed as well"),
        (["--model", "", "--data", "mine.jsonl"], "--model is empty"),
        (["--model", "tiny", "--data", "nowhere.jsonl"], "--data nowhere.jsonl: there is no such file"),
        (["--model", "tiny", "--data", "few.jsonl"], "few.jsonl has 3 distinct prompts, and four are needed"),
        (["--model", "tiny", "--data", "mine.jsonl", "--judge-url", "http://x"], "add --judge MODEL"),
        (["--model", "tiny", "--data", "mine.jsonl", "--name", "../x"], "is no name"),
        (["tiny", "--methods", ""], "--methods names nothing"),
        (["tiny", "--benchmarks", " , "], "--benchmarks names nothing"),
        (["tiny", "--budget", ""], "--budget is empty"),
        (["tiny", "--seeds", "1000000000"], "--seeds"),
    ],
)
def test_mistakes_in_flags(cli: Cli, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    write_rows(tmp_path / "mine.jsonl", pairs(20, 20))
    write_rows(tmp_path / "few.jsonl", pairs(20, 3))
    done = cli("compare", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".sail-bench").exists()


def test_a_file_is_divided_by_its_prompts(tmp_path: Path) -> None:
    """No prompt is in both parts, no row is lost, and another order of the rows gives the same parts."""
    rows = pairs(300, 100)
    write_rows(tmp_path / "a.jsonl", rows)
    write_rows(tmp_path / "b.jsonl", rows[::-1])
    parts = []
    for name in ("a", "b"):
        counts = divide_file(PairSource(name, tmp_path / f"{name}.jsonl"), tmp_path / name)
        assert counts == (270, 90, 10)
        read = [
            [json.loads(line) for line in (tmp_path / name / f"{part}.jsonl").read_text().splitlines()]
            for part in ("train", "test")
        ]
        train, test = ({row["prompt"] for row in part} for part in read)
        assert not train & test
        parts.append([sorted(json.dumps(row) for row in part) for part in read])
    assert parts[0] == parts[1]
    assert sorted(parts[0][0] + parts[0][1]) == sorted(map(json.dumps, rows))


def test_names_made_from_paths() -> None:
    assert quick_name("Qwen/Qwen2.5-0.5B@main", "my pairs!", "") == "Qwen2.5-0.5B-main-my-pairs"
    assert quick_name("///", "") == "quick"
    assert len(quick_name("x" * 300, "y")) <= 80


def test_a_new_recipe_runs_as_it_stands(cli: Cli, tmp_path: Path) -> None:
    done = cli("new-recipe", "mine", "--schema", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert check_recipe(load_recipe(str(tmp_path / "mine.yaml"))) == ([], [])
    assert "$schema=recipe.schema.json" in (tmp_path / "mine.yaml").read_text()
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == recipe_schema()
    assert cli("new-recipe", "other", "--into", "sub", cwd=tmp_path).returncode == 0
    assert "$schema" not in (tmp_path / "sub/other.yaml").read_text()
    for name, words in {
        "mine": "exists",
        "tiny": "comes with the package",
        "a/b": "is no name",
        "x" * 300: "no name",
    }.items():
        refused = cli("new-recipe", name, cwd=tmp_path)
        assert refused.returncode == 2
        assert words in refused.stderr


def as_json(path: Path) -> Any:
    return json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))


def test_the_schema_takes_our_recipes_and_refuses_mistakes(cli: Cli) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (extra dev)")
    schema = json.loads(cli("schema").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    files = [*builtin_recipes().values(), *ROOT.glob("examples/*.yaml"), *ROOT.glob("results/**/*.yaml")]
    for path in files:
        assert [error.message for error in validator.iter_errors(as_json(path))] == [], path
    tiny = as_json(builtin_recipes()["tiny"])
    wrong: list[dict[str, Any]] = [
        {"betta": 1}, {"train": {"betta": 1}}, {"seeds": [0, 1]}, {"seeds": 10**9}, {"name": False}, {"judge": "gpt-4"},
        {"benchmarks": ["preference"]}, {"engine": "vlm"}, {"data": {"task": "preference"}}, {"oracle": {"nme": "x"}},
    ]  # fmt: skip
    for change in wrong:
        assert not validator.is_valid(tiny | change), change
    for change in ({"engine": "vllm"}, {"oracle": {"name": "x"}}, {"judge": {"model": "m"}}, {"train": {"lora": None}}):
        assert validator.is_valid(tiny | change), change


def test_the_schema_describes_the_keys() -> None:
    schema = recipe_schema()
    described = schema["properties"] | schema["$defs"]["TrainSpec"]["properties"]
    for key in ("methods", "reference", "precision", "beta", "warmup", "generation_batch_size"):
        assert len(described[key]["description"]) > 8, key


def test_listings_as_json(cli: Cli) -> None:
    """The same names as the text, with the settings."""
    for kind in ("methods", "benchmarks", "oracles"):
        entries = json.loads(cli(kind, "--json").stdout)
        assert all(entry["name"] in cli(kind).stdout for entry in entries)
    by_name = {entry["name"]: entry for entry in json.loads(cli("methods", "--json").stdout)}
    assert by_name["sail-pr"]["defaults"]["share"] == 0.3
    assert by_name["dpo"]["origin"] == "sail-bench"
    budgets = {entry["name"]: entry for entry in json.loads(cli("budgets", "tiny", "--json").stdout)["budgets"]}
    assert budgets["pairs-16"]["own"] and not budgets["small"]["own"]


def test_python_m_harness_is_the_command() -> None:
    for module in ("harness", "harness.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "plan", "tinny"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (2, "Error: Unknown recipe 'tinny': did you mean 'tiny'?\n")


def test_every_mistake_in_a_recipe_has_a_line_of_its_own(cli: Cli, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path / "mine.yaml", betta=1, methods=["dppo"], reference="x", benchmarks={"mmlo": {}})
    done = cli("compare", recipe, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and all(line.startswith("Error: ") for line in lines)
    for word in ("'betta'", "'dppo'", "'x'", "'mmlo'"):
        assert word in done.stderr


def test_what_preflight_sees_stands_beside_the_names(cli: Cli, tmp_path: Path) -> None:
    """Each mistake once, whoever notices it; a reference that is no row is among them."""
    changes = {"methods": ["dppo"], "reference": "x", "chat_template": "nowhere.jinja"}
    benchmarks = {"mt_bench_official": {}, "alpaca_eval_2": {}, "mmlo": {}}
    recipe = write_tiny(tmp_path / "mine.yaml", **changes, benchmarks=benchmarks)
    words = ["'dppo'", "'x'", "'mmlo'", "mt_bench_official needs a judge", "alpaca_eval_2 needs a judge"]
    for arguments, expected in ((["compare"], [*words, "nowhere.jinja"]), (["compare", "--no-preflight"], words)):
        done = cli(*arguments, recipe, cwd=tmp_path)
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert all(line.startswith("Error: ") for line in lines)
        for word in expected:
            assert sum(word in line for line in lines) == 1, (word, lines)


def test_what_a_recipe_says_does_not_act_on_the_terminal(cli: Cli, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path / "mine.yaml", **{"bud\x1b[31mget": 1, "judge": {"model": "a\x1b]0;b\x07"}})
    done = cli("compare", recipe, cwd=tmp_path)
    assert done.returncode == 2
    assert "would judge nothing" in done.stderr
    assert not set(done.stderr) & {"\x1b", "\x07"}


def test_what_has_no_effect_is_noted(cli: Cli, tmp_path: Path) -> None:
    recipe = write_tiny(tmp_path / "mine.yaml", variants={"v": {"method": "ipo"}})
    done = cli("plan", recipe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Note: v of variants is not run, since methods does not name it")


def test_a_quiet_display_shows_notices_and_failures_alone() -> None:
    text = StringIO()
    with Display(2, Console(file=text, width=200), quiet=True) as shown:
        work = shown.begin("dpo seed 0")
        work.stage("train", 10)
        work.advance(3)
        work.show("say", "a notice")
        work.finished("done")
        shown.begin("ipo seed 0").finished("FAILED: no memory")
    lines = text.getvalue().splitlines()
    assert lines[0].strip() == "a notice"
    assert len(lines) == 2 and "FAILED: no memory" in lines[1]


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the terminal has colours, ``NO_COLOR`` leaves them out."""
    from click.testing import CliRunner

    from harness.cli import main

    assert "\x1b[" in CliRunner().invoke(main, ["oracles"], color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(main, ["oracles"], color=True).stdout
