"""Markdown tables of keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from docsite.meanings import Key, keys


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(cell.replace("\\|", "|").replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def key_table(model: type[BaseModel], links: dict[str, str] | None = None) -> str:
    """The keys of a model: name, type, default, meaning.

    Args:
        model: whose keys.
        links: by key, a link to the section with the keys inside it.
    """
    links = links or {}
    rows = [
        (
            f"`{key.name}`",
            f"[{key.type}]({links[key.name]})" if key.name in links else key.type,
            _default(key),
            key.meaning,
        )
        for key in keys(model)
    ]
    return table(("key", "type", "default", "meaning"), rows)


def _default(key: Key) -> str:
    return "**required**" if key.required else f"`{key.default}`"
