"""Leases: locks among all processes that share a store, of one host or of several.

A lease is a symbolic link that names its owner (a small file where there are no such links). To make one is atomic on
every file system, and needs no lock of the system, which network file systems may not have. Each process has a file
in ``sessions/`` and touches it every :data:`BEAT_S` seconds. The lease of a process that has ended is free: on its own
host at once, for other hosts when its file is older than :data:`STALE_S` seconds by the clock of the file system.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.util import Finalize
from pathlib import Path

from harness.store.hosts import born_at, host, runs

STALE_S = 60.0
"""Without a heartbeat for so long, a process of another host counts as gone."""

BEAT_S = 5.0
"""Between two heartbeats."""

SEEN_S = 1.0
"""So long another host's heartbeat is not looked at again."""

LEASE = ".lease"
LONGEST_PAUSE_S = 0.25

_folders: dict[tuple[int, Path], Leases] = {}
_beating: set[int] = set()
"""Processes (this one, or those that it was forked from) whose thread of heartbeats was begun."""


class HeldError(Exception):
    """A lease is held by somebody else."""


class Leases:
    """The leases of this process in a folder. There is one object a process and folder: :func:`leases_in`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._sessions = folder, folder / "sessions"
        self._process, self._numbers = os.getpid(), count()
        self._own: dict[Path, str] = {}
        self._seen: dict[str, float] = {}
        self._session = ""

    def take(self, path: Path) -> bool:
        """Take a lease. False if another process has it, or this one.

        Raises:
            OSError: the folder cannot be written.
        """
        if path in self._own:
            return False
        owner = f"{self._begun()}~{next(self._numbers)}"
        if not self._taken(path, owner):
            return False
        self._own[path] = owner
        return True

    def free(self, path: Path) -> None:
        """Give a lease back; nothing happens if another process has taken it over."""
        owner = self._own.pop(path, None)
        if owner is not None and os.getpid() == self._process and _owner(path) == owner:
            with suppress(OSError):
                path.unlink()

    def holds(self, path: Path) -> bool:
        """Whether this process still has a lease, which others take over if it gave no sign for too long."""
        return path in self._own and _owner(path) == self._own[path]

    def held(self, path: Path) -> bool:
        """Whether any process has a lease."""
        return (owner := _owner(path)) is not None and self._lives(owner, path)

    def sweep(self) -> None:
        """Remove the leases and the sessions of processes that are gone."""
        for folder in (self.folder, *(path for path in self.folder.glob("*") if path.is_dir())):
            for path in folder.glob(f"*{LEASE}*"):
                if (owner := _owner(path)) is not None and not self._lives(owner, path) and self.take(path):
                    self.free(path)
        for path in self._sessions.glob("*~*"):
            if path.name != self._session and not self._session_lives(path.name):
                path.unlink(missing_ok=True)

    def end(self) -> None:
        """Leave no trace of this process, if it has no lease."""
        if not self._own and self._session:
            with suppress(OSError):
                (self._sessions / self._session).unlink()
                self._sessions.rmdir()
            self._session = ""

    def leave(self) -> None:
        """Give all leases back, and say that this process is gone."""
        for path in list(self._own):
            self.free(path)
        if self._session:
            with suppress(OSError):
                (self._sessions / self._session).unlink()

    def beat(self) -> None:
        """Say that this process lives. One that was taken for dead finds out, and begins anew with its next lease."""
        if self._session:
            try:
                os.utime(self._sessions / self._session)
            except FileNotFoundError:
                self._session = ""
            except OSError:
                pass

    def _begun(self) -> str:
        """The session of this process, which is begun with its first lease."""
        if not self._session:
            process = os.getpid()
            name = f"{host()}~{process}~{born_at(process)}~{secrets.token_hex(4)}"
            self._sessions.mkdir(parents=True, exist_ok=True)
            (self._sessions / name).touch()
            self._session = name
            _begin_heartbeats()
        return self._session

    def _taken(self, path: Path, owner: str) -> bool:
        """Take a lease for an owner, also from one who is gone.

        Who may follow an owner that is gone is a lease too: its name holds that owner, so that one process at a time
        has it, and while it has it nobody else changes the first one.
        """
        if _make(path, owner):
            return True
        before = _owner(path)
        if before is None:
            return _make(path, owner)
        if self._lives(before, path):
            return False
        following = path.with_name(f"{path.name}.{hashlib.blake2b(before.encode(), digest_size=6).hexdigest()}")
        if len(following.name) > 200 or not self._taken(following, owner):
            return False
        if _owner(path) != before:  # somebody else was faster
            following.unlink(missing_ok=True)
            return False
        following.replace(path)
        session = before.rpartition("~")[0]
        if session and not session.startswith(f"{host()}~"):  # so that it finds out, should it live after all
            (self._sessions / session).unlink(missing_ok=True)
        return True

    def _lives(self, owner: str, path: Path) -> bool:
        """Whether the owner of a lease is there; of one that names nobody (yet), whether it is new."""
        session = owner.rpartition("~")[0]
        if session.count("~") != 3:
            return self._is_fresh(path)
        return self._session_lives(session)

    def _session_lives(self, session: str) -> bool:
        where, process, born, _ = session.split("~")
        if where == host() and os.name != "nt":
            return runs(int(process), born)
        if time.monotonic() - self._seen.get(session, -SEEN_S) < SEEN_S:
            return True
        if self._is_fresh(self._sessions / session):
            self._seen[session] = time.monotonic()
            return True
        self._seen.pop(session, None)
        return False

    def _is_fresh(self, path: Path) -> bool:
        """Whether a file was touched lately. The time now is what the file system gives to the file of this process."""
        try:
            with path.open("rb") as file:  # opened, so that a network file system looks again
                touched = os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return False
        except OSError:
            return True
        own = self._sessions / self._begun()
        try:
            os.utime(own)
            return own.stat().st_mtime - touched <= STALE_S
        except OSError:
            return True


def leases_in(folder: Path) -> Leases:
    """The leases of this process in a folder."""
    place = (os.getpid(), folder.absolute())
    if place not in _folders:
        _folders[place] = Leases(folder.absolute())
    return _folders[place]


@contextmanager
def leased(path: Path, folder: Path, *, wait: bool = True) -> Iterator[Leases]:
    """Hold a lease.

    Args:
        path: of the lease.
        folder: with the sessions of the processes.
        wait: whether to wait for one that is held.

    Raises:
        HeldError: it is held, and ``wait`` is not asked for.
    """
    leases, path, pause = leases_in(folder), path.absolute(), 0.002
    while not leases.take(path):
        if not wait:
            raise HeldError(str(path))
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
    try:
        yield leases
    finally:
        leases.free(path)


def _make(path: Path, owner: str) -> bool:
    """Make a lease; False if it is there."""
    for _ in range(2):
        try:
            path.symlink_to(owner)
            return True
        except FileExistsError:
            return False
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, NotImplementedError):  # no symbolic links here
            break
    try:
        with path.open("x") as file:
            file.write(owner)
    except FileExistsError:
        return False
    return True


def _owner(path: Path) -> str | None:
    """Who a lease names; None if there is none."""
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return None
    except OSError:  # a file
        try:
            return path.read_text(errors="replace")
        except OSError:
            return None


def _begin_heartbeats() -> None:
    """Begin the thread that touches this process's sessions, one for all."""
    if os.getpid() not in _beating:
        _beating.add(os.getpid())
        Finalize(None, _leave, exitpriority=0)  # processes that others have begun call no atexit functions
        threading.Thread(target=_beat_on, name="heartbeats", daemon=True).start()


def _beat_on() -> None:
    while True:
        time.sleep(BEAT_S)
        for leases in _of_this_process():
            leases.beat()


def _leave() -> None:
    for leases in _of_this_process():
        leases.leave()


def _of_this_process() -> list[Leases]:
    return [leases for (process, _), leases in list(_folders.items()) if process == os.getpid()]
