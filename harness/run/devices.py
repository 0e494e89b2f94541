"""Which devices this machine has, and how many runs work side by side. Asked without a first CUDA call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, takewhile

from harness.errors import UserError
from harness.store.environment import gpus
from harness.store.settings import settings

VISIBLE = "CUDA_VISIBLE_DEVICES"

SIMULATED = "simulated-"
"""Prefix of devices that :envvar:`SAIL_BENCH_DEVICES` adds for tests: a run process gets nothing of them."""


@dataclass(frozen=True)
class Workers:
    """How the runs of a command share the machine.

    Attributes:
        devices: one a worker, or several, where a run trains in several processes: the value of
            ``CUDA_VISIBLE_DEVICES`` in its processes, or None where there is no GPU.
            A GPU that several workers share is named several times.
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

    A list in that variable (of a user or a scheduler) is kept to, as CUDA reads it: what follows a name of no device
    does not count. ``SAIL_BENCH_DEVICES`` stands for so many devices.

    Args:
        environment: this process's if None.
    """
    environment = os.environ if environment is None else environment
    simulated = settings().devices
    if simulated:
        return [f"{SIMULATED}{i}" for i in range(simulated)]
    listed, present = environment.get(VISIBLE), len(gpus())
    if listed is None:
        return [str(i) for i in range(present)]
    names = [name.strip() for name in listed.split(",")]
    usable = takewhile(lambda name: name not in ("", "-1", "NoDevFiles") and not _beyond(name, present), names)
    return list(dict.fromkeys(usable))


def _beyond(name: str, present: int) -> bool:
    """Whether a device is named by a number that none has, as far as the number of devices is known."""
    return bool(present) and name.isdecimal() and int(name) >= present


def workers_of(
    request: str, axis: str, fits: Callable[[int], bool] = lambda count: True, processes: int = 1
) -> Workers:
    """The workers of a command.

    Args:
        request: what ``--workers`` says: ``auto`` is one a GPU, and without a GPU :func:`workers_on_cpu`. More than
            there are GPUs share them, which pays where a model is so small that one run leaves its GPU idle.
        axis: of the budget. Runs that share a device slow each other down, so that seconds would match nothing.
        fits: whether so many runs fit into memory.
        processes: in which each run trains (``train.processes``); each has a GPU, where there are any.

    Raises:
        UserError: a number that cannot be, too few GPUs, or a budget of seconds for runs that share a device.
    """
    devices = device_groups(visible_devices(), processes)
    automatic = len(devices) or workers_on_cpu(axis, max(1, usable_cores() // processes), fits)
    count = automatic if request == "auto" else _number(request)
    if axis == "seconds" and count > max(1, len(devices)):
        shared = f"{len(devices)} GPU{'s' if len(devices) > 1 else ''}" if devices else "one CPU"
        raise UserError(
            f"--workers {count} on {shared} slows each run down, and this budget counts seconds: leave --workers out"
        )
    threads = None if count == 1 or threads_chosen() else max(1, usable_cores() // count)
    return Workers(tuple(islice(cycle(devices or [None]), count)), threads)


def device_groups(devices: Sequence[str], processes: int) -> list[str]:
    """Devices as runs get them, so many each: values of ``CUDA_VISIBLE_DEVICES``.

    Args:
        devices: as :func:`visible_devices` gives them.
        processes: in which each run trains.

    Raises:
        UserError: there are some, and too few for one run.
    """
    if devices and len(devices) < processes:
        raise UserError(
            f"train.processes: {processes} needs as many GPUs, and {len(devices)} can be used here: lower it, or make "
            f"more visible ({VISIBLE})"
        )
    starts = range(0, len(devices) - processes + 1, processes)
    return [",".join(devices[start : start + processes]) for start in starts]


MOST_ON_CPU = 4
"""Runs side by side on a CPU: memory and its bandwidth carry no more."""


def workers_on_cpu(axis: str, cores: int, fits: Callable[[int], bool]) -> int:
    """How many runs work side by side on a CPU unless the user says it.

    Small matrices scale badly over threads, so that two runs with a thread each are faster than one with two.

    Args:
        axis: of the budget; one run at a time where it counts seconds.
        cores: that may be used.
        fits: whether so many runs fit into memory.
    """
    most = 1 if axis == "seconds" else min(MOST_ON_CPU, max(1, cores // (threads_chosen() or 1)))
    return next((count for count in range(most, 1, -1) if fits(count)), 1)


def threads_chosen() -> int:
    """Threads that ``OMP_NUM_THREADS`` asks for, to which torch keeps; 0 if it is not set."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(request: str) -> int:
    if not request.isdecimal() or int(request) < 1:
        raise UserError(f"--workers {request} is no number of workers: give auto, or 1 or more")
    return int(request)


def refuse_launcher(environment: Mapping[str, str], command: str) -> None:
    """Refuse a command that a launcher started once for each GPU: the copies would wait for each other.

    Args:
        environment: of this process.
        command: its name.

    Raises:
        UserError: ``WORLD_SIZE`` is over 1.
    """
    size = environment.get("WORLD_SIZE", "1").strip()
    if size.isdecimal() and int(size) > 1:
        more = "; --workers uses the GPUs" if command == "compare" else ""
        raise UserError(
            f"{command} runs once, and {size} copies of it were started (WORLD_SIZE={size}): start it without torchrun "
            f"or accelerate launch{more}"
        )


def claim(device: str | None, threads: int | None) -> None:
    """Make a device, and so many threads, those of this process: to be called before its first CUDA call.

    Args:
        device: a name of :func:`visible_devices`, or None where it names none: then this process sees one GPU at most,
            for a trainer would split its batches over several.
        threads: of torch; None leaves its own choice.

    Raises:
        UserError: torch cannot use the device, so that the work would be done on the CPU.
    """
    import torch

    if device is None or device.startswith(SIMULATED):
        os.environ.setdefault(VISIBLE, "0")
    else:
        os.environ[VISIBLE] = device
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order of the driver's own list
        if gpus() and not torch.cuda.is_available():
            raise UserError(
                f"torch {torch.__version__} cannot use the GPU {device}: install one that is built for its driver, or "
                f"set {VISIBLE}=-1 to work on the CPU"
            )
    if threads is not None:
        torch.set_num_threads(threads)


def claim_one(environment: Mapping[str, str], command: str) -> None:
    """Make the first device that of a command which works in its own process.

    Args:
        environment: of this process.
        command: its name.

    Raises:
        UserError: a launcher started several copies, or torch cannot use the device.
    """
    refuse_launcher(environment, command)
    devices = visible_devices(environment)
    if devices:
        claim(devices[0], None)
