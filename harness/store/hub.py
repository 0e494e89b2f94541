"""Data sets of the Hub, each at a commit: whether one can be read, and its rows."""

from __future__ import annotations

from pathlib import Path

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
        rows = datasets.load_dataset(repository, name=config, revision=revision, split=split)
    except Exception as error:  # noqa: BLE001 - requests, caches and parsers raise many kinds of errors
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        name = f"{repository}@{revision[:12]}:{config + ':' if config else ''}{split}"
        raise UserError(
            f"The data set {name} cannot be read from the Hub ({reason}): put its files into the folder of --data-dir"
        ) from None
    return [LocatedRow(f"row {number}", dict(row)) for number, row in enumerate(rows, 1)]
