"""What is wrong with the YAML of a recipe, in our words: the line, and the fix. Pure."""

from __future__ import annotations

import yaml


def yaml_fault(text: str, error: Exception) -> str:
    """Why a text is no YAML.

    Args:
        text: that was read.
        error: of the parser.
    """
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return _marked(text.splitlines(), error, error.problem_mark.line, error.problem_mark.column)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line} has a control character (U+{ord(text[error.position]):04X}): remove it"
    reason = " ".join(str(error).split())
    return "a number in it has thousands of digits" if "integer string conversion" in reason else reason[:300]


def _marked(lines: list[str], error: yaml.MarkedYAMLError, number: int, column: int) -> str:
    """The sentence about a fault with a place.

    Args:
        lines: of the text.
        error: of the parser.
        number: of the line, from 0.
        column: from 0.
    """
    problem, context = error.problem or "", error.context or ""
    line = lines[number] if number < len(lines) else ""
    begun = error.context_mark.line + 1 if error.context_mark else number + 1
    if "\t" in line[: column + 1]:
        return f"line {number + 1} is indented with a tab: use spaces" if not line[:column].strip() else (
            f"line {number + 1} has a tab where a value should stand: use spaces"
        )  # fmt: skip
    if "flow" in context:
        bracket, end = ("[", "]") if "sequence" in context else ("{", "}")
        return f"the {bracket!r} on line {begun} has no {end!r}, or a comma is missing before line {number + 1}"
    if "quoted scalar" in context:
        return f"the quote that begins on line {begun} is not closed: close it, or leave out what follows it"
    if "mapping values are not allowed" in problem or "<block end>" in problem:
        return _indented(lines, number) or f"line {number + 1} does not fit here: write one 'key: value' a line" + (
            ", and put a text with a colon in quotes" * (":" in line.partition(":")[2])
        )
    if "could not find expected ':'" in problem:
        return f"line {begun} has no colon after its key: write 'key: value'"
    if "cannot start any token" in problem:
        return f"a text on line {number + 1} begins with {line[column : column + 1]!r}: put it in quotes"
    if "undefined alias" in problem:
        return f"line {number + 1} has a '*' before a name that no '&' gives: put the text in quotes"
    if "single document" in context:
        return f"a second document begins on line {number + 1}: a recipe is one, so leave out the '---'"
    if "constructor for the tag" in problem:
        return f"line {number + 1} has a tag (a '!' before a value): leave it out, or put the text in quotes"
    return f"line {number + 1}: {problem}"


def _indented(lines: list[str], number: int) -> str:
    """A sentence if a line is indented otherwise than the line before it."""
    above = next((n for n in range(number - 1, -1, -1) if _content(lines[n])), None)
    if above is None or number >= len(lines):
        return ""
    here, there = (len(lines[n]) - len(lines[n].lstrip(" ")) for n in (number, above))
    if here == there:
        return ""
    word = "more" if here > there else "less"
    return (
        f"line {number + 1} is indented {word} than line {above + 1} ({here} against {there} spaces): give keys of one "
        "level the same indentation"
    )


def _content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")
