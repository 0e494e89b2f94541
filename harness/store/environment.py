"""The software and hardware that a stage was made with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness import __version__

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


def environment() -> dict[str, Any]:
    """Versions and hardware as JSON for a manifest, without names of users, hosts or folders."""
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = "absent"
    return {
        "sail_bench": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "libraries": libraries,
    }
