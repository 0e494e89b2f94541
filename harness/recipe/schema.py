"""The JSON Schema of recipes, made from the models, with the descriptions in their docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, get_args

from pydantic import BaseModel

from harness.recipe.recipe import Recipe

BARE_NAMES = ("OracleSpec", "EngineSpec")
"""Models for which a recipe may write a bare name."""

_ENTRY = re.compile(r"^(?P<name>\w+): (?P<text>.+)$")


def recipe_schema() -> dict[str, Any]:
    """The schema (draft 2020-12). What depends on what is installed, such as options of methods, is left open."""
    schema = Recipe.model_json_schema()
    described = {model.__name__: model for model in _models(Recipe)}
    for name, part in [(Recipe.__name__, schema), *schema.get("$defs", {}).items()]:
        texts = key_descriptions(described[name]) if name in described else {}
        for key, value in part.get("properties", {}).items():
            if key in texts and "description" not in value:
                value["description"] = texts[key]
    for name in BARE_NAMES:
        whole = schema["$defs"][name]
        names = whole["properties"]["name"].get("enum")
        bare = {"type": "string"} | ({} if names is None else {"enum": names})
        schema["$defs"][name] = {"description": whole.pop("description", ""), "anyOf": [bare, whole]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "SAIL-bench recipe"}


def key_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Descriptions of a model's keys, from the sections ``Attributes:`` of its docstring and of its bases'."""
    texts = dict[str, str]()
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls.__doc__:
            texts |= _attributes(cls.__doc__)
    return {name: text for name, text in texts.items() if name in model.model_fields}


def _attributes(doc: str) -> dict[str, str]:
    _, _, section = cleandoc(doc).partition("Attributes:\n")
    entries, name = dict[str, list[str]](), ""
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break
        entry = _ENTRY.match(line[4:])
        if entry:
            name = entry["name"]
            entries[name] = [entry["text"]]
        elif name and line.strip():
            entries[name].append(line.strip())
    return {name: " ".join(lines).replace("``", "`") for name, lines in entries.items()}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a model or an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from _models(info.annotation)
    for inner in get_args(annotation):
        yield from _models(inner)
