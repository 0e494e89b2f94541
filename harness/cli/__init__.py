"""Command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from harness.cli.compare import compare
from harness.cli.diff import diff
from harness.cli.doctor import doctor
from harness.cli.figures import figures
from harness.cli.judge_card import judge_card
from harness.cli.listing import benchmarks, budgets, methods, oracles
from harness.cli.models import fetch_model, train_reward
from harness.cli.new_method import new_method
from harness.cli.new_recipe import new_recipe, schema
from harness.cli.pages import leaderboard, rescore
from harness.cli.plan import plan
from harness.cli.power import power
from harness.cli.published import published
from harness.cli.report import report
from harness.cli.run_job import run_job
from harness.cli.score import score
from harness.cli.store import store
from harness.cli.terminal import say
from harness.cli.usage import refuse_repeated, with_advice
from harness.errors import UserError
from harness.store.foreign_text import one_line

MOST_ERRORS = 40
"""Lines of errors that a command prints."""

AGAIN_S = 0.05
"""Seconds after which a signal that Python has ignored is sent again."""

EXIT_CODES = (
    "Exit codes: 0, all went well; 1, a run failed, or a check found a difference; 2, a mistake in the command, the "
    "recipe or the data; 3, nothing to compare (diff); 130 or 143, interrupted. docs/command-line.md has more."
)
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it."""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what is finished is kept, and one line says so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise _Terminated

    before, hook = signal.signal(signal.SIGTERM, end), sys.unraisablehook

    def once_more(ignored: Any) -> None:
        """A signal that came while an object was cleared away was ignored: it comes again a moment later."""
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            hook(ignored)
            return
        number = signal.SIGTERM if isinstance(ignored.exc_value, _Terminated) else signal.SIGINT
        again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = once_more
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class _Group(click.Group):
    """A group whose user errors are a sentence each, and exit code 2."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(context, args)
        except click.UsageError as error:
            raise with_advice(error, self) from None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(context, args)
        if command is not None:
            refuse_repeated(command, context, rest)
        return name, command, rest

    def invoke(self, context: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            context.color = False
        try:
            with _terminated_as_interrupted():
                return super().invoke(context)
        except click.UsageError as error:
            raise with_advice(error, self) from None
        except UserError as error:
            for sentence in map(one_line, error.sentences[:MOST_ERRORS]):
                say(f"Error: {sentence}" + ("" if sentence.endswith((".", "?")) else "."), err=True)
            if len(error.sentences) > MOST_ERRORS:
                say(f"Error: there are {len(error.sentences) - MOST_ERRORS:,} more.", err=True)
            context.exit(2)
        except OSError as error:
            from harness.store.storage import storage_fault

            if not (sentence := storage_fault(error)):
                raise
            say(f"Error: {sentence}.", err=True)
            context.exit(2)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from harness.run.plugins import culprit

            if not (sentence := culprit(error)):
                raise
            say(f"Error: {one_line(sentence)}.", err=True)
            context.exit(2)
        except KeyboardInterrupt as error:
            say("\nInterrupted. Finished work is kept: the same command resumes.", err=True)
            context.exit(143 if isinstance(error, _Terminated) else 130)


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from harness import __version__

        say(f"sail-bench {__version__}")
        context.exit()


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings=SETTINGS)
@click.option("--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Show the version.")
def main() -> None:
    """Which preference-optimisation method should I use, given what I can spend?

    Trains each method from the same start policy under a matched budget, evaluates all of them, and writes tables with
    intervals, costs and verdicts. The same command again resumes.
    """


for _command in (
    *(compare, run_job, plan, doctor, power, leaderboard, report, figures, diff, published, rescore, score),
    *(judge_card, train_reward, new_recipe, schema, new_method, fetch_model),
    *(methods, benchmarks, oracles, budgets, store),
):
    main.add_command(_command)
