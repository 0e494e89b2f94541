"""What a stage was made with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness import __version__

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy")


def environment() -> dict[str, Any]:
    """Versions and hardware, without names of users, hosts or folders."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return {
        "sail_bench": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "libraries": found,
    }
