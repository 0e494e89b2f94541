"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import click

from docsite.tables import table
from harness.cli import main

HEAD = """# Command line

Made from the commands themselves. `sail-bench COMMAND --help` prints the same. `RECIPE` is a built-in name
([which there are](recipe.md#built-in-recipes)) or a path to a YAML file.

Output, exit codes and completion: [The command line](../command-line.md).
"""


COMMON = {
    "--results": "Folder of the results.",
    "--store": "Folder of finished stages.",
    "--fit": "How length control is fitted.",
    "--protocol": "Release of the set.",
    "--batch-size": "Answers scored at once.",
    "--epochs": "Passes over the pairs.",
    "--learning-rate": "Of the optimiser.",
}
"""Meanings of options whose own help is empty."""


def commands(group: click.Group = main, prefix: str = "sail-bench") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, those of groups inside included."""
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, full)
        else:
            yield full, command


def commands_page() -> str:
    """Every command as Markdown."""
    text = [HEAD]
    for name, command in commands():
        with click.Context(command, info_name=name) as context:
            usage = " ".join([name, *command.collect_usage_pieces(context)])
            text += [f"## {name}", f"```text\n{usage}\n```", _help(command)]
            options = [_option(p, context) for p in command.params if isinstance(p, click.Option)]
        if options:
            text.append(table(("option", "value", "default", "meaning"), options))
    return "\n\n".join(text) + "\n"


def _help(command: click.Command) -> str:
    """The help text; lines that click keeps as they are become a block."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    shown = []
    for paragraph in paragraphs:
        verbatim = paragraph.startswith("\b")
        shown.append("```text\n" + paragraph.removeprefix("\b\n") + "\n```" if verbatim else _prose(paragraph))
    return "\n\n".join(shown)


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str, str]:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f"`{option.make_metavar(context)}`"
    default: Any = option.get_default(context, call=True)
    shown = "" if option.is_flag or option.required or not _shown(default) else f"`{default}`"
    meaning = _prose(option.help or COMMON.get(option.opts[0], "")) + (" May be repeated." if option.multiple else "")
    return names, value, "**required**" if option.required else shown, meaning


def _shown(default: Any) -> bool:
    return isinstance(default, (str, int, float)) or hasattr(default, "__fspath__")


def _prose(text: str) -> str:
    """Help text as Markdown: words in capitals and brackets are no markup."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
