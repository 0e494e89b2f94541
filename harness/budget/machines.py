"""Machines as data: what a device can compute, hold and move, and what an hour of it typically costs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UserError, unknown

MIB = 2**20
MOST_DEVICES = 1024
"""That ``--machine`` may name."""

CORE_FLOPS, CORE_BANDWIDTH = 1e11, 8e9
"""Of one CPU core: 16 float32 multiply-adds a cycle at 3 GHz, and its share of the memory's bandwidth (bytes/s)."""


@dataclass(frozen=True)
class Device:
    """One device.

    Attributes:
        name: as ``--machine`` takes it.
        bf16: dense peak in operations a second, None if it has no such units; tf32, fp32: the same.
        memory: bytes, as its driver reports them.
        bandwidth: of its memory, in bytes a second.
        price: of an hour in USD, typical on demand; None if there is no typical one.
        match: what the driver calls it, as a regular expression.
    """

    name: str
    bf16: float | None
    tf32: float | None
    fp32: float
    memory: float
    bandwidth: float
    price: float | None = None
    match: str = ""

    @property
    def gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name != "cpu"

    def peak(self, compute_bytes: int, tf32: bool = False) -> float:
        """Operations a second in matrix products. What the device has no units for is computed in float32.

        Args:
            compute_bytes: 2 for bfloat16, 4 for float32.
            tf32: whether float32 may be multiplied by TF32.
        """
        return (self.bf16 if compute_bytes == 2 else self.tf32 if tf32 else None) or self.fp32


@dataclass(frozen=True)
class Machine:
    """So many equal devices. ``has_speed``: whether the speed of such a device is in :data:`DEVICES`;
    ``here``: whether it is the machine at hand."""

    device: Device
    count: int = 1
    has_speed: bool = True
    here: bool = False

    @property
    def name(self) -> str:
        """Such as ``8 x h100``."""
        return f"{self.count} x {self.device.name}" if self.device.gpu else "this CPU"


def _device(
    name: str,
    tera: tuple[float | None, float | None, float],
    mib: int,
    gigabytes_a_second: float,
    price: float | None,
    match: str,
) -> Device:
    bf16, tf32, fp32 = (None if t is None else t * 1e12 for t in tera)
    assert fp32 is not None
    return Device(name, bf16, tf32, fp32, mib * MIB, gigabytes_a_second * 1e9, price, match)


# Peaks (dense, without sparsity; with accumulation in float32) and bandwidths: NVIDIA's data sheets of H100 SXM5, H200
# SXM, A100 SXM4, L40S, L4, A10 (A10G: AWS), V100 SXM2, GB202/AD102/GA102 white papers, HGX B200; AMD's of MI300X.
# Memory: what nvidia-smi or rocm-smi lists. Prices: middle of specialised providers' on-demand prices in May 2026
# (mercatus-ai.com/blog/cloud-gpu-pricing: H100 2.50-3.50, H200 3.50-4.50, A100 80 GB 1.10-1.50); L40S, L4 and A10G:
# AWS on demand, g6e.xlarge, g6.xlarge and g5.xlarge.
DEVICES: Mapping[str, Device] = {
    d.name: d
    for d in (
        _device("h100", (989, 495, 67), 81559, 3350, 3.0, r"H100"),
        _device("h200", (989, 495, 67), 143771, 4800, 4.0, r"H200"),
        _device("b200", (2250, 1125, 80), 183359, 8000, None, r"B200"),
        _device("a100-80", (312, 156, 19.5), 81920, 2039, 1.3, r"A100.*80"),
        _device("a100-40", (312, 156, 19.5), 40960, 1555, None, r"A100"),
        _device("l40s", (362, 183, 91.6), 46068, 864, 1.86, r"L40S"),
        _device("l4", (121, 60, 30.3), 23034, 300, 0.80, r"\bL4\b"),
        _device("a10g", (70, 35, 35), 23028, 600, 1.01, r"A10G"),
        _device("rtx4090", (165, 82.6, 82.6), 24564, 1008, None, r"RTX 4090"),
        _device("rtx3090", (71, 35.6, 35.6), 24576, 936, None, r"RTX 3090"),
        _device("v100", (None, None, 15.7), 32768, 900, None, r"V100"),
        _device("mi300x", (1307, 654, 163.4), 196592, 5300, None, r"MI300X"),
    )
}


def cpu(cores: int) -> Device:
    """The CPU at hand, with its main memory, or what a container may use of it."""
    memory = min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), container_memory())
    return Device("cpu", None, None, CORE_FLOPS * cores, float(memory), CORE_BANDWIDTH * cores)


def container_memory(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that Linux lets this process's control groups use: the lowest limit of its own and those above it.

    Args:
        groups: names the groups, a line a hierarchy: ``0::/a/b`` in version 2, ``4:memory:/a/b`` in version 1.
        root: where both are mounted. A container often sees its own group there.

    Returns:
        Infinite where there is no limit, or no control group.
    """
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return math.inf
    limits = [math.inf]
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if number == "0" and not controllers:
            mounted, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            mounted, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = mounted / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(mounted):
                limits.append(_limit(folder / name))
    return min(limits)


def _limit(file: Path) -> float:
    """The bytes in a control group's file; infinite if there is no such file, or it says ``max``."""
    try:
        text = file.read_text().strip()
    except OSError:
        return math.inf
    return float(text) if text.isdigit() else math.inf


def machine_at_hand(gpus: Sequence[Mapping[str, str]], visible: Sequence[str], cores: int) -> Machine:
    """The machine that the command runs on. Where it has several kinds of GPUs, the first visible one stands for all.

    Args:
        gpus: as :func:`harness.store.environment.gpus` lists them.
        visible: those that runs may use, as ``CUDA_VISIBLE_DEVICES`` names them: by number or UUID.
        cores: of the CPU, which counts where there is no GPU.
    """
    if not gpus or not visible:
        return Machine(cpu(cores), here=True)
    gpu = _gpu_named(gpus, visible[0])
    name, listed, count = gpu["name"], gpu["memory.total"], len(visible)
    memory = float(listed.split()[0]) * MIB
    device = next((d for d in DEVICES.values() if re.search(d.match, name)), None)
    if device is None:
        return Machine(Device(name, None, None, 0.0, memory, 0.0), count, has_speed=False, here=True)
    if device.name.startswith("a100"):
        device = DEVICES["a100-80" if memory > 60e9 else "a100-40"]
    return Machine(replace(device, memory=memory), count, here=True)


def _gpu_named(gpus: Sequence[Mapping[str, str]], name: str) -> Mapping[str, str]:
    """The GPU that ``CUDA_VISIBLE_DEVICES`` names: by its number in the driver's list, or the beginning of its UUID.
    The first one for other names (of a part of a GPU, say)."""
    if name.isdigit() and int(name) < len(gpus):
        return gpus[int(name)]
    return next((gpu for gpu in gpus if name and gpu.get("uuid", "").startswith(name)), gpus[0])


def machine_named(text: str, cores: int) -> Machine:
    """The machine that ``--machine`` names: a device, with ``xN`` for N of them.

    Args:
        text: such as ``h100x8``, ``a100-80`` or ``cpu``.
        cores: of the CPU at hand, for ``cpu``.

    Raises:
        UserError: no such device, none of it, or more than :data:`MOST_DEVICES`.
    """
    name, count = text.lower(), ""
    if name not in DEVICES and (match := re.fullmatch(r"(.+)x(\d+)", name)):
        name, count = match.groups()
    if name == "cpu" and not count:
        return Machine(cpu(cores), here=True)
    if name not in DEVICES:
        if same := [device for device in DEVICES if name and device.startswith(name)]:
            raise UserError(f"--machine {text} could be {' or '.join(same)}: name one of them")
        raise unknown("device of --machine", text, [*DEVICES, "cpu", "this"])
    if len(count.lstrip("0")) > 4 or int(count or 1) > MOST_DEVICES:
        raise UserError(f"--machine {text[:24]} has more than {MOST_DEVICES:,} devices: give fewer, as in {name}x8")
    number = int(count or 1)
    if number < 1:
        raise UserError(f"--machine {text} has no device: give a number of at least 1, as in {name}x8")
    return Machine(DEVICES[name], number)
