"""Training in several processes of one machine (``train.processes``), joined by ``torch.distributed``.

The process of the run starts them, passes their progress on, and gets what they spent and logged. Each has its part of
the pairs; the first one saves the policy and the checkpoints.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from harness.budget.flops import Shape
from harness.errors import UserError, reason_of
from harness.run.child import REASON_LETTERS, die_with_parent, ignore_ctrl_c, processes, write_output_to
from harness.run.devices import VISIBLE, claim
from harness.run.job import Job
from harness.store.notices import listening
from harness.store.settings import Settings, using

SETTLE_S = 3.0
"""After the first process failed, so long for the others: they often fail by its absence, and one may know why."""

HANDED_ON = (VISIBLE, "CUDA_DEVICE_ORDER")
"""Environment variables of the run's process that its ranks need."""


@dataclass(frozen=True)
class RankTask:
    """What each process of a training is given.

    Attributes:
        job: of the run.
        settings: of the training: a point of the search, and the seed.
        pairs: folder of the stored pairs; ``work``: the work folder.
        threads: of torch in each process.
        environment: variables that each process has.
    """

    job: Job
    settings: Mapping[str, Any]
    pairs: str
    work: str
    threads: int
    environment: Mapping[str, str]

    @classmethod
    def of(cls, job: Job, settings: Mapping[str, Any], pairs: Path, work: Path) -> RankTask:
        """The task of this process's ranks, which share its devices and its threads."""
        import torch

        environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
        threads = max(1, torch.get_num_threads() // job.processes)
        return cls(job, dict(settings), str(pairs), str(work), threads, environment)


class Trained(NamedTuple):
    """What a training in several processes came to.

    Attributes:
        ledger: what all processes spent, as JSON.
        log: rows of the training log.
        folder: what the method returned.
        shape: of the model in training; None if nothing was trained.
    """

    ledger: dict[str, Any]
    log: list[dict[str, float]]
    folder: Any
    shape: Shape | None


Train = Callable[[RankTask, Callable[[str, Any], None]], Trained]
"""Trains in a process of several; the second argument gets its events."""


def train_in_ranks(task: RankTask, train: Train, emit: Callable[[str, Any], None]) -> Trained:
    """Train in the processes of a task, and wait for them.

    Args:
        task: for each of them.
        train: the work of one, a function of a module.
        emit: gets the events of the first one.

    Raises:
        UserError: one met what the user can change.
        RuntimeError: one failed otherwise, or was killed; the others are ended. So is any other error of one.
    """
    context, port = processes(), _free_port()
    started, receivers = [], []
    for rank in range(task.job.processes):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_rank, args=(task, train, rank, port, sender), name=f"rank-{rank}")
        process.start()
        sender.close()
        started.append(process)
        receivers.append(receiver)
    try:
        return _followed(receivers, emit)
    finally:
        for process in started:
            process.kill()
        for process, receiver in zip(started, receivers, strict=True):
            process.join()
            receiver.close()


def _followed(receivers: list[Connection], emit: Callable[[str, Any], None]) -> Trained:
    """Pass events on until all are done; what the first one came to."""
    open_ones, results, errors, until = dict(enumerate(receivers)), dict[int, Trained](), list[BaseException](), None
    while open_ones:
        patience = None if until is None else max(0.0, until - time.monotonic())
        ready = wait(list(open_ones.values()), patience)
        if not ready:
            break
        for rank in [rank for rank, receiver in open_ones.items() if receiver in ready]:
            try:
                kind, value = open_ones[rank].recv()
            except EOFError:
                errors.append(RuntimeError(f"process {rank} of the training ended without a word"))
                kind = "failed"
                del open_ones[rank]
            else:
                if kind in ("trained", "failed"):
                    del open_ones[rank]
                if kind == "trained":
                    results[rank] = value
                elif kind == "failed":
                    errors.append(value)
                elif rank == 0:
                    emit(kind, value)
            if kind == "failed" and until is None:
                until = time.monotonic() + SETTLE_S
    if errors:
        raise sorted(errors, key=_says_little)[0]
    return results[0]


def _says_little(error: BaseException) -> int:
    """How little an error says of what went wrong: others fail by the absence of the process that met it."""
    if isinstance(error, UserError | FloatingPointError):
        return 0
    words = str(error).lower()
    absent = any(word in words for word in ("ended without a word", "connection", "gloo", "nccl", "peer"))
    return 2 if absent else 1


def _rank(task: RankTask, train: Train, rank: int, port: int, events: Connection) -> None:
    """Body of a process: join the others, train, report."""
    die_with_parent()
    ignore_ctrl_c()
    try:
        log = Path(task.job.log)
        write_output_to(log if rank == 0 else log.with_name(f"{log.stem}-process-{rank}.log"))
        os.environ.update(task.environment)
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(task.job.processes),
            LOCAL_WORLD_SIZE=str(task.job.processes),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        claim(os.environ.get(VISIBLE), task.threads)
        _take_device(rank)
        emit: Callable[[str, Any], None] = lambda kind, value: events.send((kind, value)) if rank == 0 else None  # noqa: E731
        with using(Settings.load(task.job.settings)), listening(lambda text: emit("say", text)):
            trained = train(task, emit)
        _leave_group()
        events.send(("trained", trained))
    except BaseException as error:  # noqa: BLE001 - it belongs in the row of the run
        with suppress(OSError):
            traceback.print_exc()
        events.send(("failed", _as_sent(error)))
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()


def _take_device(rank: int) -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(rank)


def _leave_group() -> None:
    """Wait for the others and leave: a process that ends earlier would look lost to them."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _as_sent(error: BaseException) -> BaseException:
    """An error that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever its class does
        return RuntimeError(reason_of(error, REASON_LETTERS))
    return error


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
