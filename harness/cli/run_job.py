"""``sail-bench run-job``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.terminal import say
from harness.errors import UserError, errors_of

if TYPE_CHECKING:
    from harness.run.job import Event


@click.command("run-job")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--idle-minutes",
    type=click.FloatRange(min=0),
    default=30,
    show_default=True,
    help="A worker of a folder ends when no job came for so long, or when the comparison is over.",
)
def run_job(path: Path, idle_minutes: float) -> None:
    """Work through the job in PATH (JSON), or through the jobs of a folder, for `compare --cluster jobs:FOLDER`.

    For any scheduler: start as many as there are GPUs to use, each with one visible. Results are written by `compare`
    alone; the same `compare` without --cluster writes those of jobs by hand.
    """
    from harness.run.devices import visible_devices
    from harness.run.progress import Display
    from harness.run.worker import work_file, work_folder

    devices = visible_devices()
    if len(devices) > 1:
        say(f"This worker uses GPU {devices[0]} of {len(devices)}: start another with each other one visible", err=True)
    if path.is_dir():
        count = work_folder(path, idle_minutes, lambda text: say(text, err=True))
        say(f"{count} jobs worked through", err=True)
        return
    if not path.exists():
        raise UserError(f"{path} does not exist: give the file of a job, or the folder of --cluster jobs:FOLDER")
    with Display(1, what="job") as shown:
        work = shown.begin(path.stem)

        def show(event: Event) -> None:
            if event.kind in ("stage", "share", "advance", "at", "say"):
                work.show(*event)

        last = work_file(path, show)
        work.finished("done" if last.kind == "done" else "FAILED")
    if last.kind == "user error":
        raise errors_of(last.value)
    if last.kind == "failed":
        say(f"{path}: {last.value}", err=True)
        sys.exit(1)
