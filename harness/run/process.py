"""The process of one run, or of a part of one: its job as data, its log, its events. It ends when its parent does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError, reason_of
from harness.recipe.recipe import Recipe
from harness.run.comparison import resolve
from harness.run.devices import claim
from harness.run.out_of_memory import ran_out_of_memory, settings_to_lower
from harness.run.plan import RunPlan, load_facts, load_run
from harness.run.run import ALL, Run
from harness.store.environment import gpus
from harness.store.foreign_text import CleanLog
from harness.store.notices import listening
from harness.store.redaction import redacted
from harness.store.settings import Settings, settings, using
from harness.store.stages import Store
from harness.store.storage import storage_fault

REASON_LETTERS = 500
"""Of the message of an error that a run ended with, at most."""


class Event(NamedTuple):
    """What a run process says: ``stage``, ``share``, ``advance`` and ``at`` are progress, ``say`` a line, ``logged`` a
    row of a training log for trackers; after ``checked`` no other process of the comparison has to check it; ``done``,
    ``failed`` (a reason) and ``user error`` (sentences that would meet every run) are the last one."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class Job:
    """All that a run process is given. It can be written as JSON, and holds no API key.

    Attributes:
        recipe: as JSON; ``folder``: where its file lies, if it came from one.
        budget: name; ``method``: name of the row; ``seed``: of the run; ``benchmarks``: those asked for;
        ``rows``: names of all rows of the comparison.
        nodes: the plan of the run, by :meth:`harness.run.plan.RunPlan.dump`.
        store: folder of finished stages; ``log``: the file that gets the output.
        settings: of the command that started it.
        part: what of the run is to be done; ``checked``: by another process (:meth:`harness.run.run.Run.work`).
    """

    recipe: Mapping[str, Any]
    folder: str | None
    budget: str
    method: str
    seed: int
    benchmarks: tuple[str, ...]
    rows: tuple[str, ...]
    nodes: Mapping[str, Any]
    store: str
    log: str
    settings: Mapping[str, Any]
    part: str = ALL
    checked: bool = False

    @property
    def minutes(self) -> float | None:
        """After which the job is ended, if the recipe sets a ``time_limit``."""
        limit: float | None = self.recipe.get("time_limit")
        return limit

    @classmethod
    def of(cls, plan: RunPlan, part: str = ALL, *, checked: bool = False) -> Job:
        """The job that works through a plan, or through a part of it.

        Args:
            plan: of the run.
            part: what of it is to be done.
            checked: whether another process of the comparison has checked that it can work.
        """
        comparison = plan.comparison
        recipe, root = comparison.recipe, comparison.store.root.resolve()
        name = f"{recipe.name}-{comparison.budget.name}-{plan.name}-seed-{plan.seed}"
        name += "" if part == ALL else f"-{part}"
        folder = recipe.data.folder if recipe.data.imported else None
        return cls(
            recipe=recipe.model_dump(mode="json"),
            folder=str(folder) if folder else None,
            budget=comparison.budget.name,
            method=plan.name,
            seed=plan.seed,
            benchmarks=comparison.wanted,
            rows=comparison.names,
            nodes=plan.dump(),
            store=str(root),
            log=str(root / "logs" / f"{name}.log"),
            settings=settings().dump(),
            part=part,
            checked=checked,
        )

    def plan(self) -> RunPlan:
        """The plan that it was made of, with what the store holds now."""
        recipe = Recipe.model_validate(self.recipe)
        if recipe.data.imported and self.folder:
            recipe.data._folder = Path(self.folder)
        facts = load_facts(self.nodes)
        comparison = resolve(recipe, self.budget, self.rows, self.benchmarks, Store(Path(self.store)), facts)
        return load_run(comparison, self.method, self.seed, self.nodes)


def run_job(job: Job, events: Connection, device: str | None, threads: int | None) -> None:
    """Body of a run process: redirect output to the log, work, report.

    Args:
        job: what is to be done.
        events: gets an :class:`Event` at a time.
        device: the GPU of this process, by its name in ``CUDA_VISIBLE_DEVICES``; None leaves that variable alone.
        threads: of torch; None leaves its own choice.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends this process
    plan = None
    try:
        _write_output_to(Path(job.log))
        began = time.perf_counter()
        claim(device, threads)
        with using(Settings.load(job.settings)), listening(lambda text: events.send(Event("say", text))):
            plan = job.plan()
            Run(plan, lambda kind, value: events.send(Event(kind, value))).work(job.part, checked=job.checked)
        print(f"done in {time.perf_counter() - began:.1f} s", flush=True)
        events.send(Event("done"))
    except UserError as error:
        shared = plan is None or not plan.comparison.store.done(plan.comparison.facts.pairs.stage)
        sentences = tuple(map(redacted, error.sentences))
        events.send(Event("user error", sentences) if shared else Event("failed", "; ".join(sentences)))
    except BaseException as error:  # noqa: BLE001 - whatever a run raises belongs in its row
        with suppress(OSError):  # the log may be what cannot be written
            traceback.print_exc()
        events.send(Event("failed", redacted(_reason(error, job, device))))
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()


def _write_output_to(path: Path) -> None:
    """Let all output of this process go to the log of its run. What Python code writes holds no key and is inert."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout, sys.stderr = CleanLog.of(1), CleanLog.of(2)


def _reason(error: BaseException, job: Job, device: str | None) -> str:
    """Why a run failed, in one line; of one that ran out of memory also which settings to lower, and of one that could
    not write what to do."""
    if sentence := storage_fault(error):
        return sentence
    reason = reason_of(error, REASON_LETTERS)
    if not ran_out_of_memory(error):
        return reason
    devices = 1 if device is None else len(gpus()) or job.settings["workers"]
    sharing = -(-job.settings["workers"] // devices)
    return f"{reason.rstrip('.')}: {settings_to_lower(Recipe.model_validate(job.recipe), sharing)}"


def _die_with_parent() -> None:
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(137)

    threading.Thread(target=watch, daemon=True).start()


def processes() -> Any:
    """A fork server that has the heavy libraries imported, so that each run starts quickly; spawn elsewhere."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    # a run that is ended by Ctrl-C leaves a semaphore behind; the tracker frees it and need not talk about it
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    # the server must make no CUDA call: its children could no longer choose their device
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["harness.run.preload"])
    return context
