"""Names of this host and of its processes, in a store that several hosts may share."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

HOST = "SAIL_BENCH_HOST"
"""Variable that replaces the host's name, so that one machine can stand for several in tests."""

_LONGEST = 60


def host_name() -> str:
    """The name of this host, as it can stand in a file's name."""
    name = os.environ.get(HOST) or socket.gethostname() or "host"
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)[:_LONGEST]


def host() -> str:
    """The name of this host with a hash of what no other has: two with the same identity see each other's processes."""
    return f"{host_name()}-{_kernel()}"


def writer(process: int | None = None) -> str:
    """A process of this host (this one if None), as it stands in the names of files that it has begun to write."""
    return f"{host()}-{os.getpid() if process is None else process}"


def runs(process: int, born: str = "") -> bool:
    """Whether a process of this host runs; True where that cannot be asked (Windows).

    Args:
        process: its number.
        born: when it began, as :func:`born_at` gives it; another process may have the number since. "" for any.
    """
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        pass
    begun, ended = _status(process)
    return not ended and (not born or not begun or begun == born)


def born_at(process: int) -> str:
    """When a process of this host began, in ticks since the machine did; "" where that is not known."""
    return _status(process)[0]


def _status(process: int) -> tuple[str, bool]:
    """When a process began, and whether it has ended and its parent has not asked for that yet."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", False
    return fields[19], fields[0] in ("Z", "X")


@lru_cache(maxsize=1)
def _kernel() -> str:
    """A hash of the running kernel and of its space of process numbers (a container has its own)."""
    parts = []
    with suppress(OSError):
        parts = [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.blake2b(repr(parts or uuid.getnode()).encode(), digest_size=4).hexdigest()
