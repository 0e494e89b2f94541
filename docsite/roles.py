"""Docstrings as Markdown: roles and double backticks become code, formulas keep their TeX."""

from __future__ import annotations

import re
from typing import Any

import griffe


def as_markdown(docstring: str) -> str:
    """A docstring of the project as Markdown."""
    text = re.sub(r"^( *)\.\. math:: (.+)$", r"\1$$\2$$", docstring, flags=re.M)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


class Roles(griffe.Extension):  # type: ignore[misc]
    """Changes each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that was read."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
