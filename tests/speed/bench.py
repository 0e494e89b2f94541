"""All comparisons in one run: ratios with intervals, the machine's limits, and what moved since the last run.

Run: ``python -m tests.speed.bench [--quick] [--only NAME,...] [--out FOLDER]``; docs/speed.md says what each line is.
Each comparison has a process and a time limit of its own. One that fails or runs out of time is reported, the others
go on, and the exit code is 1.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click

from tests.speed.limited import Ended, run_limited
from tests.speed.machine import describe, machine_name, measure_limits
from tests.speed.measure import Ratio, Setting, Skipped
from tests.speed.page import Outcome, Record, table, write_record

ROOT = Path(__file__).resolve().parents[2]

SKIPPED = 77
"""Exit code of a comparison's process that has nothing to measure."""


class Comparison(NamedTuple):
    """A comparison.

    Attributes:
        function: that yields its ratios, as ``MODULE.NAME`` below ``tests.speed``.
        limit: seconds after which it is ended; quick_limit: with ``--quick``.
    """

    function: str
    limit: float
    quick_limit: float


COMPARISONS = {
    "dpo": Comparison("training.dpo", 180, 60),
    "simpo": Comparison("training.simpo", 180, 60),
    "orpo": Comparison("training.orpo", 180, 60),
    "kto": Comparison("training.kto", 300, 60),
    "sail-dp": Comparison("training.sail_dp", 180, 60),
    "sail-pr": Comparison("online.sail_pr", 300, 60),
    "score-term": Comparison("online.score_term", 180, 60),
    "generation": Comparison("generation.against_generate", 300, 60),
    "vllm": Comparison("generation.against_vllm", 300, 240),
    "memory": Comparison("generation.memory", 120, 60),
    "products": Comparison("products.products", 120, 60),
    "utilisation": Comparison("utilisation.share_of_peak", 180, 60),
    "mmlu": Comparison("scoring.mmlu", 300, 60),
    "arc": Comparison("scoring.arc", 300, 60),
    "length-control": Comparison("scoring.length_control", 120, 60),
    "judge": Comparison("scoring.judging", 60, 60),
    "pages": Comparison("pages.pages", 180, 60),
    "commands": Comparison("commands.commands", 600, 240),
    "large-store": Comparison("spread.large_store", 180, 120),
    "workers": Comparison("spread.workers", 600, 240),
}


@click.command()
@click.option("--quick", is_flag=True, help="A small random model and small sizes: about two minutes on one core.")
@click.option("--only", metavar="NAME,...", help="These comparisons; without --out they are printed and not written.")
@click.option("--model", default="", help="The start policy, as a recipe names it (default: smollm2; --quick: tiny).")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the files (default: results/bench).")
def main(quick: bool, only: str | None, model: str, out: Path | None) -> None:
    """Compare speed side by side, and write the ratios with their intervals."""
    names = [name.strip() for name in only.split(",")] if only else list(COMPARISONS)
    if unknown := [name for name in names if name not in COMPARISONS]:
        raise click.UsageError(f"no comparison {unknown[0]!r}: choose from {', '.join(COMPARISONS)}")
    machine = machine_name()
    with tempfile.TemporaryDirectory(prefix="sail-bench-speed-") as scratch:
        limits = [measure_limits()]
        outcomes = [run_comparison(name, Setting(Path(scratch) / name, quick, model)) for name in names]
        limits.append(measure_limits())
    command = "python -m tests.speed.bench" + " --quick" * quick + (f" --only {only}" if only else "")
    command += f" --model {model}" if model else ""
    record = Record(machine, command, describe(), limits, outcomes)
    if only and out is None:
        click.echo(table(record, None))
    else:
        folder = out or ROOT / "results/bench"
        file = f"speed-{machine}" + "-quick" * quick
        click.echo(write_record(folder, file, record))
        click.echo(f"Written to {folder / file}.json and .md")
    sys.exit(int(any(outcome.status not in ("ok", "skipped") for outcome in outcomes)))


def run_comparison(name: str, setting: Setting) -> Outcome:
    """Run a comparison in a process of its own, and print a line about it.

    Args:
        name: of the comparison.
        setting: its folder, which is made, and its sizes.
    """
    folder, comparison = setting.folder, COMPARISONS[name]
    folder.mkdir()
    limit = comparison.quick_limit if setting.quick else comparison.limit
    ended = run_limited(run_part, (comparison, setting), folder / "log.txt", limit)
    outcome = outcome_of(name, ended, folder / "ratios.json", limit)
    first = ", ".join(f"{ratio.name} {ratio.ratio:.3g}" for ratio in outcome.ratios)
    print(f"{name}: {outcome.status} in {outcome.seconds:.0f} s {first or outcome.reason}", file=sys.stderr, flush=True)
    return outcome


def outcome_of(name: str, ended: Ended, file: Path, limit: float) -> Outcome:
    """What the process of a comparison says by its end.

    Args:
        name: of the comparison.
        ended: how the process ended.
        file: its ratios.
        limit: seconds that it had.
    """
    if ended.code == 0:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return Outcome(name, "ok", ended.seconds, tuple(Ratio(**row) for row in rows))
    if ended.code is None:
        return Outcome(name, "out of time", ended.seconds, reason=f"over {limit:.0f} s; its last line: {ended.last}")
    return Outcome(name, "skipped" if ended.code == SKIPPED else "failed", ended.seconds, reason=ended.last)


def run_part(comparison: Comparison, setting: Setting) -> int:
    """The body of a comparison's process: its exit code.

    Args:
        comparison: to run.
        setting: where, and how large.
    """
    module, _, function = comparison.function.partition(".")
    os.chdir(setting.folder)
    try:
        work: Callable[[Setting], Sequence[Ratio]] = getattr(import_module(f"tests.speed.{module}"), function)
        ratios = work(setting)
    except Skipped as reason:
        print(reason)
        return SKIPPED
    except Exception as error:  # noqa: BLE001 - whatever a comparison raises belongs in its row
        traceback.print_exc()
        print(f"{type(error).__name__}: {error}".splitlines()[0])
        return 1
    (setting.folder / "ratios.json").write_text(json.dumps([ratio._asdict() for ratio in ratios]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    main()
