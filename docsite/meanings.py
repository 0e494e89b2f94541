"""What the keys of a pydantic model mean, and of which type they are, in words."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

_NAMES = re.compile(r"((?:``\w+``(?:, | and )?)+):\s")
"""``one``: or ``one``, ``other``: at the beginning of an explanation."""

_BOUNDS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}", "min_length": "not empty"}

_PLAIN = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    date: "date",
    Any: "any value",
    type(None): "null",
}


@dataclass(frozen=True)
class Key:
    """One key of a model.

    Attributes:
        name: of the key.
        type: in words, with its bounds.
        default: as YAML writes it; empty if the key is required.
        required: whether it has no default.
        meaning: what it is; empty if nothing says so.
    """

    name: str
    type: str
    default: str
    required: bool
    meaning: str


def keys(model: type[BaseModel]) -> list[Key]:
    """All keys of a model, in order."""
    meanings = explained(model)
    return [
        Key(name, type_words(info.annotation, info.metadata), default_text(info), info.is_required(), meanings[name])
        for name, info in model.model_fields.items()
    ]


def explained(model: type[BaseModel]) -> dict[str, str]:
    """The meaning of each field: its description, else what a docstring of its classes says; empty if neither does."""
    collected: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel and cls.__doc__:
            collected |= documented(cls.__doc__)
    collected |= {name: info.description for name, info in model.model_fields.items() if info.description}
    return {name: markdown(collected.get(name, "")) for name in model.model_fields}


def documented(docstring: str) -> dict[str, str]:
    """Explanations by name in a docstring: under ``Attributes:``, or written as ````name````: and a text."""
    text, _, section = inspect.cleandoc(docstring).partition("Attributes:\n")
    attributes = {}
    for entry in re.split(r"\n(?=    \w+: )", "\n" + section):
        name, colon, meaning = entry.strip().partition(": ")
        if colon:
            attributes[name] = meaning
    inline: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        matches = list(_NAMES.finditer(paragraph))
        for match, following in zip(matches, [*matches[1:], None], strict=False):
            meaning = paragraph[match.end() : following.start() if following else None]
            inline |= dict.fromkeys(re.findall(r"``(\w+)``", match[1]), meaning.strip().rstrip(","))
    return inline | attributes


def markdown(text: str) -> str:
    """A docstring's text as Markdown on one line: roles and double backticks become code."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip()


def default_text(info: FieldInfo) -> str:
    """A field's default as YAML would write it."""
    if info.is_required():
        return ""
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        given = value.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(given, default_flow_style=True).strip() if given else "its defaults"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value != "" else '""'


def type_words(annotation: Any, metadata: Any = ()) -> str:
    """A type in words.

    Args:
        annotation: of a field.
        metadata: bounds that pydantic keeps beside it.
    """
    bounds = [words for entry in metadata for words in _bounds(entry)]
    return ", ".join([_type(annotation), *bounds])


def _bounds(entry: Any) -> Iterator[str]:
    pattern = getattr(entry, "pattern", None)
    if pattern:
        yield f"matching `{pattern}`".replace("|", "\\|")
    for name, words in _BOUNDS.items():
        bound = getattr(entry, name, None)
        if bound is not None:
            yield words.format(f"{bound:g}" if isinstance(bound, float) else bound)
    for inner in getattr(entry, "metadata", ()):  # a Field inside Annotated
        yield from _bounds(inner)


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(parts[0], parts[1:])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_type, parts)))
    if origin in (list, tuple):
        return f"list of {_type(parts[0])}"
    if origin in (dict, Mapping):
        return f"mapping of names to {_several(_type(parts[1]))}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _PLAIN.get(annotation, "any value")


def _several(words: str) -> str:
    if words.startswith(("mapping of", "list of")):
        return words.replace(" of", "s of", 1)
    return {"any value": "values", "mapping": "mappings", "number": "numbers"}.get(words, words)


def parts(annotation: Any, path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models inside a type, each with the path of the key that holds it (``NAME`` stands for a free name)."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield path, annotation
    elif origin is Annotated:
        tag = next((entry.tag for entry in arguments[1:] if isinstance(entry, Tag)), "")
        for inner, model in parts(arguments[0], path):
            yield (f"{inner} ({tag})" if tag else inner), model
    elif origin in (dict, Mapping):
        yield from parts(arguments[1], f"{path}.NAME")
    else:
        for argument in arguments:
            yield from parts(argument, path)
