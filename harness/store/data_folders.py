"""Folders of rows: a data set that ``save_to_disk`` wrote, with or without splits, or the shards of one in files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.store import hub
from harness.store.json_files import read_json
from harness.store.user_files import LocatedRow, iterate_rows, kind_of

DATA_KINDS = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
"""Endings of the files that are read, unpacked or packed (``.gz``, ``.zst``)."""

_SHARD = re.compile(r"(?P<split>.*?)[-_.]?\d{4,}(?:-of-(?P<total>\d+))?")


def folder_files(folder: Path, split: str) -> list[Path]:
    """The files that hold the rows of a folder, in order.

    Args:
        folder: by ``save_to_disk``, or with data files in it or in its subfolder ``data``.
        split: which rows; "" if there is only one split.

    Raises:
        UserError: there are no rows, or several splits and none of them is named.
    """
    try:
        saved = _saved_folder(folder, split)
        names = read_json(saved / "state.json")["_data_files"] if saved is not None else []
        files = [saved / part["filename"] for part in names] if saved is not None else _shards(folder, split)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} cannot be read as a data set by save_to_disk ({error!r}): save it again") from None
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise UserError(f"{folder} lacks its file {missing.name}: copy the whole folder")
    return files


def iterate_folder(folder: Path, split: str) -> Iterator[LocatedRow]:
    """The rows of a folder, each with its place; they are read as they are taken.

    Args:
        folder: as for :func:`folder_files`.
        split: which rows; "" if there is only one split.

    Raises:
        UserError: they cannot be read.
    """
    files = folder_files(folder, split)
    saved = _saved_folder(folder, split)
    if saved is not None:
        yield from hub.iterate_saved(saved)
        return
    for path in files:
        for place, row in iterate_rows(path):
            yield LocatedRow(f"{path.relative_to(folder)}, {place}", row)


def _saved_folder(folder: Path, split: str) -> Path | None:
    """Where ``save_to_disk`` wrote the rows of a split; None if it did not write the folder."""
    if (folder / "dataset_dict.json").is_file():
        splits = [str(name) for name in read_json(folder / "dataset_dict.json")["splits"]]
        return folder / _choose(folder, splits, split)
    if not (folder / "state.json").is_file():
        return None
    if split:
        raise UserError(f"{folder} holds one data set without splits: leave out :{split}")
    return folder


def _shards(folder: Path, split: str) -> list[Path]:
    paths = _data_files(folder) or _data_files(folder / "data")
    if not paths:
        raise UserError(
            f"{folder} holds no data set by save_to_disk and no file of rows ({', '.join(DATA_KINDS)}): name a file or "
            "another folder"
        )
    splits: dict[str, list[Path]] = {}
    for path in paths:
        splits.setdefault(_split_of(path), []).append(path)
    chosen = splits[_choose(folder, list(splits), split)]
    kinds = sorted({kind_of(path) for path in chosen})
    if len(kinds) > 1:
        raise UserError(f"{folder} holds rows as {' and as '.join(kinds)}: keep one kind, or name a file")
    _check_complete(folder, chosen)
    return chosen


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_file() and kind_of(p) in DATA_KINDS and p.name[0] not in "._")


def _base(path: Path) -> str:
    """A file's name without its endings."""
    return path.name[: path.name.lower().rindex(kind_of(path))]


def _split_of(path: Path) -> str:
    shard = _SHARD.fullmatch(_base(path))
    return shard["split"] if shard is not None else _base(path)


def _check_complete(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse a folder in which a shard ``-of-00003`` is missing."""
    shards = [_SHARD.fullmatch(_base(path)) for path in paths]
    totals = {int(shard["total"]) for shard in shards if shard is not None and shard["total"]}
    if totals and totals != {len(paths)}:
        raise UserError(f"{folder} holds {len(paths)} of {max(totals)} shards, {paths[0].name} and on: copy the others")


def _choose(folder: Path, splits: Sequence[str], split: str) -> str:
    """The named split, or the only one."""
    if split in splits:
        return split
    if not split and len(splits) == 1:
        return splits[0]
    names = ", ".join(name or "(no name)" for name in splits)
    raise UserError(f"{folder} holds the splits {names}: name one, as in {folder.name}:{splits[0]}")
