"""``sail-bench doctor``: what this machine has, and what will work on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import use_settings
from harness.cli.terminal import say, say_json

if TYPE_CHECKING:
    from harness.run.doctor import Diagnosis

GIB = 2**30


@click.command()
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path(".sail-bench"),
    show_default=True,
    help="The store to look for.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Official data.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(store: Path, data_dir: Path | None, as_json: bool) -> None:
    """What this machine has, and what will and will not work on it, with the reason.

    Nothing is loaded, fetched or asked. Of keys only whether they are set is looked at.
    """
    from harness.run.doctor import diagnose

    use_settings(data_dir)
    diagnosis = diagnose(store)
    if as_json:
        say_json(diagnosis.as_json())
        return
    for line in [*_facts(diagnosis), "", *_features(diagnosis)]:
        say(line)


def _facts(diagnosis: Diagnosis) -> list[str]:
    """What the machine has, a line each."""
    from harness.errors import install
    from harness.run.doctor import others

    cuda = f"CUDA {diagnosis.cuda}" if diagnosis.cuda else "no CUDA"
    libraries = [f"{name} {number}" for name, number in diagnosis.libraries.items()]
    cards = [f"{gpu['name']} ({gpu['memory.total']}, driver {gpu['driver_version']})" for gpu in diagnosis.gpus]
    keys = [f"{name} {'set' if there else 'not set'}" for name, there in diagnosis.keys.items()]
    extras = [
        f"  extra {name}: " + (f"{', '.join(missing)} not installed: {install(name)}" if missing else "installed")
        for name, missing in diagnosis.extras.items()
    ]
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in diagnosis.plugins.items())
    foreign = "".join(f"; {origin}: {', '.join(names)}" for origin, names in others(diagnosis).items())
    return [
        f"SAIL-bench {diagnosis.sail_bench}, Python {diagnosis.python}, {diagnosis.system}",
        f"  libraries: {', '.join(libraries)} ({cuda})",
        f"  machine: {diagnosis.cores} cores, {diagnosis.memory / GIB:.1f} GiB; GPUs: {', '.join(cards) or 'none'}"
        + (f"; used: {', '.join(diagnosis.devices)}" if len(diagnosis.devices) < len(cards) else ""),
        f"  store {diagnosis.store}: {diagnosis.free / 1e9:.0f} GB free",
        f"  Hub: {'switched off' if diagnosis.offline else 'switched on, not asked'}",
        f"  data folder: {diagnosis.data_dir or 'none (--data-dir or SAIL_BENCH_DATA_DIR)'}",
        f"  keys: {', '.join(keys)}",
        *extras,
        f"  plugins: {counts}{foreign}",
        *(f"  BROKEN {problem.what}: {problem.text}" for problem in diagnosis.broken),
        f"  cached models: {', '.join(diagnosis.models) or 'none'}",
        f"  cached data sets: {', '.join(diagnosis.datasets) or 'none'}",
    ]


def _features(diagnosis: Diagnosis) -> list[str]:
    """What will work and what will not, a line each."""
    lines = []
    for title, works in (("Works:", True), ("Does not work:", False)):
        rows = [feature for feature in diagnosis.features if feature.works is works]
        lines += (
            [title, *(f"  {': '.join(filter(None, [row.name, row.why, row.fix]))}" for row in rows)] if rows else []
        )
    return lines
