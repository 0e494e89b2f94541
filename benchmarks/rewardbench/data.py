"""Pairs in RewardBench's format: ``prompt``, ``chosen``, ``rejected``, ``subset`` and perhaps ``id``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.lmeval.data import subset as drawn
from benchmarks.rewardbench.sections import SIZES
from benchmarks.shared import official_files as datadir
from harness.errors import UserError
from harness.store import hub
from harness.store import user_files as files
from harness.store.user_files import LONE_SURROGATE, has_lone_surrogate

Row = dict[str, Any]
FOLDER = "rewardbench"
FILES = ("filtered.jsonl", "filtered.json", "filtered.parquet")
REPOSITORY, REVISION = "allenai/reward-bench", "168d848cdbbea9764fae4a544dc9ca1e6cca4931"
TEXTS = ("prompt", "chosen", "rejected", "subset")


def locate(root: Path | None = None) -> Path | None:
    """The file under ``root`` (or in it, or ``root`` itself), or under the data folder; None if there is none.

    Raises:
        UserError: ``root`` is given and has none.
    """
    if root is None:
        return datadir.optional(FOLDER, *FILES)
    found = (
        root if root.is_file() else files.first_existing(root / FOLDER, *FILES) or files.first_existing(root, *FILES)
    )
    if found is None:
        raise UserError(f"The folder {root} has no {FOLDER}/{FILES[0]}: put the pairs there")
    return found


def identity(path: Path | None) -> str:
    """Where the pairs come from: a hash of the file, or the Hub's commit.

    Raises:
        UserError: neither is at hand.
    """
    if path is not None:
        return datadir.sha256(path)
    if not hub.reachable(REPOSITORY, REVISION):
        raise UserError(
            f"The Hub is switched off and {REPOSITORY} is not in its cache: give --data-dir with {FOLDER}/{FILES[0]}"
        )
    return f"{REPOSITORY}@{REVISION}"


def sizes(path: Path | None) -> dict[str, int]:
    """Pairs by subset; the official ones if they are still to be had from the Hub."""
    return dict(SIZES) if path is None else dict(Counter(row["subset"] for row in pairs(path)))


def pairs(path: Path | None) -> Sequence[Row]:
    """All pairs, checked.

    Raises:
        UserError: a row is none (with file and line), or the Hub cannot be read.
    """
    return _hub() if path is None else _file(path, path.stat().st_mtime_ns)


def chosen(path: Path | None, limit: int, seed: int) -> list[Row]:
    """All pairs, or ``limit`` drawn by ``seed`` from the subsets in proportion; each with ``weight``, the pairs of its
    subset that it stands for, and ``of``, the pairs that its subset has."""
    found = pairs(path)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(found):
        places.setdefault(row["subset"], []).append(place)
    counts = {name: len(inside) for name, inside in places.items()}
    kept = drawn(counts, limit or len(found), seed)
    stands = {name: counts[name] / len(inside) for name, inside in kept.items()}
    taken = sorted(places[name][i] for name, inside in kept.items() for i in inside)
    return [
        found[i] | {"weight": round(stands[found[i]["subset"]], 6), "of": counts[found[i]["subset"]]} for i in taken
    ]


def repeated(path: Path | None) -> str:
    """A sentence on pairs that stand there once more under another id, or none; "" if there are none."""
    found = pairs(path)
    again = len(found) - len({tuple(row[key] for key in TEXTS) for row in found})
    return f"{again:,} of {len(found):,} pairs repeat an earlier one and count again" if again else ""


@lru_cache(maxsize=2)
def _file(path: Path, stamp: int) -> Sequence[Row]:
    return _checked(path, files.read_located_rows(path, TEXTS))


@lru_cache(maxsize=1)
def _hub() -> Sequence[Row]:
    return _checked(Path(REPOSITORY), hub.read_split(REPOSITORY, REVISION, "filtered"))


def _checked(path: Path, rows: Iterable[tuple[str, Row]]) -> Sequence[Row]:
    found: list[Row] = []
    first: dict[str, str] = {}
    twice = ""
    for place, (where, row) in enumerate(rows):
        for key in TEXTS:
            if not isinstance(row.get(key), str) or not (row[key].strip() or key in ("chosen", "rejected")):
                told = "a text is expected" if key != "subset" else "a name is expected"
                raise UserError(f"{os.fspath(path)}, {where}: {told} for {key!r}, not {_short(row.get(key))}")
            if has_lone_surrogate(row[key]):
                raise UserError(f"{os.fspath(path)}, {where}: {key!r} holds {LONE_SURROGATE}")
        name = f"{row['subset']}/{row['id'] if row.get('id') is not None else place}"
        if has_lone_surrogate(name):
            raise UserError(f"{os.fspath(path)}, {where}: 'id' holds {LONE_SURROGATE}")
        found.append({key: row[key] for key in TEXTS} | {"id": name})
        if first.setdefault(name, where) != where and not twice:
            twice = f"{os.fspath(path)}, {where}: {first[name]} has the id {name!r} too: give each its own, or none"
    if twice and Counter(row["subset"] for row in found) != SIZES:  # the official pairs are taken as they are
        raise UserError(twice)
    if not found:
        raise UserError(f"{path} holds no pair: give rows with {', '.join(TEXTS)}")
    return tuple(found)


def _short(value: Any) -> str:
    return "an empty one" if isinstance(value, str) else "nothing" if value is None else type(value).__name__
