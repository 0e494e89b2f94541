"""Reading YAML that a user wrote: of bounded size, every key once, all numbers finite; each value's line is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from harness.errors import UserError, shown
from harness.recipe.yaml_faults import yaml_fault
from harness.store.foreign_text import one_line
from harness.store.json_files import storable

MOST_BYTES = 256_000
MOST_LEVELS = 32
MOST_VALUES = 50_000
LARGEST = 2**63
"""Limits that no recipe comes near: bytes of the file, levels of nesting, values with every alias written out, and the
size of a whole number."""

Place = tuple[str | int, ...]
"""Where a value stands: keys of mappings and places in lists, from the top."""


MOST_DIGITS, LONG_NUMBER = 1000, "a number in it has thousands of digits"


class _Loader(yaml.SafeLoader):
    """Leaves a date that does not exist, such as 2025-02-30, as a text, so that the error names its key. Refuses a
    whole number that Python would take long to read, or could not write again."""

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            return node.value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> Any:
        if len(node.value) > MOST_DIGITS:
            raise ValueError(LONG_NUMBER)
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_yaml_timestamp)


class TextFault(NamedTuple):
    """What is wrong in the text itself: where, and the whole sentence."""

    place: Place
    sentence: str


class YamlText(NamedTuple):
    """What a file holds.

    Attributes:
        value: of the whole, with texts as keys.
        root: the node that it was made from.
        faults: keys that stand twice or are no texts, numbers that are not finite, texts that cannot be stored.
    """

    value: Any
    root: yaml.Node
    faults: list[TextFault]

    def line(self, place: Sequence[str | int]) -> int:
        """The line of a value's key, or of the innermost part of its place that is there."""
        node, line = self.root, self.root.start_mark.line
        for part in place:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in reversed(node.value) if pair[0].value == str(part)), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
        return line + 1


def dotted(place: Sequence[str | int]) -> str:
    """A place as an error names it: ``train.lora.r``, ``methods[2]``. Keys are foreign text."""
    parts = (f"[{part + 1}]" if isinstance(part, int) else f".{one_line(part)}" for part in place)
    return "".join(parts).removeprefix(".")


def read_yaml(path: Path) -> YamlText:
    """What a YAML file holds.

    Raises:
        UserError: the file cannot be read or is no YAML, or is larger, deeper or has more values than a recipe needs.
        FileNotFoundError: there is no such file.
    """
    text = _text(path)
    try:
        _check_levels(path, text)
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise UserError(f"{path} is empty: write a recipe into it (sail-bench new-recipe makes one)")
        faults = _Nodes(path).check(root)
        value = loader.construct_document(root)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = LONG_NUMBER if "integer string conversion" in str(error) else yaml_fault(text, error)
        raise UserError(f"The recipe file {path} cannot be read as YAML: {reason}") from None
    read = YamlText(_with_texts_as_keys(value), root, faults)
    odd = "is read as a number, a date or a switch: put it in quotes"
    faults += [
        TextFault(place, f"In {path.name}, the key '{dotted(place)}' {odd} (line {read.line(place)})")
        for place in _odd_keys(value)
    ]
    for place, leaf in _leaves(read.value):
        if fault := _fault(place, leaf):
            where = f"In {path.name}, key '{dotted(place)}'"
            faults.append(TextFault(place, f"{where}: {fault} (line {read.line(place)})"))
    return read


def _with_texts_as_keys(value: Any) -> Any:
    """A copy in which every key is a text, and nothing is shared."""
    if isinstance(value, dict):
        return {str(key): _with_texts_as_keys(inner) for key, inner in value.items()}
    return [_with_texts_as_keys(inner) for inner in value] if isinstance(value, list) else value


def _text(path: Path) -> str:
    """The text of a file, which is UTF-8 and not too long."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no file: name a recipe's YAML file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content[:MOST_BYTES].decode("utf-8-sig", "strict" if len(content) <= MOST_BYTES else "ignore")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not UTF-8: {error}"
        raise UserError(f"The recipe file {path} cannot be read as YAML: {reason}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} has more than {MOST_BYTES // 1000} kB, so it is no recipe: name a recipe's YAML file")
    return text


def _check_levels(path: Path, text: str) -> None:
    """Refuse text whose nesting would exhaust the stack of what reads it."""
    level = 0
    for event in yaml.parse(text, Loader=_Loader):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            raise _too_deep(path, event.start_mark.line + 1 if event.start_mark else 1)


def _too_deep(path: Path, line: int) -> UserError:
    return UserError(
        f"{path.name} is nested more than {MOST_LEVELS} levels deep (line {line}): no recipe needs so many"
    )


class _Extent(NamedTuple):
    """Of a node with its aliases written out: how many values, and how many levels."""

    values: int
    levels: int


class _Nodes:
    """Checks the nodes of a file, each once, however often aliases name it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._extents: dict[int, _Extent] = {}
        self._above: set[int] = set()
        self._faults: list[TextFault] = []

    def check(self, root: yaml.Node) -> list[TextFault]:
        """Keys that stand twice.

        Raises:
            UserError: aliases make the file too large or too deep, or one names what it stands in.
        """
        self._extent(root, ())
        return self._faults

    def _extent(self, node: yaml.Node, place: Place) -> _Extent:
        if isinstance(node, yaml.ScalarNode):
            return _Extent(1, 0)
        line = node.start_mark.line + 1
        if id(node) in self._above:
            raise UserError(
                f"In {self._path.name}, an alias names the value that it stands in (line {line}): remove it"
            )
        if id(node) in self._extents:
            return self._extents[id(node)]
        self._above.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node, place)
            inner = [self._extent(value, (*place, _name(key))) for key, value in node.value]
            inner += [self._extent(key, place) for key, _ in node.value]
        else:
            inner = [self._extent(value, (*place, number)) for number, value in enumerate(node.value)]
        self._above.remove(id(node))
        extent = _Extent(1 + sum(e.values for e in inner), 1 + max((e.levels for e in inner), default=0))
        if extent.values > MOST_VALUES:
            raise UserError(
                f"{self._path.name} holds more than {MOST_VALUES:,} values once its aliases are written out (line "
                f"{line}): write out the ones that are meant"
            )
        if extent.levels > MOST_LEVELS:
            raise _too_deep(self._path, line)
        self._extents[id(node)] = extent
        return extent

    def _check_keys(self, node: yaml.MappingNode, place: Place) -> None:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                where = f"stands on line {lines[name]} and again on line {line}: keep one of them"
                key_place = (*place, key.value)
                sentence = f"In {self._path.name}, the key '{dotted(key_place)}' {where}"
                self._faults.append(TextFault(key_place, sentence))
            lines.setdefault(name, line)


def _name(key: yaml.Node) -> str:
    return key.value if isinstance(key, yaml.ScalarNode) else "?"


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Texts and numbers with their places; of a mapping the keys too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*place, key), key
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*place, number))
    else:
        yield place, value


def _odd_keys(value: Any, place: Place = ()) -> Iterator[Place]:
    """Places of keys that are no texts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                yield (*place, str(key))
            yield from _odd_keys(inner, (*place, str(key)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _odd_keys(inner, (*place, number))


def _fault(place: Place, value: Any) -> str:
    """Why a value cannot be used, wherever it stands; empty if it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no finite number: write one, or leave the key out"
    if type(value) is int and abs(value) > LARGEST:
        return f"{shown(value)} is too large: write a smaller number"
    if isinstance(value, str) and storable(value).replaced and ("\x00" not in value or "extra_body" not in place):
        return "it holds half of a surrogate pair or a NUL: repair the escape"
    return ""
