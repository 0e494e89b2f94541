"""The one way of text to the terminal: nothing that foreign text holds acts there, and errors and notes show no key."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import click

from harness.store.foreign_text import inert, shown_text


class Styled(NamedTuple):
    """A piece of a line in bold or dim type."""

    text: str
    bold: bool = False
    dim: bool = False


def say(*pieces: str | Styled, err: bool = False) -> None:
    """Print a line, or several, of one or more pieces.

    Args:
        pieces: of the text, which may be foreign.
        err: print to the standard error: an error, a note.
    """
    clean = shown_text if err else inert
    shown = []
    for piece in pieces:
        if isinstance(piece, Styled):
            shown.append(click.style(clean(piece.text), bold=piece.bold or None, dim=piece.dim or None))
        else:
            shown.append(clean(piece))
    click.echo("".join(shown), err=err)


def say_json(value: Any) -> None:
    """Print JSON to the standard output, in ASCII: what would act on a terminal is escaped in it."""
    click.echo(json.dumps(value, indent=1, default=str).replace("\x7f", "\\u007f"))
