"""Downloading a file of the Hub or of GitHub at a pinned commit, once, into the Hub's cache folder."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from harness.errors import AbsentError, UserError
from harness.store import hub
from harness.store.hosts import writer
from harness.store.json_files import file_digest
from harness.store.settings import settings
from harness.store.storage import storage_fault

TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class PublishedFile:
    """A file at a commit. ``home``: a ``dataset`` or ``space`` of the Hub, or a repository on ``github``. ``sha256``:
    of its bytes; empty if it is not known."""

    home: Literal["dataset", "space", "github"]
    repository: str
    path: str
    revision: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.path} of {self.repository}@{self.revision[:12]}"


class UnavailableError(Exception):
    """A file cannot be downloaded; the message says why."""


def download(file: PublishedFile) -> Path:
    """The file in the local cache, downloaded if it is not there yet.

    Raises:
        UnavailableError: it is not in the cache and cannot be downloaded.
        UserError: its bytes are not those that ``sha256`` names.
    """
    path = _from_github(file) if file.home == "github" else _from_hub(file)
    sha256 = _sha256(path, path.stat().st_mtime_ns)
    if file.sha256 and sha256 != file.sha256:
        for place in (path.resolve(), path):  # the Hub's cache links to a blob: the next call would find it again
            place.unlink(missing_ok=True)
        raise UserError(
            f"The file {file} has sha256 {sha256}, but {file.sha256} is expected: "
            "try again, or put it into the folder that --data-dir names"
        )
    return path


@lru_cache(maxsize=64)
def _sha256(path: Path, modified: int) -> str:
    return file_digest(path)


def _from_hub(file: PublishedFile) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    held = try_to_load_from_cache(file.repository, file.path, revision=file.revision, repo_type=file.home)
    if isinstance(held, str):
        return Path(held)
    try:
        return Path(
            hf_hub_download(
                file.repository,
                file.path,
                repo_type=file.home,
                revision=file.revision,
                local_files_only=not hub.answers(),
            )
        )
    except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise UnavailableError(_reason(error if hub.answers() else None)) from None


_silent: dict[str, str] = {}
"""Roots that gave no answer, each with the reason: they are not asked again for every file."""


def _from_github(file: PublishedFile) -> Path:
    from huggingface_hub.constants import HF_HOME

    folder = Path(HF_HOME) / "github" / file.repository.replace("/", "--") / file.revision
    path = folder / file.path
    if path.is_file():
        return path
    if settings().offline:
        raise UnavailableError(_reason(None))
    root = (settings().github or "https://raw.githubusercontent.com").rstrip("/")
    if root in _silent:
        raise UnavailableError(_silent[root])
    address = f"{root}/{file.repository}/{file.revision}/{file.path}"
    part = path.with_name(f".{path.name}.{writer()}.part")
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
            content = answer.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except (OSError, ValueError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if fault := storage_fault(error):
            raise AbsentError(fault) from None
        if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
            _silent[root] = _reason(error)
        raise UnavailableError(_reason(error)) from None
    return path


def _reason(error: Exception | None) -> str:
    if error is None:
        return "the Hub is switched off or does not answer, and the file is not in its cache"
    for fault in (error, error and error.__cause__):
        status = getattr(fault, "code", None) or getattr(getattr(fault, "response", None), "status_code", None)
        if status:
            return f"the download failed (status {status})"
    return f"the download failed ({type(error).__name__})"
