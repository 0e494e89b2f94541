"""Mistakes in how a command is written: what click says of them, with the fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from harness.errors import UserError

OTHER_NAMES = {
    "--output": "--results FOLDER is where results go",
    "--out": "--results FOLDER is where results go",
    "--recipe": "give the recipe without a flag, as in 'sail-bench compare RECIPE'",
    "--config": "give the recipe without a flag, as in 'sail-bench compare RECIPE'",
    "--resume": "the same command again resumes",
    "--continue": "the same command again resumes",
    "run": "'sail-bench compare RECIPE' trains and evaluates",
    "train": "'sail-bench compare RECIPE' trains and evaluates",
    "eval": "'sail-bench compare RECIPE' trains and evaluates",
    "evaluate": "'sail-bench compare RECIPE' trains and evaluates",
}
"""Options and commands by names that they have elsewhere."""

ONE_EACH = {"budget": ", and run the command once for each budget"}
"""End of the sentence about an option that is given twice."""


def refuse_repeated(command: click.Command, context: click.Context, arguments: Sequence[str]) -> None:
    """Refuse an option with one value that is given more than once: the last would win without a word.

    Args:
        command: that is called.
        context: of the group that it belongs to.
        arguments: of the command.

    Raises:
        UserError: names the option.
    """
    own = click.Context(command, parent=context, info_name=command.name)
    try:
        _, rest, order = command.make_parser(own).parse_args(list(arguments))
    except click.UsageError:
        return  # the command itself says so
    for option, count in Counter(order).items():
        if count > 1 and isinstance(option, click.Option) and not (option.multiple or option.count or option.is_flag):
            times = "twice" if count == 2 else f"{count} times"
            raise UserError(f"{option.opts[0]} is given {times}: give it once{ONE_EACH.get(option.name or '', '')}")
    if isinstance(command, click.Group) and rest and rest[0] in command.commands:
        refuse_repeated(command.commands[rest[0]], own, rest[1:])


def with_advice(error: click.UsageError, group: click.Group) -> click.UsageError:
    """An error with the fix, where that is known.

    Args:
        error: of click.
        group: all commands.
    """
    advice = _advice(error, group)
    return click.UsageError(f"{error.message.rstrip('.')}: {advice}.", error.ctx) if advice else error


def _advice(error: click.UsageError, group: click.Group) -> str:
    context = error.ctx
    command = context.command if context else group
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        owners = [c.name for c in group.commands.values() if any(name in p.opts for p in c.params)]
        if command is group and owners:
            example = "compare" if "compare" in owners else owners[0]
            return f"options come after the command, as in 'sail-bench {example} ... {name} ...'"
        return OTHER_NAMES.get(name, "")
    if isinstance(error, click.exceptions.NoSuchCommand):
        return OTHER_NAMES.get(error.command_name, "")
    if error.message.startswith("Got unexpected extra argument") and any(p.name == "methods" for p in command.params):
        return (
            "a command takes one recipe, and names of a list have commas between them and no space, as in "
            "--methods dpo,sail-pr"
        )
    return ""
