"""Style of an answer: markdown counts, as Arena-Hard's style control takes them."""

from __future__ import annotations

import re


def style(text: str) -> dict[str, int]:
    """Markdown counts outside code blocks: headers, list items and bold spans (spec/evals 2.2)."""
    for block in re.findall(r"```([^`]*)```", text):
        text = text.replace(block, "")
    return {
        "headers": len(re.findall(r"^#{1,6}\s", text, re.M)),
        "lists": len(re.findall(r"^\s*\d+\.\s", text, re.M)) + len(re.findall(r"^\s*[-*+]\s", text, re.M)),
        "bolds": len(re.findall(r"\*\*[^*\n]+\*\*", text)) + len(re.findall(r"__[^_\n]+__", text)),
    }
