"""Command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from typing import Any

import click

from harness.cli.compare import compare
from harness.cli.diff import diff
from harness.cli.figures import figures
from harness.cli.judge_card import judge_card
from harness.cli.listing import benchmarks, budgets, methods, oracles
from harness.cli.models import fetch_model, train_reward
from harness.cli.new_method import new_method
from harness.cli.pages import leaderboard, rescore
from harness.cli.plan import plan
from harness.cli.power import power
from harness.cli.published import published
from harness.cli.report import report
from harness.cli.score import score
from harness.cli.store import store
from harness.errors import UserError


class _Group(click.Group):
    """A group whose user errors are one sentence and exit code 2."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"Error: {error}" + ("" if str(error).endswith((".", "?")) else "."), err=True)
            context.exit(2)
        except OSError as error:
            from harness.store.storage import storage_fault

            if not (sentence := storage_fault(error)):
                raise
            click.echo(f"Error: {sentence}.", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Finished work is kept: the same command goes on from here.", err=True)
            context.exit(130)


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from harness import __version__

        click.echo(f"sail-bench {__version__}")
        context.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Show the version.")
def main() -> None:
    """Which preference-optimisation method should I use, given what I can spend?

    Trains each method from the same start policy under a matched budget, evaluates all of them, and writes tables with
    intervals, costs and verdicts. The same command again resumes.
    """


for _command in (
    *(compare, plan, power, leaderboard, report, figures, diff, published, rescore, score),
    *(judge_card, train_reward, new_method, fetch_model, methods, benchmarks, oracles, budgets, store),
):
    main.add_command(_command)
