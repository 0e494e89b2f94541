"""Data sets of the Hub at a commit: whether they may be asked for, whether the cache has them, and their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.store.settings import settings


def reachable(repository: str, revision: str) -> bool:
    """Whether the Hub may be asked for a data set, or its cache has it. No request is made."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if not settings().offline:
        return True
    return (Path(HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}" / "snapshots" / revision).is_dir()


def rows(repository: str, revision: str, split: str, config: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """A split's rows, each with where it stands (``row 3``).

    Raises:
        UserError: it cannot be had.
    """
    import datasets

    try:
        found = datasets.load_dataset(repository, name=config, revision=revision, split=split)
    except Exception as error:  # noqa: BLE001 - requests, caches and parsers raise what they like
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        name = f"{repository}@{revision[:12]}:{config + ':' if config else ''}{split}"
        raise UserError(
            f"The data set {name} cannot be read from the Hub ({reason}): put its files into the folder of --data-dir"
        ) from None
    return [(f"row {number}", dict(row)) for number, row in enumerate(found, 1)]
