"""Content-addressed stages on disk: the same command again resumes.

A stage is a folder named by the hash of everything that decides its content. It is written in a work folder that
survives a kill (checkpoints, partial rows), and appears under its final name by one atomic rename, together with a
manifest. A failed stage never appears. Processes of one host or of several may share a store: a lease per stage makes
the second one wait, and a lease per command keeps what it needs between two stages from being cleared away.

A stage whose files are not as its manifest recorded them is moved aside, with a sentence, and counts as not built.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.store.claims import held
from harness.store.integrity import sync_to_disk
from harness.store.json_files import digest
from harness.store.leases import LEASE, HeldError, leased, leases_in
from harness.store.notices import notify
from harness.store.sealed import read_sealed, remove_sealed, write_sealed
from harness.store.stage_files import (
    FILES,
    MANIFEST,
    UNVERIFIED,
    changed_weights,
    fault_of,
    read_manifest,
    record_now,
    unrecorded,
    write_manifest,
)
from harness.store.storage import place_aside

EARLIER = "earlier.json"
"""In the work folder of a stage that was moved aside: what its manifest said of its cost and its files."""

LEDGER = "ledger.json"
"""In the work folder of a stage: what it has cost so far. Its manifest has the whole."""

SPENT = ("ledger", "predicted")
"""Entries of a manifest about the cost of a stage, which keeps those of the first time when it is made again."""

COMMANDS = "running"
"""In ``locks/``: what commands hold while they work with the store."""


@dataclass(frozen=True)
class Stage:
    """Name of a stage and everything that decides its content (JSON values)."""

    kind: str
    inputs: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """Folder name: the kind and a hash of the inputs."""
        return f"{self.kind}-{digest(self.inputs)}"


class Store:
    """A folder of finished stages, with ``work/`` beside them for those under way."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage: Stage) -> Path:
        """Folder of a stage, finished or not."""
        return self.root / "stages" / stage.key

    def done(self, stage: Stage) -> bool:
        """Whether the stage is finished, and its files are as they were written (of large ones: their size).

        A damaged stage is moved aside, unless another process works on it.
        """
        return self._usable(stage, whole=False)

    def settled(self, stage: Stage) -> bool:
        """Whether the stage is finished and nothing in it is ``unanswered`` (a count in its manifest)."""
        return self.done(stage) and not self.unanswered(stage)

    def unanswered(self, stage: Stage) -> int:
        """How much of a finished stage waits for an answer that another attempt may bring."""
        return int(self.manifest(stage).get("unanswered", 0))

    def work(self, stage: Stage) -> Path:
        """Work folder of a stage; what it holds survives a kill."""
        path = self.root / "work" / stage.key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def get(self, stage: Stage, build: Callable[[Path], dict[str, Any] | None]) -> Path:
        """Folder of the finished stage; ``build(work_folder)`` runs if it is not there yet or not settled.

        ``build`` leaves its files in the work folder and may return extra manifest entries (its ledger, say). What it
        could not get an answer to it counts as ``unanswered``: readers have the stage, the next call builds it again.
        All files of a finished stage are hashed here, once a process. A stage that a killed attempt had finished only
        gets its name.
        """
        if self._usable(stage, whole=True) and not self.unanswered(stage):
            return self.path(stage)
        with self._lock(stage):
            if not (self._usable(stage, whole=True, locked=True) and not self.unanswered(stage)):
                work = self.work(stage)
                if not self._built(work):
                    self._finish(stage, work, build(work) or {})
                self._check_lease(stage)
                self._publish(stage, work)
        return self.path(stage)

    def _built(self, work: Path) -> bool:
        """Whether an attempt that was killed had finished a stage, so that only its name was missing."""
        manifest = read_manifest(work) if (work / MANIFEST).is_file() else None
        return manifest is not None and FILES in manifest and not manifest.get("unanswered") and not fault_of(work)

    def _finish(self, stage: Stage, work: Path, extra: dict[str, Any]) -> None:
        """Give a stage that is built its manifest: it is on the disk with its hashes before it has its name."""
        earlier = read_sealed(work / EARLIER) or {}
        for part in work.rglob(".*.part"):  # of attempts that were killed
            part.unlink(missing_ok=True)
        if not earlier.get("unanswered"):
            extra |= {name: earlier[name] for name in SPENT if name in earlier and name in extra}
        write_manifest(work, {"kind": stage.kind, "inputs": stage.inputs, **extra}, (EARLIER, LEDGER))
        if other := changed_weights(work, earlier.get(FILES, {})):
            notify(
                f"{stage.key}: made again, {other} differs from the first time: what was made from it may not repeat"
            )

    def _publish(self, stage: Stage, work: Path) -> None:
        """Let a finished stage appear. What its cost came from goes only now: another attempt would have needed it."""
        for name in (EARLIER, LEDGER):
            remove_sealed(work / name)
        final = self.path(stage)
        final.parent.mkdir(parents=True, exist_ok=True)
        old = self.root / "work" / f"{stage.key}.old"
        if final.exists():  # built again: out of the way at once, so that a reader finds one or the other
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        work.rename(final)
        sync_to_disk(final.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _usable(self, stage: Stage, *, whole: bool, locked: bool = False) -> bool:
        """Whether a stage is there and is as it was written; else it is moved aside.

        Args:
            stage: that is asked for.
            whole: whether large files are hashed too.
            locked: whether the caller holds its lock.
        """
        folder = self.path(stage)
        if not folder.is_dir():
            return False
        if not fault_of(folder, whole=whole):
            if unrecorded(folder, whole=whole):
                self._alone(stage, lambda: record_now(folder), locked=locked)
            return True
        self._alone(stage, lambda: self._check_again(stage, whole=whole), locked=locked)
        return folder.is_dir() and not fault_of(folder, whole=whole)

    def _alone(self, stage: Stage, change: Callable[[], None], *, locked: bool) -> None:
        """Change a finished stage, unless another process works on it or the store cannot be written."""
        try:
            with nullcontext() if locked else self._lock(stage, wait=False):
                change()
        except HeldError:
            pass
        except OSError as error:
            if fault := fault_of(self.path(stage)):
                notify(f"{self.path(stage)}: {fault}, and it cannot be moved aside ({error.strerror}): it is left out")

    def _check_again(self, stage: Stage, *, whole: bool) -> None:
        """Move a stage aside if it is damaged still; another process may have made it again."""
        if self.path(stage).is_dir() and (fault := fault_of(self.path(stage), whole=whole)):
            self.set_aside(stage, fault)

    def set_aside(self, stage: Stage, fault: str) -> None:
        """Move a finished stage out of the way, say so, and keep what its manifest said of its cost and its files.

        Args:
            stage: that cannot be used.
            fault: what is wrong with it.
        """
        folder, aside = self.path(stage), place_aside(self.root, stage.key)
        manifest = read_manifest(folder) or {}
        kept = {name: manifest[name] for name in (*SPENT, "unanswered", FILES) if name in manifest}
        if kept:
            write_sealed(self.work(stage) / EARLIER, kept)
        folder.rename(aside)
        notify(f"{stage.key}: {fault}. It is now in {aside}, and 'sail-bench compare' makes it again")

    def verified(self, stage: Stage) -> bool:
        """Whether the hashes of a finished stage were recorded when it was written."""
        manifest = read_manifest(self.path(stage)) or {}
        return FILES in manifest and UNVERIFIED not in manifest

    def under_way(self) -> list[str]:
        """Keys of the stages that some process is building now."""
        leases = leases_in(self._locks)
        return [path.name.removesuffix(LEASE) for path in sorted(self._locks.glob(f"*-*{LEASE}")) if leases.held(path)]

    def in_use(self) -> AbstractContextManager[bool]:
        """Held by a command that works with the store, from beginning to end; several hold it at once. It waits while
        :meth:`cleared` is held."""
        return held(self._locks / COMMANDS)

    def cleared(self) -> AbstractContextManager[bool]:
        """Held while stages are removed. It is False if a command has the store in use, and keeps others waiting."""
        return held(self._locks / COMMANDS, alone=True)

    def remove_if_empty(self) -> None:
        """Leave no trace of a stage that failed: if nothing else is in it, the store itself goes."""
        leases_in(self._locks).end()
        with suppress(OSError):  # other things are in it
            for folder in (self.root / "work", self._locks, self.root):
                folder.rmdir()

    def manifest(self, stage: Stage) -> dict[str, Any]:
        """Manifest of a finished stage, without what it says of files.

        Raises:
            UserError: it is missing or damaged.
        """
        manifest = read_manifest(self.path(stage))
        if manifest is None:
            raise UserError(f"{self.path(stage) / MANIFEST} is missing or damaged: run 'sail-bench compare' again")
        return {name: value for name, value in manifest.items() if name not in (FILES, UNVERIFIED)}

    @property
    def _locks(self) -> Path:
        return self.root / "locks"

    def _lease(self, stage: Stage) -> Path:
        return self._locks.absolute() / f"{stage.key}{LEASE}"

    def _check_lease(self, stage: Stage) -> None:
        """Refuse to publish a stage that another host may be building again.

        Raises:
            UserError: this process gave no sign for so long that it was taken for dead.
        """
        if not leases_in(self._locks).holds(self._lease(stage)):
            raise UserError(
                f"{stage.key} was taken over by another host, because this one gave no sign for a minute: run the same "
                "command again"
            )

    def building(self, stage: Stage) -> AbstractContextManager[None]:
        """Held while something is written into the work folder of a stage outside of :meth:`get`; it is waited for."""
        return self._lock(stage)

    @contextmanager
    def _lock(self, stage: Stage, *, wait: bool = True) -> Iterator[None]:
        with leased(self._lease(stage), self._locks, wait=wait):
            yield
