"""What is wrong with a recipe or with options, each fault in a sentence of our own: pydantic's are never shown."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import shown
from harness.recipe.yaml_text import Place, dotted

EXAMPLES = {
    "name": "my-comparison",
    "model": "smollm2",
    "data": "{train_prompts: 96, tune_prompts: 32, eval_prompts: 120, heldout_prompts: 40}",
    "train_prompts": "96",
    "tune_prompts": "32",
    "eval_prompts": "120",
    "heldout_prompts": "40",
    "train": "pairs/train.jsonl",
    "test": "pairs/test.jsonl",
    "budget": "small",
    "tune": "{learning_rates: [5.0e-4]}",
    "learning_rates": "[5.0e-4]",
    "methods": "[start, dpo, sail-pp]",
    "benchmarks": "{preference: {}}",
    "method": "dpo",
    "limit": "64",
}
"""What a missing key could hold."""

HINTS: dict[tuple[str, type], str] = {
    ("seeds", list): "it is how many seeds are run: seeds: 2 runs the seeds 0 and 1",
    ("budget", list): "it names one: write one here, and run the command once for each with --budget",
    ("budget", dict): "it names one of budgets, or of the named ones (sail-bench budgets): write budget: small",
    ("judge", str): "it is local (the start policy judges mini sets), or a model behind an endpoint: {model: NAME}",
    ("oracle", list): "it is one oracle: write its name, or {name: NAME, options: {}}",
    ("methods", dict): "it lists rows by name: write them as [start, dpo], and their options under method_options",
}
"""What a key of a recipe holds, for one who wrote another type."""


class Fault(NamedTuple):
    """What is wrong at a place.

    Attributes:
        place: where it stands in what was read.
        text: the fault and its fix.
        kind: ``unknown`` for a key that does not exist, ``missing`` for one that has to be there, ``empty`` for a list
            or mapping without entries, ``data`` where the kind of the data is in question, ``text`` for what the YAML
            itself has wrong (a whole sentence), ``value`` else.
        meant: the key at the same level that an unknown one is a misspelling of; empty if that is not sure.
    """

    place: Place
    text: str
    kind: str = "value"
    meant: str = ""


def faults_of(error: ValidationError, model: type[BaseModel], raw: Any, *, of_recipe: bool = False) -> list[Fault]:
    """All that pydantic refuses, in our words. A key that is missing because it is misspelt is one fault.

    Args:
        error: of the validation.
        model: what was validated against.
        raw: what was validated.
        of_recipe: whether it is a whole recipe, whose keys have examples and hints.
    """
    details = error.errors(include_url=False)
    unknown_keys = [_unknown_key(d, model, raw) for d in details if d["type"] == "extra_forbidden"]
    meant = {(*fault.place[:-1], fault.meant) for fault in unknown_keys if fault.meant}
    others = [_fault(d, raw, of_recipe) for d in details if d["type"] != "extra_forbidden"]
    if any(fault.kind == "data" for fault in unknown_keys):  # then it is not known which keys are missing
        others = [fault for fault in others if fault.kind != "missing" or fault.place[0] != "data"]
    merged: dict[Place, Fault] = {}
    for fault in [*unknown_keys, *(f for f in others if f.kind != "missing" or f.place not in meant)]:
        merged.setdefault(fault.place, fault)
    return list(merged.values())


def truths_for_numbers(raw: Any, value: Any, place: Place = ()) -> Iterator[Fault]:
    """Faults where ``yes`` or ``off`` stands for a number: pydantic would take them for 1 and 0.

    Args:
        raw: what was validated.
        value: what came of it.
        place: of both.
    """
    if type(raw) is bool and type(value) in (int, float):
        yield Fault(place, f"YAML reads this as {str(raw).lower()}, and a number is expected: write one")
    elif isinstance(raw, Mapping):
        for key, inner in raw.items():
            validated = getattr(value, str(key), None) if isinstance(value, BaseModel) else None
            validated = value.get(key) if isinstance(value, Mapping) else validated
            yield from truths_for_numbers(inner, validated, (*place, str(key)))
    elif isinstance(raw, list) and isinstance(value, list):
        for number, (inner, validated) in enumerate(zip(raw, value, strict=False)):
            yield from truths_for_numbers(inner, validated, (*place, number))


def _place(loc: Sequence[int | str], raw: Any, missing: bool = False) -> Place:
    """A place in what was read: pydantic's without the tags of unions and what validators put in.

    Args:
        loc: pydantic's.
        raw: what was read.
        missing: whether a key that is not there is the last of it.
    """
    place, here = list[str | int](), raw
    for number, part in enumerate(loc):
        if (isinstance(here, Mapping) and part in here) or (isinstance(here, list) and isinstance(part, int)):
            here = here[part]  # type: ignore[index]
        elif not (missing and number == len(loc) - 1 and isinstance(here, Mapping)):
            continue
        place.append(part)
    return tuple(place)


def value_at(raw: Any, place: Place) -> Any:
    """What stands at a place; None if there is nothing."""
    for part in place:
        if isinstance(raw, Mapping):
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        else:
            return None
    return raw


def _fault(detail: ErrorDetails, raw: Any, of_recipe: bool) -> Fault:
    kind, place = detail["type"], _place(detail["loc"], raw, missing=detail["type"] == "missing")
    if kind == "missing":
        example = EXAMPLES.get(str(detail["loc"][-1]), "") if of_recipe else ""
        return Fault(place, "it is missing: add it" + (f", such as {example}" * bool(example)), "missing")
    value = value_at(raw, place) if "[key]" not in detail["loc"] else place[-1]
    if kind == "task" and isinstance(value, Mapping):
        return Fault((*place, "task"), _none_of(value.get("task"), "'constraints' or 'preferences'"), "data")
    hint = HINTS.get((str(place[0]), type(value)), "") if of_recipe and len(place) == 1 else ""
    text = hint or _sentence(kind, value, detail.get("ctx", {}), detail["msg"])
    return Fault(place, text, "empty" if kind == "too_short" else "value")


def value_sentence(error: ValidationError) -> str:
    """What is wrong with a single value that was validated, and what to write."""
    detail = error.errors(include_url=False)[0]
    return _sentence(detail["type"], detail["input"], detail.get("ctx", {}), detail["msg"])


def _sentence(kind: str, value: Any, context: Mapping[str, Any], message: str) -> str:
    """What is wrong with a value, and what to write."""
    if kind in ("value_error", "task"):
        return str(context.get("error", "")) or message
    if kind == "literal_error":
        return _none_of(value, context["expected"])
    if kind in _COMPARED and value is not None:
        words, key = _COMPARED[kind]
        return f"{shown(value)} is out of range: write a number {words} {context[key]:g}"
    expected = _EXPECTED.get(kind, _EXPECTED.get(kind.partition("_")[0] + "_type", ""))
    if kind in ("too_short", "string_too_short"):
        return (
            "it is empty: write at least one" if kind == "too_short" else "it is empty: write a text, or leave it out"
        )
    if kind == "too_long":
        return f"it has {len(value):,} entries: write {context['max_length']:,} at most"
    if kind == "string_too_long":
        return f"it has {len(value)} letters: write {context['max_length']} at most"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} is no name: use letters, digits, '.', '_' and '-', and begin with a letter or a digit"
    if not expected:
        return f"{shown(value)} is not what belongs here: see the recipe's reference (sail-bench schema)"
    return _other_type(value, kind, expected)


_COMPARED = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("of at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("of at most", "le"),
}

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "a switch, which is true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "finite_number": "a finite number",
    "date_type": "a date",
}
"""What belongs in a place, by pydantic's kind of error."""


def _as_yaml(value: Any) -> str:
    """A value to be written into a recipe: as it is if it reads as one word, else in quotes and on one line."""
    text = str(value)
    return text if isinstance(value, (str, int, float)) and re.fullmatch(r"[\w./-]+", text) else shown(value)


def _other_type(value: Any, kind: str, expected: str) -> str:
    if value is None:
        return f"it is empty: write {expected}" + (", or {} for none" * (expected == "a mapping of keys"))
    if expected == "a text" and not isinstance(value, (list, dict)):
        read = str(value).lower() if isinstance(value, bool) else "a date" if isinstance(value, date) else "a number"
        return f"YAML reads this as {read}, and a text is expected: put it in quotes"
    if expected == "a mapping of keys" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        pairs = ", ".join(f"{_as_yaml(name)}: {{}}" for name in value[:5])
        return f"a list stands where a mapping is expected: write {{{pairs}}}"
    if expected == "a list" and not isinstance(value, (list, dict)):
        return f"a list is expected: write [{_as_yaml(value)}]"
    if isinstance(value, (list, dict)):
        written = "a list" if isinstance(value, list) else "a mapping"
        return f"{written} stands where {expected} is expected: write {expected}"
    return f"{str(value).lower() if isinstance(value, bool) else shown(value)} is not {expected}: write one"


def _none_of(value: Any, expected: str) -> str:
    """For a value that is none of those that pydantic lists as ``'a', 'b' or 'c'``."""
    names = [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]
    if type(value) is bool:
        return f"YAML reads this as {str(value).lower()}: write one of {', '.join(names)}, in quotes if need be"
    near = get_close_matches(str(value), names, n=1, cutoff=0.5) if isinstance(value, str) and len(value) < 200 else []
    hint = f"did you mean {near[0]!r}?" if near else "write one of them"
    return f"{shown(value)} is none of {', '.join(names)}: {hint}"


def _unknown_key(detail: ErrorDetails, model: type[BaseModel], raw: Any) -> Fault:
    place, key = _place(detail["loc"], raw), str(detail["loc"][-1])
    here = _schema_at(model, detail["loc"][:-1])
    fields = list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []
    given = value_at(raw, place[:-1])
    if near := _near(key, fields, 0.6):
        there = isinstance(given, Mapping) and near in given
        text = f"did you mean {dotted((*place[:-1], near))!r}?{' (it is there already)' * there}"
        sure = not there and bool(_near(key, [near], 0.75))
        return Fault(place, text, "unknown", near if sure else "")
    everywhere = {name: name.rpartition(".")[2] for name in _keys(model)}
    if leaf := _near(key, everywhere.values(), 0.75):
        homes = [name for name, last in everywhere.items() if last == leaf]
        if dotted(place) in homes:
            task = "constraints" if "train_prompts" in fields and "train" in fields else "preferences"
            return Fault(place, f"it belongs to other data: set data.task to {task}, or leave it out", "data")
        return Fault(place, f"did you mean {' or '.join(map(repr, homes[:2]))}?", "unknown")
    if near := _near(key, fields, 0.4):
        return Fault(place, f"did you mean {dotted((*place[:-1], near))!r}?", "unknown")
    listed = f"known: {', '.join(sorted(fields))}" if fields else "there are none: leave it out"
    return Fault(place, listed, "unknown")


def _near(key: str, names: Any, cutoff: float) -> str:
    near = get_close_matches(key, sorted(set(names)), n=1, cutoff=cutoff) if len(key) < 200 else []
    return near[0] if near else ""


def _schema_at(annotation: Any, loc: Sequence[int | str]) -> Any:
    """What the type of a model says of a place inside it; None where it says nothing."""
    for part in loc:
        annotation = _step(annotation, part)
    while get_origin(annotation) in (Union, types.UnionType, Annotated):
        models = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
        annotation = models[0] if models else None
    return annotation


def _step(annotation: Any, part: int | str) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = annotation.model_fields.get(str(part))
        return None if info is None else info.annotation
    if origin is Annotated:
        return _step(arguments[0], part)
    if origin in (Union, types.UnionType):
        tagged = [a for a in arguments if any(isinstance(m, Tag) and m.tag == part for m in get_args(a)[1:])]
        if tagged:
            return get_args(tagged[0])[0]
        return next((step for a in arguments if (step := _step(a, part)) is not None), None)
    return arguments[-1] if origin in (dict, list) else None


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a model and of those in it, dotted; NAME stands for a name that a recipe gives."""
    names = []
    for name, info in model.model_fields.items():
        names.append(prefix + name)
        for inner, named in _models(info.annotation):
            names += _keys(inner, f"{prefix}{name}.{'NAME.' * named}")
    return names


def _models(annotation: Any, named: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models in an annotation, and whether a name stands before their keys."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, named
    for inner in get_args(annotation):
        yield from _models(inner, named or get_origin(annotation) is dict)


def option_sentences(error: ValidationError, model: type[BaseModel], options: Any, described: str) -> list[str]:
    """A sentence for each option that is wrong.

    Args:
        error: of the validation.
        model: the options' model.
        options: as they were given.
        described: whose options they are ("method sail-pr").
    """
    faults = faults_of(error, model, options)
    return [option_sentence(fault, described) for fault in faults]


def option_sentence(fault: Fault, described: str) -> str:
    """As :func:`option_sentences`, of one fault."""
    text = f"there is no such option: {fault.text}" if fault.kind == "unknown" else fault.text
    return f"Option '{dotted(fault.place)}' of {described}: {text}"
