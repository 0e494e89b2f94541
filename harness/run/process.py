"""The process of one run: its job, its log, its events; it ends when its parent does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run.make_runs import make_runs
from harness.run.run import Run
from harness.store.stages import Store

Event = tuple[str, Any]


@dataclass(frozen=True)
class Job:
    """What a run process is told (all of it can be pickled)."""

    recipe: Recipe
    budget: str
    method: str
    seed: int
    benchmarks: tuple[str, ...]
    store: Path
    log: Path


def main(job: Job, events: Connection) -> None:
    """Body of a run process: redirect output to the log, work, report. Ends when the parent does."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends this process
    job.log.parent.mkdir(parents=True, exist_ok=True)
    log = job.log.open("a", encoding="utf-8", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    plan = None
    try:
        began = time.perf_counter()
        plan = make_runs(job.recipe, job.budget, [job.method], job.seed + 1, list(job.benchmarks), Store(job.store))[-1]
        Run(plan, lambda kind, value: events.send((kind, value))).work()
        print(f"done in {time.perf_counter() - began:.1f} s", flush=True)
        events.send(("done", None))
    except UserError as error:
        shared = plan is None or not plan.store.done(plan.pairs)  # such an error would meet every run
        events.send(("user error" if shared else "failed", str(error)))
    except BaseException as error:  # noqa: BLE001 - whatever a run raises belongs in its row
        traceback.print_exc()
        events.send(("failed", f"{type(error).__name__}: {error}".split("\n")[0]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _die_with_parent() -> None:
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()
