"""A comparison without a recipe: ``--model`` and ``--data`` make one, which is printed and kept beside the results."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.terminal import say
from harness.errors import AbsentError, UserError
from harness.store.json_files import write_text
from harness.store.redaction import keep_out
from harness.store.storage import remove_partial_folders

if TYPE_CHECKING:
    from harness.pairs.pair_source import PairSource

QUICK = ("model", "data", "test", "judge", "judge_url", "name")


def quick_options(command: Any) -> Any:
    """The options that stand in for a recipe."""
    for option in reversed(
        [
            click.option("--model", metavar="M", help="Without RECIPE: the model to start from, a folder or a Hub id."),
            click.option("--data", metavar="FILE", help="Without RECIPE: preference pairs (docs/data.md)."),
            click.option("--test", metavar="FILE", help="Pairs to evaluate on; a tenth of --data's prompts otherwise."),
            click.option("--judge", metavar="J", help="A model that compares the answers, behind an endpoint."),
            click.option("--judge-url", metavar="URL", help="Address of --judge's endpoint; OpenAI's otherwise."),
            click.option("--name", metavar="NAME", help="Of the comparison, where --model makes its recipe."),
        ]
    ):
        command = option(command)
    return command


def recipe_named(options: Mapping[str, Any]) -> str:
    """The recipe that the options name, or the file of the one that they make.

    Raises:
        UserError: both or neither are given, the pairs cannot be read, or another recipe has the file.
    """
    from harness.score.results import LOCAL

    given = {name: options[name] for name in QUICK if options.get(name) is not None}
    flags = {name: "--" + name.replace("_", "-") for name in QUICK}
    for name, value in given.items():
        if not value.strip():
            raise UserError(f"{flags[name]} is empty: give a value, or leave it out")
    recipe: str | None = options["recipe"]
    if recipe is not None:
        if given:
            raise UserError(
                f"{flags[next(iter(given))]} makes a recipe, and {recipe} is one: leave out one of them, or write it "
                "into the recipe"
            )
        return recipe
    if not given:
        raise UserError(
            "Name a recipe: tiny and smollm2 come with the package, a YAML file is yours (sail-bench new-recipe writes "
            "one), and --model M --data FILE makes one"
        )
    for name in ("model", "data"):
        if name not in given:
            raise UserError(f"Without a recipe, {flags[name]} is needed as well: give --model M --data FILE")
    if "judge_url" in given and "judge" not in given:
        raise UserError("--judge-url is the address of a judge: add --judge MODEL, or leave it out")
    return str(_written(given, options["results"] or LOCAL))


def _written(given: Mapping[str, str], results: Path) -> Path:
    """Write the recipe, and the parts of a file that is to be divided, beside the results."""
    from harness.recipe.quick import quick_name
    from harness.recipe.recipe import NAME

    name = given.get("name") or quick_name(given["model"], Path(given["data"]).stem, given.get("judge", ""))
    if not re.fullmatch(NAME, name) or len(name) > 100:
        raise UserError(
            f"--name {name[:60]!r} is no name: use up to 100 letters, digits, '.', '_' and '-', and begin with a "
            "letter or a digit"
        )
    folder = results / name
    file = folder / "recipe.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial_folders(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".data-", suffix=f".{os.getpid()}.part") as work:
            text = _text(name, given, folder, Path(work))
            parts = [part for part in Path(work).iterdir() if part.is_file()]
            if file.is_file() and not _is_the_same(file, text, parts):
                raise UserError(
                    f"{file} holds another recipe or other pairs: run 'sail-bench compare {file}' to go on with it, or "
                    "give --name NAME"
                )
            for part in parts:
                (folder / "data").mkdir(exist_ok=True)
                part.replace(folder / "data" / part.name)
        write_text(file, text)
    except UserError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless there is something in it
        raise
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): choose another with --results") from None
    keep_out(address=given.get("judge_url"))
    say(f"{text}\nThis recipe is in {file}: sail-bench compare {file}\n", err=True)
    return file


def _text(name: str, given: Mapping[str, str], folder: Path, work: Path) -> str:
    """The text of the recipe.

    Args:
        name: of the comparison.
        given: the options, by name.
        folder: of the recipe's file.
        work: gets the parts of a file that is divided.
    """
    from harness.pairs.held_out_file import count_pairs, divide_file
    from harness.recipe.quick import QuickRecipe, quick_text

    train = _source("--data", given["data"])
    if "test" in given:
        test = _source("--test", given["test"])
        counts, names = count_pairs(train, test), (_beside(train, folder), _beside(test, folder))
    elif train.path is None:
        raise UserError(f"--data {given['data']} is a split of the Hub: name another for evaluation with --test")
    else:
        counts, names = divide_file(train, work), ("data/train.jsonl", "data/test.jsonl")
    model = Path(given["model"])
    start = str(model.resolve()) if model.is_dir() else given["model"]
    judge, url = given.get("judge", ""), given.get("judge_url", "")
    return quick_text(QuickRecipe(name, start, *names, *counts, judge=judge, judge_url=url))


def _source(flag: str, name: str) -> PairSource:
    from harness.pairs.pair_source import locate_pair_source

    try:
        return locate_pair_source("train", name, None)
    except AbsentError:
        raise UserError(f"{flag} {name}: there is no such file or folder here or under --data-dir: name one") from None


def _beside(source: PairSource, folder: Path) -> str:
    """A source as a recipe in a folder names it."""
    if source.path is None:
        return source.name
    path = os.path.relpath(source.path, folder)
    return f"{path}:{source.split}" if source.split else path


def _is_the_same(file: Path, text: str, parts: Sequence[Path]) -> bool:
    """Whether a recipe's file and the parts of its pairs are what would be written."""
    if file.read_text(encoding="utf-8") != text:
        return False
    there = {part: file.parent / "data" / part.name for part in parts}
    return all(old.is_file() and filecmp.cmp(part, old, shallow=False) for part, old in there.items())
