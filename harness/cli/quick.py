"""A comparison without a recipe: ``--model`` and ``--data`` make one, which is printed, and kept beside the results
once nothing speaks against the comparison."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.terminal import say
from harness.errors import AbsentError, UserError
from harness.store.redaction import keep_out
from harness.store.storage import unwritable

if TYPE_CHECKING:
    from harness.pairs.pair_source import PairSource
    from harness.recipe.load import Reading
    from harness.recipe.recipe import Recipe

BUILT_IN = ("smollm2", "tiny")
"""As in :mod:`harness.answer.model_files`, which takes long to import."""

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


@dataclass(frozen=True)
class MadeRecipe:
    """A recipe that the options make. Nothing of it lies beside the results until :meth:`keep`.

    Attributes:
        file: where it belongs.
        text: of the recipe.
        work: a folder of this command with the recipe and, in ``data``, the parts of a file that was divided.
    """

    file: Path
    text: str
    work: Path

    @property
    def parts(self) -> list[Path]:
        """The parts of the file that was divided; none if it was not."""
        return sorted((self.work / "data").glob("*.jsonl"))

    @property
    def kept(self) -> bool:
        """Whether the same recipe with the same pairs is in its place already."""
        if not self.file.is_file() or self.file.read_bytes() != self.text.encode():
            return False
        there = {part: self.file.parent / "data" / part.name for part in self.parts}
        return all(old.is_file() and filecmp.cmp(part, old, shallow=False) for part, old in there.items())

    def read(self) -> Reading:
        """As :func:`harness.recipe.load.read_recipe`, before it is kept."""
        from harness.recipe.load import read_recipe

        (self.work / self.file.name).write_text(self.text, encoding="utf-8")
        reading = read_recipe(str(self.work / self.file.name))
        if reading.recipe is not None and reading.recipe.data.imported and not self.parts:
            reading.recipe.data._folder = self.file.parent.resolve()  # other pairs are named from there
        return reading

    def keep(self) -> Recipe:
        """Put the recipe and the parts of its pairs in their place, and read it from there.

        Raises:
            UserError: the folder cannot be written.
        """
        from harness.recipe.load import load_recipe

        if not self.kept:
            folder = self.file.parent
            try:
                for name in ("train", "test") if self.file.is_file() else ():  # of a command that came to nothing
                    (folder / "data" / f"{name}.jsonl").unlink(missing_ok=True)
                (folder / "data" if self.parts else folder).mkdir(parents=True, exist_ok=True)
                for part in self.parts:
                    shutil.copyfile(part, folder / "data" / part.name)
                self.file.write_text(self.text, encoding="utf-8")
            except OSError as error:
                raise unwritable(folder, error, "choose another with --results") from None
            say(f"This recipe is in {self.file}: sail-bench compare {self.file}\n", err=True)
        return load_recipe(str(self.file))

    def check_place(self) -> None:
        """Refuse to replace another recipe that there are results of, or that was changed by hand.

        Raises:
            UserError: it would.
        """
        from harness.recipe.quick import is_quick

        folder = self.file.parent
        if not self.file.is_file():
            return
        if any(folder.glob("*/*/seed-*.json")):
            raise UserError(
                f"{folder} holds results of another recipe or of other pairs: give this comparison a name of its own "
                f"with --name NAME, or go on with the other one by 'sail-bench compare {self.file}'"
            )
        if not is_quick(self.file.read_text(encoding="utf-8", errors="replace")):
            raise UserError(
                f"{self.file} was changed by hand: run 'sail-bench compare {self.file}', or give this comparison a "
                "name of its own with --name NAME"
            )


def recipe_named(options: Mapping[str, Any]) -> str | MadeRecipe:
    """The recipe that the options name, or the one that they make. Nothing is written beside the results.

    Raises:
        UserError: both or neither are given, the model or the pairs cannot be read, or the place of the recipe is
            taken.
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
    _check_model(given["model"])
    _check_address(given.get("judge_url"))
    return _made(given, options["results"] or LOCAL)


def _check_model(model: str) -> None:
    """Refuse what is neither a folder with a model nor a name."""
    folder = Path(model)
    if folder.is_dir():
        if not any(any(folder.glob(name)) for name in ("config.json", "adapter_config.json", "*/adapter_config.json")):
            raise UserError(f"--model {model} holds no config.json: name a folder that save_pretrained wrote")
    elif folder.exists():
        raise UserError(f"--model {model} is a file: name the folder that save_pretrained wrote")
    elif folder.is_absolute() or model.startswith((".", "~")) or re.fullmatch(r"[^@]*/([^@]*/.*)?", model):
        raise UserError(f"--model {model}: there is no such folder: name one, or a model of the Hub as org/name")
    elif "/" not in model and model not in BUILT_IN and (near := get_close_matches(model.lower(), BUILT_IN, 1, 0.75)):
        raise UserError(f"--model {model} is no folder, and no model that is built in: did you mean {near[0]!r}?")


def _check_address(url: str | None) -> None:
    if url is not None and not re.match(r"https?://[^/]", url):
        raise UserError(
            f"--judge-url {url} is no address: begin it with http:// or https://, as in http://HOST:PORT/v1"
        )


def _made(given: Mapping[str, str], results: Path) -> MadeRecipe:
    """The recipe of the options, in a folder of this command that goes with it."""
    from harness.recipe.quick import quick_name
    from harness.recipe.recipe import NAME

    name = given.get("name") or quick_name(given["model"], Path(given["data"]).stem, given.get("judge", ""))
    if not re.fullmatch(NAME, name) or len(name) > 100:
        raise UserError(
            f"--name {name[:60]!r} is no name: use up to 100 letters, digits, '.', '_' and '-', and begin with a "
            "letter or a digit"
        )
    file = results / name / "recipe.yaml"
    work = click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="sail-bench-"))
    made = MadeRecipe(file, _text(name, given, file.parent, Path(work)), Path(work))
    if not made.kept:
        _check_pairs(given, made.work)
        made.check_place()
    keep_out(address=given.get("judge_url"))
    where = f"This recipe is in {file}" if made.kept else f"compare puts this recipe into {file} when it begins"
    say(f"{made.text}\n{where}.\n", err=True)
    return made


def _text(name: str, given: Mapping[str, str], folder: Path, work: Path) -> str:
    """The text of the recipe.

    Args:
        name: of the comparison.
        given: the options, by name.
        folder: of the recipe's file.
        work: gets the parts of a file that is divided, in ``data``.
    """
    from harness.pairs.held_out_file import count_pairs, divide_file
    from harness.recipe.quick import QuickRecipe, quick_text

    train = _source("--data", given["data"])
    if "test" in given:
        test = _source("--test", given["test"])
        if train.identity() == test.identity():
            raise UserError(
                f"--data {given['data']} and --test {given['test']} hold the same rows: name another for --test, or "
                "leave it out, and a tenth of the prompts is held out"
            )
        counts, names = count_pairs(train, test), (_beside(train, folder), _beside(test, folder))
    elif train.path is None:
        raise UserError(f"--data {given['data']} is a split of the Hub: name another for evaluation with --test")
    else:
        counts, names = divide_file(train, work / "data"), ("data/train.jsonl", "data/test.jsonl")
    model = Path(given["model"])
    start = str(model.resolve()) if model.is_dir() else given["model"]
    judge, url = given.get("judge", ""), given.get("judge_url", "")
    return quick_text(QuickRecipe(name, start, *names, *counts, judge=judge, judge_url=url))


def _check_pairs(given: Mapping[str, str], work: Path) -> None:
    """Read all rows of the user's own files, so that a mistake has its file and line.

    Args:
        given: the options, by name.
        work: has the parts of a file that was divided, in ``data``.
    """
    from harness.pairs.held_out_file import check_pairs, check_parts

    train = _source("--data", given["data"])
    check_pairs(train)
    if "test" in given:
        check_pairs(_source("--test", given["test"]))
    else:
        check_parts(train, work / "data")


def _source(flag: str, name: str) -> PairSource:
    from harness.pairs.pair_source import HUB_FORM, locate_pair_source, name_one

    try:
        return locate_pair_source("train", name, None)
    except AbsentError:
        raise UserError(
            f"{flag} {name}: there is no such file or folder here or under --data-dir: {name_one(name)}"
        ) from None
    except UserError:
        raise UserError(f"{flag} {name} needs a commit of 40 hex digits and a split: {HUB_FORM}") from None


def _beside(source: PairSource, folder: Path) -> str:
    """A source as a recipe in a folder names it."""
    if source.path is None:
        return source.name
    path = os.path.relpath(source.path, folder)
    return f"{path}:{source.split}" if source.split else path
