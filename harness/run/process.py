"""The process of one run, or of a part of one: its log, its events. It ends when its parent does."""

from __future__ import annotations

import sys
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from harness.errors import UserError, reason_of
from harness.recipe.recipe import Recipe
from harness.run.child import REASON_LETTERS, die_with_parent, ignore_ctrl_c, write_output_to
from harness.run.devices import claim
from harness.run.job import Event, Job
from harness.run.out_of_memory import ran_out_of_memory, settings_to_lower
from harness.run.run import Run
from harness.store.environment import gpus
from harness.store.hub import switch_off
from harness.store.notices import listening
from harness.store.redaction import redacted
from harness.store.settings import Settings, using
from harness.store.storage import storage_fault


def run_job(job: Job, events: Connection, device: str | None, threads: int | None) -> None:
    """Body of a run process: redirect output to the log, work, report.

    Args:
        job: what is to be done.
        events: gets an :class:`Event` at a time.
        device: the GPU of this process, by its name in ``CUDA_VISIBLE_DEVICES``; None leaves that variable alone.
        threads: of torch; None leaves its own choice.
    """
    ignore_ctrl_c()
    die_with_parent()
    plan = None
    try:
        write_output_to(Path(job.log))
        began = time.perf_counter()
        claim(device, threads)
        given = Settings.load(job.settings)
        if given.offline:  # the command may have found that out after the server of processes had begun
            switch_off()
        with using(given), listening(lambda text: events.send(Event("say", text))):
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
