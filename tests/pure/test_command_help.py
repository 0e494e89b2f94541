"""Every option and every argument of every command says what it is."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from harness.cli import main


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command, and those below it."""
    yield name, command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from commands(below, f"{name} {below.name}")


ALL = dict(commands(main, "sail-bench"))


@pytest.mark.parametrize("name", ALL)
def test_options_and_arguments_have_help(name: str) -> None:
    """An option has a text of its own; an argument is named in its command's text."""
    command = ALL[name]
    text = command.help or ""
    missing = [p.opts[-1] for p in command.params if isinstance(p, click.Option) and not (p.help or "").strip()]
    arguments = [p.human_readable_name.strip("[].") for p in command.params if isinstance(p, click.Argument)]
    missing += [argument for argument in arguments if argument not in text]
    assert text and not missing
