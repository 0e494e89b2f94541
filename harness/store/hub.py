"""The Hub: data sets, each at a commit (and those that ``save_to_disk`` wrote), and the configuration of a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import AbsentError, UserError
from harness.store.json_files import read_json
from harness.store.settings import settings
from harness.store.user_files import LocatedRow

CONNECT_SECONDS = 10
"""Seconds without an answer after which the Hub counts as out of reach."""


def answers() -> bool:
    """Whether the Hub is switched on and answers; it is asked once a process.

    If it does not, the libraries of this process and of those it starts use the cache alone: they would try each file
    for half a minute.
    """
    return not settings().offline and _answers()


@cache
def _answers() -> bool:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except Exception:  # noqa: BLE001 - names, proxies, certificates: whatever it is, no file comes this way
        switch_off()
        return False
    return True


def switch_off() -> None:
    """Let the libraries of this process, and of those that it begins from now on, use the cache alone."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "huggingface_hub" in sys.modules:
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def reachable(repository: str, revision: str) -> bool:
    """Whether a data set can be read: the Hub answers, or the local cache holds it."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if answers():
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
    answers()
    import datasets

    try:
        yield from _located(datasets.load_dataset(repository, name=config, revision=revision, split=split))
    except Exception as error:  # noqa: BLE001 - requests, caches and parsers raise many kinds of errors
        name = f"{repository}@{revision[:12]}:{config + ':' if config else ''}{split}"
        reason = _reason(error) if answers() else "it is switched off or does not answer"
        raise AbsentError(
            f"The data set {name} cannot be read from the Hub ({reason}): put its files into the folder of --data-dir"
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


def model_file(repository: str, revision: str | None, name: str) -> Path:
    """A small file of a model, from the cache or the Hub.

    Args:
        repository: ``org/name``.
        revision: branch, tag or commit; None for the main branch.
        name: of the file.

    Raises:
        AbsentError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, revision=revision, local_files_only=not answers()))
    except Exception as error:  # noqa: BLE001 - requests and caches raise many kinds of errors
        reason = _reason(error).split(". ")[0] if answers() else "it is switched off or does not answer"
        what = "configuration" if name == "config.json" else f"file {name}"
        raise AbsentError(f"The {what} of {repository} cannot be read from the Hub ({reason})") from None


def model_config(repository: str, revision: str | None) -> dict[str, Any]:
    """A model's ``config.json``, from the cache or the Hub; its weights are not fetched.

    Args:
        repository: ``org/name``.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        AbsentError: it cannot be had.
    """
    path = model_file(repository, revision, "config.json")
    try:
        config: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise AbsentError(f"The configuration of {repository} cannot be read from the Hub ({_reason(error)})") from None
    return config
