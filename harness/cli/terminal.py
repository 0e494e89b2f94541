"""The one way of text to the terminal: nothing that foreign text holds acts there, and no key is shown."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import click

from harness.store.foreign_text import shown_text
from harness.store.redaction import redacted


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
    shown = []
    for piece in pieces:
        if isinstance(piece, Styled):
            shown.append(click.style(shown_text(piece.text), bold=piece.bold or None, dim=piece.dim or None))
        else:
            shown.append(shown_text(piece))
    click.echo("".join(shown), err=err)


def say_json(value: Any) -> None:
    """Print JSON to the standard output, in ASCII: what would act on a terminal is escaped in it, and keys are out."""
    click.echo(redacted(json.dumps(value, indent=1, default=str)).replace("\x7f", "\\u007f"))
