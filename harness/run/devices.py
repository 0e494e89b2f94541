"""Which devices this machine has, and how many runs work side by side. Asked without a first CUDA call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import UserError
from harness.store.environment import gpus
from harness.store.settings import settings

SIMULATED = "simulated-"
"""Prefix of devices that :envvar:`SAIL_BENCH_DEVICES` adds for tests: a run process gets nothing of them."""


@dataclass(frozen=True)
class Workers:
    """How the runs of a command share the machine.

    Attributes:
        devices: one a worker: the value of ``CUDA_VISIBLE_DEVICES`` in its processes, or None where there is no GPU.
        threads: of torch in each worker; None leaves torch's own choice to one that works alone.
    """

    devices: tuple[str | None, ...]
    threads: int | None

    @property
    def count(self) -> int:
        """How many runs work side by side."""
        return len(self.devices)


def visible_devices(environment: Mapping[str, str] | None = None) -> list[str]:
    """Names of the GPUs that run processes may have, as ``CUDA_VISIBLE_DEVICES`` takes them.

    A list in that variable (of a user or a scheduler) is kept to. ``SAIL_BENCH_DEVICES`` stands for so many devices.

    Args:
        environment: this process's if None.
    """
    environment = os.environ if environment is None else environment
    simulated = settings().devices
    if simulated:
        return [f"{SIMULATED}{i}" for i in range(simulated)]
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return [str(i) for i in range(len(gpus()))]


def workers_of(request: str, axis: str) -> Workers:
    """The workers of a command.

    Args:
        request: what ``--workers`` says: ``auto`` is one a GPU, or one where there is none.
        axis: of the budget. Runs side by side slow each other down, so that seconds would match nothing.

    Raises:
        UserError: a number that cannot be, or more workers than GPUs.
    """
    devices = visible_devices()
    count = max(1, len(devices)) if request == "auto" else _number(request)
    if devices and count > len(devices):
        raise UserError(f"--workers {count} is more than the {len(devices)} GPUs here: give one worker a GPU, or auto")
    if axis == "seconds" and count > 1 and not devices:
        raise UserError(
            f"--workers {count} on one CPU slows each run down, and this budget counts seconds: leave --workers out"
        )
    chosen = "OMP_NUM_THREADS" in os.environ  # torch keeps to it
    threads = None if count == 1 or chosen else max(1, usable_cores() // count)
    return Workers(tuple(devices[:count]) or (None,) * count, threads)


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(request: str) -> int:
    if not request.isdigit() or int(request) < 1:
        raise UserError(f"--workers {request} is no number of workers: give auto, or 1 or more")
    return int(request)


def refuse_launcher(environment: Mapping[str, str]) -> None:
    """Refuse a command that a launcher started once for each GPU: the copies would wait for each other.

    Args:
        environment: of this process.

    Raises:
        UserError: ``WORLD_SIZE`` is over 1.
    """
    size = environment.get("WORLD_SIZE", "1")
    if size.isdigit() and int(size) > 1:
        raise UserError(
            f"compare runs once, and {size} copies of it were started (WORLD_SIZE={size}): start it without torchrun "
            "or accelerate launch; --workers uses the GPUs"
        )


def claim(device: str | None, threads: int | None) -> None:
    """Make a device, and so many threads, those of this process: to be called before its first CUDA call.

    Args:
        device: a name of :func:`visible_devices`, or None.
        threads: of torch; None leaves its own choice.
    """
    if device is not None and not device.startswith(SIMULATED):
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
