"""Row cache: answers and judgments, keyed by everything that can change them, for the processes of several hosts."""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.store.hosts import host_name
from harness.store.integrity import sync_to_disk
from harness.store.json_files import json_text
from harness.store.leases import LEASE, Leases, leased, leases_in
from harness.store.notices import notify
from harness.store.row_database import DamagedError, RowDatabase, move_aside, settle, sound_rows
from harness.store.row_log import SUFFIX, Line, Row, RowLog, head_of, line_of, value_of
from harness.store.storage import REFUSED, place_aside


class _Own(NamedTuple):
    """The file that this process appends to."""

    log: RowLog
    file: int
    lease: Path


class RowCache:
    """Maps the hash of a request to its JSON result. Safe for all processes that share the folder, on several hosts.

    Each process that writes has a file of its own in ``rows/``, appends to it, and reads those of the others as they
    grow. A file whose process has ended is continued by the next one of that host. Of two results of a key the one that
    was replaced more often counts, then the one in the first file by name. Each ``put`` is on the disk when it returns.

    A row has a checksum: a damaged one counts as absent, with a sentence, and its file is moved aside without it. A
    SQLite file of an earlier version is read where no other file has a key.

    Args:
        path: ``rows.sqlite`` of an earlier version, if there is one; the files are in the folder without its ending.
        before_put: called just before rows are written, with the key of the first one and how often the row of that key
            was replaced by then, so that a ledger can be written in step with the rows that it paid for.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, path: Path, before_put: Callable[[str, int], None] = lambda key, version: None) -> None:
        self._before_put, self.path, self.folder = before_put, path, path.with_suffix("")
        self._locks = (path.parent / "locks").absolute()
        self._leases = self._locks / self.folder.name
        self._logs: dict[str, RowLog] = {}
        self._index: dict[bytes, Line] = {}
        self._own: _Own | None = None
        self._end: Callable[[], Any] = lambda: None
        self._earlier: RowDatabase | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from None
        self._open_earlier()

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """Stored results by key; absent keys are left out."""
        self._refresh()
        encoded = list(dict.fromkeys(key.encode() for key in keys))
        results = self._read(encoded)
        return {key.decode(): results[key] for key in encoded if key in results}

    def put(self, rows: Iterable[tuple[str, Any]], *, replace: bool = False) -> None:
        """Store results, all at once; an existing key keeps its first value unless ``replace``."""
        values: dict[bytes, Any] = {}
        for name, value in rows:
            key = name.encode()
            if replace or key not in values:
                values[key] = value
        self._refresh()
        before = self._versions(list(values))
        new = [key for key in values if replace or key not in before]
        if values:
            first = (new or list(values))[0]
            self._before_put(first.decode(), before.get(first, -1) + bool(new))
        self._append([Row(key, before.get(key, -1) + 1, json_text(values[key]).encode()) for key in new])

    def holds(self, key: str, version: int) -> bool:
        """Whether the row of a key is there that was replaced so often, or a later one."""
        self._refresh()
        name = key.encode()
        return self._versions([name]).get(name, -1) >= version

    def change(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Replace the result of a key by a function of it (of None if absent), one process at a time; the new one.

        Whatever the function raises leaves the old one in place.
        """
        name = key.encode()
        lease = self._leases / f"row-{blake2b(name, digest_size=8).hexdigest()}{LEASE}"
        with leased(lease, self._locks):
            self._refresh()
            new = change(self._read([name]).get(name))
            version = self._versions([name]).get(name, -1) + 1
            self._append([Row(name, version, json_text(new).encode())])
        return new

    def damaged(self) -> int:
        """How many rows are not as they were written; nothing is moved."""
        self._refresh(repair=False)
        earlier = self._earlier.damaged() if self._earlier else []
        return sum(log.damaged for log in self._logs.values()) + sum(key not in self._index for key in earlier)

    def close(self) -> None:
        """Let another process continue the file of this one."""
        self._end()
        self._own, self._end = None, lambda: None
        if self._earlier is not None:
            self._earlier.close()
            self._earlier = None

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Results by key, of all files."""
        results: dict[bytes, Any] = {}
        places: dict[str, list[bytes]] = {}
        for key in keys:
            if key in self._index:
                places.setdefault(self._index[key].log.path.name, []).append(key)
        for name, wanted in places.items():
            results |= self._read_log(self._logs[name], wanted)
        return self._read_earlier([key for key in keys if key not in self._index]) | results

    def _read_log(self, log: RowLog, keys: Sequence[bytes]) -> dict[bytes, Any]:
        results: dict[bytes, Any] = {}
        with suppress(FileNotFoundError), log.path.open("rb", buffering=0) as file:
            for key in keys:
                line = self._index[key]
                file.seek(line.offset)
                value = value_of(file.read(line.length) or b"", key)
                if value is not None:
                    results[key] = json.loads(value)
        if len(results) < len(keys):  # the file was damaged or removed since its rows were noted
            self._forget(log)
            self._refresh()
            results |= self._read([key for key in keys if key not in results])
        return results

    def _read_earlier(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        if self._earlier is None or not keys:
            return {}
        try:
            return self._earlier.read(keys)
        except DamagedError as error:
            self._replace_earlier(str(error))
            return self._read(keys)

    def _versions(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """How often the results of keys were replaced; absent keys are left out."""
        indexed = {key: self._index[key].version for key in keys if key in self._index}
        return dict.fromkeys(self._read_earlier([key for key in keys if key not in indexed]), 0) | indexed

    def _refresh(self, *, repair: bool = True) -> None:
        """Read what was appended to all files."""
        with suppress(FileNotFoundError):
            for name in sorted(entry.name for entry in os.scandir(self.folder) if entry.name.endswith(SUFFIX)):
                log = self._logs.setdefault(name, RowLog(self.folder / name))
                self._read_news(log)
                if log.damaged and repair:
                    self._repair(log)

    def _read_news(self, log: RowLog) -> None:
        if log.is_other():
            self._forget(log)
        for line in log.news():
            self._note(line)

    def _note(self, line: Line) -> None:
        """Let a row count, unless another of its key does."""
        before = self._index.get(line.key)
        if before is not None:
            ahead = line.version - before.version
            if ahead < 0 or (not ahead and line.log.path.name >= before.log.path.name):
                return
        self._index[line.key] = line

    def _forget(self, log: RowLog) -> None:
        log.forget()
        self._index = {key: line for key, line in self._index.items() if line.log is not log}

    def _append(self, rows: Sequence[Row]) -> None:
        """Append rows to the file of this process, and wait until they are on the disk."""
        if not rows:
            return
        lines = [line_of(row) for row in rows]
        try:
            log, file, _ = self._opened()
            if os.fstat(file).st_size != log.end:  # of an attempt that failed
                os.ftruncate(file, log.end)
            data = memoryview(b"".join(lines))
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        except OSError as error:
            raise self._refused(error) from None
        offset = log.end
        for row, line in zip(rows, lines, strict=True):
            self._note(Line(row.key, row.version, log, offset, len(line)))
            offset += len(line)
        log.wrote(offset - log.end)

    def _opened(self) -> _Own:
        """The file of this process: one that no other writes now, or a new one."""
        leases = leases_in(self._locks)
        if self._own is not None and leases.holds(self._own.lease) and os.fstat(self._own.file).st_nlink:
            return self._own
        self._end()
        for number in count():
            name = f"{host_name()}-{number}"
            lease = self._lease(name)
            if leases.take(lease):
                break
        log = self._logs.setdefault(f"{name}{SUFFIX}", RowLog(self.folder / f"{name}{SUFFIX}"))
        self.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(log.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        sync_to_disk(self.folder)
        self._end = weakref.finalize(self, _end, leases, lease, file)
        self._read_news(log)
        self._own = _Own(log, file, lease)
        return self._own

    def _lease(self, name: str) -> Path:
        return self._leases / f"{name}{LEASE}"

    def _repair(self, log: RowLog) -> None:
        """Move a file with damaged rows aside, unless a process writes it, and keep its other rows."""
        leases, lease = leases_in(self._locks), self._lease(log.path.name.removesuffix(SUFFIX))
        with suppress(OSError):
            if not leases.take(lease):
                return
            try:
                self._read_news(log)
                if not log.damaged:  # another process was faster
                    return
                content = log.path.read_bytes()
                lines = content.split(b"\n")[:-1]
                aside = place_aside(self.path.parent, log.path.name)
                aside.write_bytes(content)
                part = log.path.with_suffix(".part")
                part.write_bytes(b"".join(line + b"\n" for line in lines if head_of(line + b"\n") is not None))
                sync_to_disk(part)
                part.replace(log.path)
            finally:
                leases.free(lease)
            notify(
                f"{log.path}: {log.damaged:,} cached rows are damaged; they are dropped and made again, and the file "
                f"as it was is now {aside}"
            )
            self._forget(log)
            self._read_news(log)

    def _open_earlier(self) -> None:
        """Open the file of an earlier version, if there is one."""
        if not self.path.is_file() or not self.path.stat().st_size:
            return
        with leased(self._leases / f"earlier{LEASE}", self._locks):
            settle(self.path)
        try:
            self._earlier = RowDatabase(self.path)
        except DamagedError as error:
            self._replace_earlier(str(error))

    def _replace_earlier(self, reason: str) -> None:
        """Move the file of an earlier version aside, which is damaged. Another process may have done so before."""
        if self._earlier is not None:
            self._earlier.close()
            self._earlier = None
        with leased(self._leases / f"earlier{LEASE}", self._locks):
            self._refresh()
            if self.path.is_file():
                kept = sound_rows(self.path)
                self._append([Row(key, 0, value) for key, value in kept.items() if key not in self._index])
                move_aside(self.path, reason, len(kept))

    def _refused(self, error: OSError) -> Exception:
        """A user error for what a user can change, else the error itself."""
        if error.errno in (*REFUSED, errno.ENOTDIR, errno.EEXIST):
            reason = (error.strerror or "").lower()
            return UserError(f"{self.folder} cannot be written ({reason}): set --store to a folder that can")
        return OSError(error.errno, error.strerror, str(self.folder))


def _end(leases: Leases, lease: Path, file: int) -> None:
    """Close the file of a process and let another continue it."""
    with suppress(OSError):
        os.close(file)
    leases.free(lease)
