"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from harness.store.foreign_text import inert

if TYPE_CHECKING:
    from rich.table import Table


def rich_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    left: Collection[str] = (),
) -> Table:
    """A table that :mod:`rich` prints: the first column is aligned left, the others right. All text in it is inert.

    Args:
        title: line above the table; none if empty.
        header: column headings; a heading may have a second line.
        rows: cells as text, which may hold rich's markup.
        caption: line below the table; none if empty.
        left: headings of further columns to align left, such as those that hold words.
    """
    from rich.table import Table

    table = Table(title=inert(title) or None, caption=inert(caption) or None)
    for place, heading in enumerate(header):
        table.add_column(inert(heading), justify="left" if place == 0 or heading in left else "right")
    for cells in rows:
        table.add_row(*map(inert, cells))
    return table
