"""``--model`` and ``--data``: mistakes name the user's own file and flag, and a refused command leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kit.command import Cli
from kit.rows import write_rows

from harness.recipe.load import load_recipe
from harness.recipe.quick import QuickRecipe, is_quick, quick_text

RECIPE = "results/local/tiny-mine/recipe.yaml"
OURS = ("--model", "tiny", "--data", "mine.jsonl")


def pairs(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {i}?", "chosen": f"Yes, {i}.", "rejected": f"No {i}."} for i in range(count)]


def damaged(count: int, line: int, **changes: Any) -> list[dict[str, Any]]:
    """Pairs, one of which lacks the keys that are None, or has others."""
    rows = pairs(count)
    rows[line - 1] = {key: value for key, value in (rows[line - 1] | changes).items() if value is not None}
    return rows


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".sail-bench" not in path.parts)


KTO = [{"prompt": f"q{i}", "completion": f"a{i}", "label": True} for i in range(40)]
EQUAL = [row | {"rejected": row["chosen"]} for row in pairs(40)]
OTHER_COLUMNS = [{"question": f"q{i}", "winner": f"a{i}", "loser": f"b{i}"} for i in range(40)]


@pytest.mark.parametrize("command", ["plan", "compare"])
@pytest.mark.parametrize(
    ("rows", "start"),
    [
        (damaged(40, 18, rejected=None), "mine.jsonl, line 18: "),
        (damaged(40, 3, chosen=7), "mine.jsonl, line 3: "),
        (KTO, "mine.jsonl, line 1: "),
        (OTHER_COLUMNS, "mine.jsonl, line 1: "),
        (EQUAL, "mine.jsonl holds no usable pair (40 "),
        (pairs(1), "mine.jsonl has 1 distinct prompt, and four are needed"),
    ],
)
def test_the_users_own_file_and_line_are_named(
    cli: Cli, tmp_path: Path, command: str, rows: list[dict[str, Any]], start: str
) -> None:
    write_rows(tmp_path / "mine.jsonl", rows)
    done = cli(command, *OURS, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {start}") and done.stderr.count("\n") == 1, done.stderr
    assert files(tmp_path) == ["mine.jsonl"]


def test_a_file_for_evaluation_is_named_too(cli: Cli, tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", pairs(40))
    write_rows(tmp_path / "held.jsonl", damaged(20, 5, chosen=None))
    done = cli("compare", *OURS, "--test", "held.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith("Error: held.jsonl, line 5: ")) == (2, True), done.stderr
    same = cli("compare", *OURS, "--test", "mine.jsonl", cwd=tmp_path)
    assert (same.returncode, "--data mine.jsonl and --test mine.jsonl hold the same rows" in same.stderr) == (2, True)
    assert files(tmp_path) == ["held.jsonl", "mine.jsonl"]


def test_a_part_without_a_usable_pair_is_not_named_by_a_path_of_ours(cli: Cli, tmp_path: Path) -> None:
    rows = pairs(12)
    write_rows(tmp_path / "mine.jsonl", [row | {"rejected": row["chosen"]} for row in rows[:-1]] + rows[-1:])
    done = cli("compare", *OURS, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: mine.jsonl: no prompt "), done.stderr
    assert "has a usable pair: name a file with more pairs, or those to evaluate on with --test" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "./nomodel"], "--model ./nomodel: there is no such folder: name one, or a model of the Hub"),
        (["--model", "a/b/c"], "--model a/b/c: there is no such folder"),
        (["--model", "empty"], "--model empty holds no config.json: name a folder that save_pretrained wrote"),
        (["--model", "mine.jsonl"], "--model mine.jsonl is a file: name the folder"),
        (["--model", "smollm"], "--model smollm is no folder, and no model that is built in: did you mean 'smollm2'?"),
        (
            ["--data", "org/pairs"],
            "name one, or a split of this data set of the Hub, at a commit: org/pairs@COMMIT:spl",
        ),
        (["--data", "org/pairs@main:train"], "--data org/pairs@main:train needs a commit of 40 hex digits"),
        (
            ["--judge", "j", "--judge-url", "localhost:9"],
            "--judge-url localhost:9 is no address: begin it with http://",
        ),
        (["--methods", "dppo"], "Unknown method 'dppo': did you mean 'dpo'?"),
    ],
)
def test_mistakes_in_flags_leave_nothing(cli: Cli, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    write_rows(tmp_path / "mine.jsonl", pairs(40))
    (tmp_path / "empty").mkdir()
    given = dict(zip(OURS[::2], OURS[1::2], strict=True)) | dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = cli("compare", *(word for pair in given.items() for word in pair), cwd=tmp_path)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and sentence in errors[0], done.stderr
    assert files(tmp_path) == ["empty", "mine.jsonl"]


def test_a_judge_that_does_not_answer_can_be_corrected(cli: Cli, tmp_path: Path) -> None:
    """What a refused command and a plan leave does not stand in the way of the next one."""
    write_rows(tmp_path / "mine.jsonl", pairs(40))
    judged = ("--judge", "j", "--name", "mine", "--methods", "start", "--benchmarks", "arc_challenge,preference")
    refused = cli("compare", *OURS, *judged, "--judge-url", "http://127.0.0.1:9/v1", cwd=tmp_path)
    assert (refused.returncode, "does not answer" in refused.stderr) == (2, True), refused.stderr
    assert files(tmp_path) == ["mine.jsonl"]
    assert cli("plan", *OURS, "--name", "mine", cwd=tmp_path).returncode == 0
    assert files(tmp_path) == ["mine.jsonl"]


def test_a_recipe_is_kept_when_the_comparison_begins(cli: Cli, tmp_path: Path) -> None:
    """It replaces one without results, and is not replaced itself once there are some."""
    write_rows(tmp_path / "mine.jsonl", pairs(40))
    file = tmp_path / RECIPE
    file.parent.mkdir(parents=True)
    file.write_text(quick_text(QuickRecipe("tiny-mine", "tiny", "../../../a.jsonl", "../../../b.jsonl", 9, 9, 9)))
    small = ("--methods", "start", "--benchmarks", "arc_challenge", "-q")
    done = cli("compare", *OURS, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"compare puts this recipe into {RECIPE} when it begins." in done.stderr
    assert f"This recipe is in {RECIPE}: sail-bench compare {RECIPE}" in done.stderr
    recipe = load_recipe(str(file))
    assert recipe.data.imported and (recipe.data.train, recipe.data.test) == ("data/train.jsonl", "data/test.jsonl")
    parts = [file.parent / "data" / name for name in ("train.jsonl", "test.jsonl")]
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    assert sorted(rows, key=str) == sorted(pairs(40), key=str)
    result = file.parent / "one-pass/start/seed-0.json"
    before = {path: path.read_bytes() for path in (file, result, *parts)}
    by_file = cli("plan", RECIPE, *small[:-1], cwd=tmp_path)
    assert "start seed 0: done" in by_file.stdout, by_file.stdout + by_file.stderr
    again = cli("compare", *OURS, *small, cwd=tmp_path)
    assert again.returncode == 0 and f"This recipe is in {RECIPE}." in again.stderr
    write_rows(tmp_path / "mine.jsonl", pairs(41))
    for command in ("compare", "plan"):
        other = cli(command, *OURS, *small[:-1], cwd=tmp_path)
        assert other.returncode == 2
        assert other.stderr == (
            "Error: results/local/tiny-mine holds results of another recipe or of other pairs: give this comparison a "
            f"name of its own with --name NAME, or go on with the other one by 'sail-bench compare {RECIPE}'.\n"
        )
    assert {path: path.read_bytes() for path in before} == before


def test_a_recipe_that_was_changed_by_hand_stays(cli: Cli, tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", pairs(40))
    text = quick_text(QuickRecipe("tiny-mine", "tiny", "a", "b", 9, 9, 9)).replace("[start, dpo,", "[start, ipo, dpo,")
    (tmp_path / RECIPE).parent.mkdir(parents=True)
    (tmp_path / RECIPE).write_text(text)
    done = cli("compare", *OURS, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{RECIPE} was changed by hand: run 'sail-bench compare {RECIPE}'" in done.stderr
    assert (tmp_path / RECIPE).read_text() == text


def test_a_made_recipe_is_known_by_its_text() -> None:
    plain = QuickRecipe("n", "org/m", "a.jsonl", "b.jsonl", 100, 40, 9)
    for given in (plain, plain._replace(judge="j"), plain._replace(judge="j", judge_url="http://x/v1", name="n.2")):
        text = quick_text(given)
        assert is_quick(text)
        assert not is_quick(text + "seeds: 2\n")
        assert not is_quick(text.replace("batch_size: 4", "batch_size: 8"))
    assert not is_quick("")
