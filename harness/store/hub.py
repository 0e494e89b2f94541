"""The Hub: data sets, each at a commit (and those that ``save_to_disk`` wrote), and the configuration of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import AbsentError, UserError
from harness.store.json_files import read_json
from harness.store.settings import settings
from harness.store.user_files import LocatedRow


def reachable(repository: str, revision: str) -> bool:
    """Whether a data set can be read: the Hub is not switched off, or the local cache holds it. Sends no request."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if not settings().offline:
        return True
    return (Path(HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision).is_dir()


def read_split(repository: str, revision: str, split: str, config: str | None = None) -> list[LocatedRow]:
    """All rows of :func:`iterate_split`.

    Args:
        repository: ``org/name`` of the data set.
        revision: the commit.
        split: name of the split.
        config: the data set's configuration, if it has more than one.
    """
    return list(iterate_split(repository, revision, split, config))


def iterate_split(repository: str, revision: str, split: str, config: str | None = None) -> Iterator[LocatedRow]:
    """The rows of one split, each with its place (``row 3``); they are read as they are taken.

    Args:
        repository: ``org/name`` of the data set.
        revision: the commit.
        split: name of the split, such as ``train``.
        config: the data set's configuration, if it has more than one.

    Raises:
        AbsentError: the split cannot be read.
    """
    import datasets

    try:
        yield from _located(datasets.load_dataset(repository, name=config, revision=revision, split=split))
    except Exception as error:  # noqa: BLE001 - requests, caches and parsers raise many kinds of errors
        name = f"{repository}@{revision[:12]}:{config + ':' if config else ''}{split}"
        raise AbsentError(
            f"The data set {name} cannot be read from the Hub ({_reason(error)}): put its files into the folder of "
            "--data-dir"
        ) from None


def iterate_saved(folder: Path) -> Iterator[LocatedRow]:
    """The rows of a ``Dataset`` that ``save_to_disk`` wrote, each with its place (``row 3``).

    Raises:
        UserError: it cannot be read.
    """
    import datasets

    try:
        yield from _located(datasets.load_from_disk(str(folder)))
    except Exception as error:  # noqa: BLE001 - files and parsers raise many kinds of errors
        raise UserError(f"The data set {folder} cannot be read ({_reason(error)}): save it again") from None


def _located(rows: Iterable[Mapping[str, Any]]) -> Iterator[LocatedRow]:
    return (LocatedRow(f"row {number}", dict(row)) for number, row in enumerate(rows, 1))


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


FETCH_SECONDS = 3
"""Seconds after which the Hub counts as out of reach for a configuration."""


def model_config(repository: str, revision: str | None) -> dict[str, Any]:
    """A model's ``config.json``, from the cache or the Hub; its weights are not fetched.

    Args:
        repository: ``org/name``.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        AbsentError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(
            repository,
            "config.json",
            revision=revision,
            etag_timeout=FETCH_SECONDS,
            local_files_only=settings().offline,
        )
        config: dict[str, Any] = read_json(Path(path))
    except Exception as error:  # noqa: BLE001 - requests and caches raise many kinds of errors
        reason = str(error).strip().split("\n")[0].split(". ")[0].rstrip(".") or type(error).__name__
        raise AbsentError(f"The configuration of {repository} cannot be read from the Hub ({reason})") from None
    return config
