"""The command line for tests: in this process, or in one of its own; and recipes that differ a little from `tiny`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from harness.cli import main
from harness.recipe.load import builtin_recipes

SAIL_BENCH = [sys.executable, "-c", "from harness.cli import main; main()"]
SMALL: dict[str, Any] = {"benchmarks": {"preference": {"max_new_tokens": 8}}, "tune": {"learning_rates": [1e-3]}}


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


Cli = Callable[..., Finished]


def run_here(*arguments: object, cwd: Path | None = None) -> Finished:
    """Run ``sail-bench`` in this process, in the folder ``cwd``. Its run processes come from this process's fork
    server, which has torch imported; an exception that a process would end with is on its standard error."""
    with contextlib.chdir(cwd or Path.cwd()):
        result = CliRunner().invoke(main, list(map(str, arguments)))
    stderr = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        stderr += "".join(traceback.format_exception(result.exception))
    return Finished(result.exit_code, result.stdout, stderr)


def run_process(*arguments: object, cwd: Path | None = None, timeout: float = 300) -> Finished:
    """Run ``sail-bench`` in a process of its own."""
    done = subprocess.run(
        [*SAIL_BENCH, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def kill_when(
    folder: Path,
    arguments: Sequence[object],
    ready: Callable[[], bool],
    how: signal.Signals = signal.SIGKILL,
    seconds: float = 120,
) -> None:
    """Start ``sail-bench`` in a process of its own and send it a signal as soon as ``ready``."""
    process = subprocess.Popen(
        [*SAIL_BENCH, *map(str, arguments)],
        cwd=folder,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell would have it ignored
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, how)
    process.wait(30)
    assert process.returncode != 0
    time.sleep(1.0)  # the run process notices that its parent is gone


def tiny_recipe(**changes: Any) -> dict[str, Any]:
    """The built-in recipe `tiny` with other top-level keys."""
    recipe: dict[str, Any] = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    return recipe | changes


def write_tiny(path: Path, **changes: Any) -> Path:
    """Write the recipe `tiny` with other top-level keys; its name is that of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tiny_recipe(name=path.stem) | changes))
    return path
