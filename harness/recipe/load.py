"""Reading a recipe: a built-in one by name, or a YAML file, with errors that name the key."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
)

from harness.errors import UserError, unknown
from harness.recipe.recipe import TASKS, Recipe


class _Loader(yaml.SafeLoader):
    """Leaves a date that does not exist, such as 2025-02-30, as a text, so that the error names its key."""

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            return node.value


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)


def builtin_recipes() -> dict[str, Path]:
    """Names and files of the recipes that ship with the package."""
    folder = Path(str(files("harness.recipe") / "builtin"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or the recipe in a YAML file.

    Raises:
        UserError: no such name or file, not YAML, or a key or value that is not allowed (named, with the nearest).
    """
    builtin = builtin_recipes()
    path = builtin.get(name, Path(name))
    if name not in builtin and path.suffix not in (".yaml", ".yml"):
        raise unknown("recipe", name, builtin)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"The recipe file {name} does not exist: give a path to a YAML file or a name") from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise UserError(f"The recipe file {path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UserError(f"The recipe file {path} must hold a mapping of keys, such as 'name: my-recipe'")
    recipe = _validated(raw, path)
    if recipe.data.imported:
        recipe.data._folder = path.parent.resolve()
    return recipe


def _validated(raw: dict[str, Any], path: Path) -> Recipe:
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for i, part in enumerate(first["loc"]) if i != 1 or part not in TASKS]
        where = ".".join(place) or "(top level)"
        if first["type"] == "extra_forbidden":
            raise unknown(f"key in {path.name}:", where, _keys(Recipe)) from None
        raise UserError(f"In {path.name}, key '{where}': {first['msg'].removeprefix('Value error, ')}") from None


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, info in model.model_fields.items():
        names.append(prefix + name)
        for part in (info.annotation, *getattr(info.annotation, "__args__", ())):
            candidate = getattr(part, "__origin__", part)
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                names += _keys(candidate, f"{prefix}{name}.")
    return names
