"""Content-addressed stages on disk: the same command again resumes.

A stage is a folder named by the hash of everything that decides its content. It is written in a work folder that
survives a kill (checkpoints, partial rows), and appears under its final name by one atomic rename, together with a
manifest. A failed stage never appears. Two processes may share a store: a lock per stage makes the second one wait, and
a lock per command keeps what it needs between two stages from being cleared away.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.store.claims import held
from harness.store.json_files import digest, read_json, write_json

MANIFEST = "manifest.json"

COMMANDS = "commands"
"""File in ``locks/`` that commands hold while they work with the store."""


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
        """Whether the stage is finished."""
        return (self.path(stage) / MANIFEST).is_file()

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
        """
        if self.settled(stage):
            return self.path(stage)
        with self._lock(stage):
            if not self.settled(stage):
                work = self.work(stage)
                extra = build(work) or {}
                write_json(work / MANIFEST, {"kind": stage.kind, "inputs": stage.inputs, **extra})
                final = self.path(stage)
                final.parent.mkdir(parents=True, exist_ok=True)
                old = self.root / "work" / f"{stage.key}.old"
                if final.exists():  # built again: out of the way at once, so that a reader finds one or the other
                    shutil.rmtree(old, ignore_errors=True)
                    final.rename(old)
                work.rename(final)
                shutil.rmtree(old, ignore_errors=True)
        return self.path(stage)

    def under_way(self) -> list[str]:
        """Keys of the stages that some process is building, or waits for, now."""
        from filelock import FileLock, Timeout

        held = []
        for file in sorted((self.root / "locks").glob("*.lock")):
            try:
                with FileLock(file, timeout=0):
                    pass
            except Timeout:
                held.append(file.stem)
        return held

    def in_use(self) -> AbstractContextManager[bool]:
        """Held by a command that works with the store, from beginning to end; several hold it at once. It waits while
        :meth:`cleared` is held."""
        return held(self.root / "locks" / COMMANDS)

    def cleared(self) -> AbstractContextManager[bool]:
        """Held while stages are removed. It is False if a command has the store in use, and keeps others waiting."""
        return held(self.root / "locks" / COMMANDS, alone=True)

    def remove_if_empty(self, stage: Stage) -> None:
        """Leave no trace of a stage that failed: its lock and, if nothing else is in it, the store itself.

        Args:
            stage: whose work folder is gone.
        """
        (self.root / "locks" / f"{stage.key}.lock").unlink(missing_ok=True)
        with suppress(OSError):  # other things are in it
            for folder in (self.root / "work", self.root / "locks", self.root):
                folder.rmdir()

    def manifest(self, stage: Stage) -> dict[str, Any]:
        """Manifest of a finished stage."""
        value: dict[str, Any] = read_json(self.path(stage) / MANIFEST)
        return value

    @contextmanager
    def _lock(self, stage: Stage) -> Iterator[None]:
        from filelock import FileLock

        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{stage.key}.lock"):
            yield
