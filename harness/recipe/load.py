"""Reading a recipe: a built-in one by name, or a YAML file, with errors that name the key, its line and the fix."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from harness.errors import UserError, errors_of, shown, unknown
from harness.recipe.faults import Fault, faults_of, truths_for_numbers, value_at
from harness.recipe.recipe import Recipe
from harness.recipe.yaml_text import Place, YamlText, dotted, read_yaml

MOST_ROUNDS = 20
"""How often what is left of a recipe is read again, so that one fault hides no other."""

STANDING_IN: dict[str, Any] = {
    "name": "unnamed",
    "model": "tiny",
    "data": {"train_prompts": 1, "tune_prompts": 1, "eval_prompts": 1, "heldout_prompts": 1},
    "budget": "small",
    "tune": {"learning_rates": [1e-3]},
}
"""What stands in for a required key that is wrong, so that the other keys can be read."""

PATHS = (
    ("model",),
    ("chat_template",),
    *((oracle, "options", key) for oracle in ("oracle", "eval_oracle") for key in ("model", "chat_template")),
)
"""Keys that may hold a path. It is looked for in the working directory and beside the recipe."""

DATA_PATHS = (("data", "train"), ("data", "test"))
"""Those that :mod:`harness.pairs.pair_source` looks for, under ``--data-dir`` too."""


def nowhere(place: Place) -> str:
    """The end of a sentence about a place in a recipe that no file holds."""
    return ""


class Reading(NamedTuple):
    """A recipe as far as it could be read.

    Attributes:
        recipe: without what is wrong; None if no recipe is left.
        faults: what is wrong, in a sentence each.
        where: the end of a sentence about a place, with file and line; empty if the file has no such key.
    """

    recipe: Recipe | None
    faults: list[str]
    where: Callable[[Place], str] = nowhere


def builtin_recipes() -> dict[str, Path]:
    """Names and files of the recipes that ship with the package."""
    folder = Path(str(files("harness.recipe") / "builtin"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or the recipe in a YAML file.

    Raises:
        UserError: no such name or file, not YAML, or keys or values that are not allowed (named, with the nearest).
    """
    reading = read_recipe(name)
    if reading.faults or reading.recipe is None:
        raise errors_of(reading.faults)
    return reading.recipe


def read_recipe(name: str) -> Reading:
    """As :func:`load_recipe`, with what is left of a recipe in which keys or values are wrong.

    Raises:
        UserError: no such name or file, or not YAML.
    """
    builtin = builtin_recipes()
    path = builtin.get(name, Path(name))
    if name not in builtin and path.suffix not in (".yaml", ".yml"):
        if _exists(Path(f"{name}.yaml")):
            raise UserError(f"{name} is no recipe of the package: write {name}.yaml for the file")
        if _exists(path):
            what = "a folder" if path.is_dir() else "no YAML file"
            raise UserError(f"{name} is {what}: name a recipe's file, which ends in .yaml, or a recipe of the package")
        raise unknown("recipe", name, builtin)
    try:
        text = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"The recipe file {name} does not exist: give a path to a YAML file or a name") from None
    if not isinstance(text.value, dict):
        raise UserError(f"The recipe file {path} must hold a mapping of keys, such as 'name: my-recipe'")
    raw = copy.deepcopy(text.value)
    faults = [Fault(fault.place, fault.sentence, "text") for fault in text.faults]
    faults += [] if name in builtin else _resolve_paths(raw, path.parent)
    reading = _validated(raw, text, path, faults)
    if reading.recipe is not None and reading.recipe.data.imported:
        reading.recipe.data._folder = path.parent.resolve()
    return reading


def _validated(raw: dict[str, Any], text: YamlText, path: Path, faults: list[Fault]) -> Reading:
    """The recipe that is left when what is wrong has been taken out, part by part."""
    recipe: Recipe | None = None
    for _ in range(MOST_ROUNDS):
        try:
            recipe = Recipe.model_validate(raw)
            break
        except ValidationError as error:
            places = {fault.place[:n] for fault in faults for n in range(1, len(fault.place) + 1)}
            still = faults_of(error, Recipe, raw, of_recipe=True)
            new = [f for f in still if f.place not in places or (f.kind == "value" and f.place not in _places(faults))]
            faults += new
            # what is still wrong with the rest is that something was taken out
            left = sorted(new, key=_from_the_end) or [Fault(f.place[:1], "") for f in still]
            if not all(_taken_out(raw, fault) for fault in left):
                break
    if recipe is not None:
        faults += truths_for_numbers(text.value, recipe)
    renamed = {(*fault.place[:-1], fault.meant): fault.place for fault in faults if fault.meant}
    faults = [fault._replace(place=_as_written(fault.place, renamed)) for fault in faults]
    faults.sort(key=lambda fault: text.line(fault.place))

    def where(place: Place) -> str:
        return f" ({path.name}, line {text.line(place)})" if value_at(text.value, place[:1]) and place else ""

    return Reading(recipe, [_sentence(fault, text, path) for fault in faults], where)


def _as_written(place: Place, renamed: Mapping[Place, Place]) -> Place:
    """A place as the file has it, below keys that were given the names that they were meant to have."""
    for there, written in renamed.items():
        if place[: len(there)] == there:
            return (*written, *place[len(there) :])
    return place


def _places(faults: list[Fault]) -> set[Place]:
    return {fault.place for fault in faults}


def _from_the_end(fault: Fault) -> tuple[int, ...]:
    """Sorts the later entries of lists before the earlier ones, whose numbers they would change."""
    return tuple(-part for part in fault.place if isinstance(part, int))


def _taken_out(raw: dict[str, Any], fault: Fault) -> bool:
    """Take what is wrong out of a recipe, or give a misspelt key its name; whether that could be done."""
    if not fault.place:
        return False
    if fault.kind == "data":
        raw["data"] = STANDING_IN["data"]
        return True
    holder, last = value_at(raw, fault.place[:-1]), fault.place[-1]
    if len(fault.place) == 1 and last in STANDING_IN and not fault.meant:
        raw[str(last)] = STANDING_IN[str(last)]
        return True
    if isinstance(holder, dict) and last in holder:
        value = holder.pop(last)
        if fault.meant:
            holder[fault.meant] = value
        return True
    if isinstance(holder, list) and isinstance(last, int) and last < len(holder):
        del holder[last]
        return True
    return False


def _sentence(fault: Fault, text: YamlText, path: Path) -> str:
    where = dotted(fault.place)
    if fault.kind == "text":
        return fault.text
    if fault.kind in ("unknown", "data") and fault.place[-1] != "task":
        return f"Unknown key in {path.name}: {shown(where)}: {fault.text} (line {text.line(fault.place)})"
    if fault.kind == "missing" and len(fault.place) == 1:
        return f"In {path.name}, key '{where}': {fault.text}"
    if not fault.place:
        return f"In {path.name}: {fault.text}"
    return f"In {path.name}, key '{where}': {fault.text} (line {text.line(fault.place)})"


def _resolve_paths(raw: dict[str, Any], folder: Path) -> list[Fault]:
    """Point relative paths that lie beside the recipe there. Those that lie in the working directory stay as they are;
    a name that lies in both, and is not the same, could mean either."""
    faults = []
    for place in (*PATHS, *DATA_PATHS):
        value = value_at(raw, place)
        if not isinstance(value, str) or value in _BUILT_IN or value.startswith("fastchat:"):
            continue
        here, beside = Path(value), folder / value
        if max(len(part.encode()) for part in value.split("/")) > _LONGEST_NAME or len(value.encode()) > _LONGEST_PATH:
            faults.append(Fault(place, f"{shown(value)} is too long for a path: name a file or folder, or a Hub id"))
        elif place in DATA_PATHS or not _is_path(raw, place):
            continue
        elif _exists(beside) and _exists(here) and not here.samefile(beside):
            faults.append(
                Fault(place, f"{value} lies in the working directory and beside the recipe: write the whole path")
            )
        elif _exists(here):
            faults += _wrong_kind(place, value, here)
        elif _exists(beside):
            value_at(raw, place[:-1])[place[-1]] = os.path.relpath(beside)
            faults += _wrong_kind(place, value, beside)
    return faults


def _is_path(raw: dict[str, Any], place: Place) -> bool:
    """Whether a key can hold a path: the model of an oracle that asks an endpoint is a name there."""
    named = value_at(raw, (place[0], "name"))
    return len(place) == 1 or named == "reward_model"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder on the way is closed
        return False


def _wrong_kind(place: Place, value: str, path: Path) -> list[Fault]:
    if place[-1] == "model" and not path.is_dir():
        return [Fault(place, f"{value} is a file: name the directory that save_pretrained wrote")]
    if place[-1] == "chat_template" and not path.is_file():
        return [Fault(place, f"{value} is a folder: name a Jinja file")]
    return []


_BUILT_IN = ("tiny", "smollm2")
_LONGEST_NAME, _LONGEST_PATH = 255, 4000
