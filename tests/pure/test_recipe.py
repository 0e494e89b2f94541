"""Recipes: the built-in ones load, and each mistake is one sentence that names the key and the fix."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from harness.answer.start_policy import start_stage
from harness.errors import UserError
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe


def tiny() -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    return loaded


def written(folder: Path, recipe: dict[str, object]) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


@pytest.mark.parametrize("name", sorted(builtin_recipes()))
def test_built_in_recipes_load(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_example_recipes_load(path: Path) -> None:
    assert load_recipe(str(path)).name == path.stem


def test_hash_ignores_names_only(tmp_path: Path) -> None:
    base = load_recipe("tiny")
    assert load_recipe(written(tmp_path, tiny() | {"name": "other", "description": "x"})).hash == base.hash
    assert load_recipe(written(tmp_path, tiny() | {"seeds": 2})).hash != base.hash


def test_the_date_in_prompts(tmp_path: Path) -> None:
    """YAML reads an ISO date as a date, and in quotes as a text. The default leaves every key as it was."""
    plain = load_recipe("tiny")
    assert plain.chat_date == date(2025, 1, 1)
    for value in (date(2026, 7, 8), "2026-07-08"):
        dated = load_recipe(written(tmp_path, tiny() | {"chat_date": value}))
        assert dated.chat_date == date(2026, 7, 8)
        assert dated.hash != plain.hash
    assert load_recipe(written(tmp_path, tiny() | {"chat_date": "2025-01-01"})).hash == plain.hash
    assert Recipe.model_validate(dated.model_dump(mode="json")) == dated  # as a run process gets it
    start = start_stage("tiny")
    assert start_stage("tiny", None, plain.chat_date).key == start.key != start_stage("tiny", None, dated.chat_date).key


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UserError, match="Unknown recipe 'smolm2': did you mean 'smollm2'"):
        load_recipe("smolm2")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"budgt": "x"}, "Unknown key in mine.yaml: 'budgt': did you mean 'budget'"),
        (
            {"data": {"train_prompt": 3, "tune_prompts": 1, "eval_prompts": 1, "heldout_prompts": 1}},
            "Unknown key in mine.yaml: 'data.train_prompt': did you mean 'data.train_prompts'?",
        ),
        (
            {"budgets": {"small": {"axis": "pairs", "limit": 16}}, "budget": "huge"},
            "budget 'huge' is not one of budgets: small, medium",
        ),
        ({"budget": "huge"}, "budget 'huge' is not one of budgets: pairs-16"),
        ({"variants": {"a": {"methd": "dpo"}}}, "variants.a.method"),
        ({"seeds": 0}, "key 'seeds': 0 is out of range: write a number above 0"),
        ({"budgets": {"a": {"axis": "money", "limit": 3}}, "budget": "a"}, "key 'budgets.a.axis'"),
        ({"chat_date": "July"}, "key 'chat_date': 'July' is no date: write one as 2025-01-01"),
        ({"chat_date": 2025}, "key 'chat_date': 2025 is no date"),
        ({"chat_date": None}, "key 'chat_date': None is no date"),
    ],
)
def test_mistakes(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(written(tmp_path, tiny() | change))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_that_yaml_alone_refuses(tmp_path: Path) -> None:
    """A date without quotes that does not exist, and a text that is tagged as a number."""
    for value, sentence in (
        ("2025-02-30", "In a.yaml, key 'chat_date': '2025-02-30' is no date: write one as 2025-01-01"),
        ("2025-01-01 25:00:00", "In a.yaml, key 'chat_date': '2025-01-01 25:00:00' is no date"),
        ("!!int x", "a.yaml cannot be read as YAML: invalid literal for int"),
    ):
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(tiny()) + f"chat_date: {value}\n")
        with pytest.raises(UserError, match=sentence):
            load_recipe(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tiny()) + "chat_date: 2025-02-28\n")
    assert load_recipe(str(tmp_path / "a.yaml")).chat_date == date(2025, 2, 28)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    for name, content in {"a.yaml": b"- 1", "b.yaml": b"{", "c.yaml": b"\xff\xfe\xfa"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            load_recipe(str(tmp_path / name))
    with pytest.raises(UserError, match="does not exist"):
        load_recipe(str(tmp_path / "none.yaml"))
