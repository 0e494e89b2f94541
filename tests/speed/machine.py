"""The machine that a run is on: its name, what it is made of, and its limits, measured."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.speed.measure import timed

SIZE, COPIED = 2048, 2**28
"""Rows of the square matrices; bytes that are copied."""


class Limits(NamedTuple):
    """Best of several tries on the device that models are computed on.

    Attributes:
        gemm: operations a second of a product of two square float32 matrices of 2,048 rows.
        copy: bytes a second that are read, and written, in copying 256 MiB.
    """

    gemm: float
    copy: float


def machine_name() -> str:
    """Such as ``nvidia-h100-80gb-hbm3`` or ``intel-xeon-platinum-8481c-2-cores``: nothing that names a host."""
    from harness.run.devices import usable_cores
    from harness.store.environment import gpus

    if gpus():
        return _slug(gpus()[0]["name"])
    return _slug(f"{_processor()} {usable_cores()} cores")


def _processor() -> str:
    """What the CPU calls itself, its clock left out."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    named = next((line.split(":", 1)[1] for line in lines if line.startswith("model name")), "")
    named = re.sub(r"@.*|\((R|TM)\)|\bCPU\b|\bProcessor\b", "", named)
    return named.strip() or platform.processor() or platform.machine()


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def measure_limits(tries: int = 5) -> Limits:
    """The limits, now."""
    import torch

    gemm = product()
    source = torch.ones(COPIED // 4, device=_device())
    target = torch.empty_like(source)
    copy = min(timed(lambda: target.copy_(source)) for _ in range(tries + 1))
    return Limits(max(gemm() for _ in range(tries + 1)), COPIED / copy)


def product() -> Callable[[], float]:
    """A function that multiplies the matrices and returns the operations a second."""
    import torch

    one, two = (torch.randn(SIZE, SIZE, device=_device()) for _ in range(2))
    out = torch.empty_like(one)
    return lambda: 2 * SIZE**3 / timed(lambda: torch.mm(one, two, out=out))


def _device() -> str:
    from harness.answer.load import device

    return device()


def describe() -> dict[str, Any]:
    """Hardware, software and threads, as results name them."""
    import torch

    from harness.run.devices import usable_cores
    from harness.store.environment import environment

    return environment() | {"cores": usable_cores(), "threads": torch.get_num_threads(), "device": _device()}
