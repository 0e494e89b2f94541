"""The software and hardware that a stage was made with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from harness import __version__
from harness.store.settings import settings

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


_facts: dict[str, Any] = {}


def note_fact(name: str, value: Any) -> None:
    """Add to the environment of this process something that can change numbers by rounding.

    Args:
        name: of the fact.
        value: as JSON.
    """
    _facts[name] = value


QUERY = ("name", "memory.total", "driver_version", "uuid")


@lru_cache(maxsize=1)
def gpus() -> tuple[dict[str, str], ...]:
    """The NVIDIA GPUs of this machine, by their driver's own tool: no CUDA call. Empty without that tool.

    Each has its ``name``, ``memory.total``, ``driver_version`` and ``uuid``.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.split(", ") for line in listed.splitlines() if line.strip()]
    return tuple(dict(zip(QUERY, row, strict=True)) for row in rows if len(row) == len(QUERY))


@lru_cache(maxsize=1)
def library_versions() -> Mapping[str, str]:
    """Versions of the libraries that results depend on. Looked up once: each is a file to be parsed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return MappingProxyType(versions)


def environment() -> dict[str, Any]:
    """Versions and hardware as JSON for a manifest, without names of users, hosts or folders."""
    return {
        "sail_bench": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "libraries": dict(library_versions()),
        **_accelerator(),
        **_sharing(),
        **_facts,
    }


def _accelerator() -> dict[str, Any]:
    """Name, memory and driver of this process's GPU, and the number of GPUs; nothing where it may use none. No UUID: it
    names the machine."""
    devices = gpus()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not devices or first in ("", "-1", "NoDevFiles"):
        return {}
    named = [i for i, device in enumerate(devices) if first == str(i) or device.get("uuid", "").startswith(first)]
    own = named[0] if named else 0
    torch = sys.modules.get("torch")
    cuda = {"cuda": torch.version.cuda} if torch is not None else {}
    described = {key: value for key, value in devices[own].items() if key != "uuid"}
    return {"gpu": {**described, "count": len(devices), **cuda}}


def _sharing() -> dict[str, Any]:
    """Threads of this process, and how many runs work side by side; where torch is loaded."""
    torch = sys.modules.get("torch")
    return {} if torch is None else {"threads": torch.get_num_threads(), "workers": settings().workers}
