"""Style of an answer: markdown counts, as Arena-Hard's style control takes them."""

from __future__ import annotations

import re
from typing import NamedTuple


class MarkdownCounts(NamedTuple):
    """Headers, list items and bold spans of a text."""

    headers: int
    lists: int
    bolds: int


def markdown_counts(text: str) -> MarkdownCounts:
    """Markdown outside code blocks."""
    for block in re.findall(r"```([^`]*)```", text):
        text = text.replace(block, "")
    return MarkdownCounts(
        headers=len(re.findall(r"^#{1,6}\s", text, re.M)),
        lists=len(re.findall(r"^\s*\d+\.\s", text, re.M)) + len(re.findall(r"^\s*[-*+]\s", text, re.M)),
        bolds=len(re.findall(r"\*\*[^*\n]+\*\*", text)) + len(re.findall(r"__[^_\n]+__", text)),
    )
