"""Data sets of the Hub at a commit, and those that ``save_to_disk`` wrote: whether one can be read, and its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.store.settings import settings
from harness.store.user_files import LocatedRow


def reachable(repository: str, revision: str) -> bool:
    """Whether a data set can be read: the Hub is not switched off, or the local cache holds it. Sends no request."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if not settings().offline:
        return True
    return (Path(HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision).is_dir()


def read_split(repository: str, revision: str, split: str, config: str | None = None) -> list[LocatedRow]:
    """The rows of one split, each with its place (``row 3``).

    Args:
        repository: ``org/name`` of the data set.
        revision: the commit.
        split: name of the split, such as ``train``.
        config: the data set's configuration, if it has more than one.

    Raises:
        UserError: the split cannot be read.
    """
    import datasets

    try:
        return _located(datasets.load_dataset(repository, name=config, revision=revision, split=split))
    except Exception as error:  # noqa: BLE001 - requests, caches and parsers raise many kinds of errors
        name = f"{repository}@{revision[:12]}:{config + ':' if config else ''}{split}"
        raise UserError(
            f"The data set {name} cannot be read from the Hub ({_reason(error)}): put its files into the folder of "
            "--data-dir"
        ) from None


def read_saved(folder: Path) -> list[LocatedRow]:
    """The rows of a ``Dataset`` that ``save_to_disk`` wrote, each with its place (``row 3``).

    Raises:
        UserError: it cannot be read.
    """
    import datasets

    try:
        return _located(datasets.load_from_disk(str(folder)))
    except Exception as error:  # noqa: BLE001 - files and parsers raise many kinds of errors
        raise UserError(f"The data set {folder} cannot be read ({_reason(error)}): save it again") from None


def _located(rows: Iterable[Mapping[str, Any]]) -> list[LocatedRow]:
    return [LocatedRow(f"row {number}", dict(row)) for number, row in enumerate(rows, 1)]


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
