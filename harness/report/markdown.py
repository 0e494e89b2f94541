"""Markdown of pages, and the one place where text on its way out is made inert.

Names, failures, judges' names and categories come from users, models and servers. :func:`code` and :func:`plain` take
the meaning from their Markdown where they are put into a sentence. Whatever a page holds then passes :func:`page` or
:func:`markdown_table`, which leave no HTML, no control character and no mark that turns the direction of text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.store.foreign_text import inert, one_line


def plain(text: str) -> str:
    """Foreign text for a sentence or a cell: on one line; nothing in it is a link, an image or code."""
    return re.sub(r"([\\`\[\]])", r"\\\1", one_line(text))


def code(text: str) -> str:
    """Foreign text as code, such as the name of a method; as plain text if it holds what code cannot."""
    text = one_line(text)
    return plain(text) if re.search(r"[`<\\]", text) or not text else f"`{text}`"


def _guarded(markdown: str) -> str:
    return inert(markdown).replace("<", "&lt;")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table without the final newline. A cell holds neither a ``|`` nor a line end of its own."""
    lines = [[_cell(text) for text in cells] for cells in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cell(text: str) -> str:
    """A cell: a ``|`` that no backslash precedes gets one."""
    return re.sub(r"(?<!\\)((?:\\\\)*)\|", r"\1\\|", " ".join(inert(text).split("\n")))


@dataclass(frozen=True)
class Details:
    """A block that a reader opens: its heading, and what is in it."""

    heading: str
    text: str


def page(blocks: Sequence[str | Details]) -> str:
    """A page: its blocks with an empty line between them, those that are empty left out."""
    texts = []
    for block in blocks:
        if isinstance(block, str):
            texts.append(_guarded(block))
        elif block.text:
            opening = f"<details><summary>{_guarded(block.heading)}</summary>"
            texts.append(f"{opening}\n\n{_guarded(block.text)}\n\n</details>")
    return "\n\n".join(text for text in texts if text) + "\n"
