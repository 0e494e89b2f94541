"""Pairs in RewardBench's format: ``prompt``, ``chosen``, ``rejected``, ``subset`` and perhaps ``id``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.rewardbench.sections import SIZES
from benchmarks.shared.official_files import files_hash, local_file
from benchmarks.shared.subset import draw_subset
from harness.benchmark import Row
from harness.errors import AbsentError, UserError
from harness.store import hub, user_files
from harness.store.user_files import LONE_SURROGATE, has_lone_surrogate

FOLDER = "rewardbench"
FILES = ("filtered.jsonl", "filtered.json", "filtered.parquet")
REPOSITORY, REVISION = "allenai/reward-bench", "168d848cdbbea9764fae4a544dc9ca1e6cca4931"
TEXTS = ("prompt", "chosen", "rejected", "subset")


def find_pairs_file(root: Path | None = None) -> Path | None:
    """The file of pairs; None if there is none, so that the Hub's is used.

    Args:
        root: the file itself, its folder, or a folder that has ``rewardbench/``; None for the data folder.

    Raises:
        UserError: ``root`` is given and has none.
    """
    if root is None:
        return local_file(FOLDER, *FILES)
    if root.is_file():
        return root
    path = user_files.first_existing(root / FOLDER, *FILES) or user_files.first_existing(root, *FILES)
    if path is None:
        raise UserError(f"The folder {root} has no {FOLDER}/{FILES[0]}: put the pairs there")
    return path


def pairs_identity(path: Path | None) -> str:
    """Where the pairs come from: a hash of the file, or the Hub's commit.

    Raises:
        UserError: neither is at hand.
    """
    if path is not None:
        return files_hash(path)
    if not hub.reachable(REPOSITORY, REVISION):
        raise AbsentError(
            f"The Hub is switched off or does not answer, and {REPOSITORY} is not in its cache: "
            f"give --data-dir with {FOLDER}/{FILES[0]}"
        )
    return f"{REPOSITORY}@{REVISION}"


def subset_sizes(path: Path | None) -> dict[str, int]:
    """Pairs by subset. Without a file these are the official ones; nothing is read from the Hub for it."""
    return dict(SIZES) if path is None else dict(Counter(row["subset"] for row in read_pairs(path)))


def read_pairs(path: Path | None) -> Sequence[Row]:
    """All pairs, checked: ``prompt``, ``chosen``, ``rejected``, ``subset``, and ``id`` with the subset before it.

    Raises:
        UserError: a row is none (with file and line), or the Hub cannot be read.
    """
    return _read_hub() if path is None else _read_file(path, path.stat().st_mtime_ns)


def draw_pairs(path: Path | None, limit: int, seed: int) -> list[Row]:
    """All pairs, or some drawn from the subsets in proportion; each with ``weight``, the pairs of its subset that it
    stands for, and ``of``, the pairs that its subset has.

    Args:
        path: of the file; None for the Hub's pairs.
        limit: how many are drawn (0: all).
        seed: of the draw.
    """
    pairs = read_pairs(path)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(pairs):
        places.setdefault(row["subset"], []).append(place)
    sizes = {name: len(inside) for name, inside in places.items()}
    drawn = draw_subset(sizes, limit or len(pairs), seed)
    facts = {name: {"weight": round(sizes[name] / len(drawn[name]), 6), "of": sizes[name]} for name in sizes}
    chosen = sorted(places[name][i] for name, inside in drawn.items() for i in inside)
    return [pairs[place] | facts[pairs[place]["subset"]] for place in chosen]


def repeated_pairs(path: Path | None) -> str:
    """A sentence on pairs that stand in the file once more under another id, or none; empty if there are none."""
    pairs = read_pairs(path)
    repeated = len(pairs) - len({tuple(row[key] for key in TEXTS) for row in pairs})
    return f"{repeated:,} of {len(pairs):,} pairs repeat an earlier one and count again" if repeated else ""


@lru_cache(maxsize=2)
def _read_file(path: Path, modified: int) -> Sequence[Row]:
    return _checked(path, user_files.read_located_rows(path, TEXTS))


@lru_cache(maxsize=1)
def _read_hub() -> Sequence[Row]:
    return _checked(Path(REPOSITORY), hub.read_split(REPOSITORY, REVISION, "filtered"))


def _checked(path: Path, rows: Iterable[tuple[str, Row]]) -> Sequence[Row]:
    pairs: list[Row] = []
    places_by_id: dict[str, str] = {}
    repeated_id = ""
    for number, (where, row) in enumerate(rows):
        place = f"{os.fspath(path)}, {where}"
        _check_texts(row, place)
        name = f"{row['subset']}/{row['id'] if row.get('id') is not None else number}"
        if has_lone_surrogate(name):
            raise UserError(f"{place}: 'id' holds {LONE_SURROGATE}")
        pairs.append({key: row[key] for key in TEXTS} | {"id": name})
        if places_by_id.setdefault(name, where) != where and not repeated_id:
            repeated_id = f"{place}: {places_by_id[name]} has the id {name!r} too: give each its own, or none"
    if repeated_id and Counter(row["subset"] for row in pairs) != SIZES:  # the official pairs are taken as they are
        raise UserError(repeated_id)
    if not pairs:
        raise UserError(f"{path} holds no pair: give rows with {', '.join(TEXTS)}")
    return tuple(pairs)


def _check_texts(row: Row, place: str) -> None:
    """Texts are there, and can be tokenised; answers may be empty."""
    for key in TEXTS:
        value = row.get(key)
        if not isinstance(value, str) or not (value.strip() or key in ("chosen", "rejected")):
            expected = "a name" if key == "subset" else "a text"
            raise UserError(f"{place}: {expected} is expected for {key!r}, not {_kind(value)}")
        if has_lone_surrogate(value):
            raise UserError(f"{place}: {key!r} holds {LONE_SURROGATE}")


def _kind(value: Any) -> str:
    return "an empty one" if isinstance(value, str) else "nothing" if value is None else type(value).__name__
