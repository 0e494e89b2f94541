"""Preference pairs that a user brings: read from files or the Hub, checked, cleaned and shared out, before any model
is loaded. What is malformed is an error with file and line; what is well-formed but of no use is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.pairs.layouts import READERS, Pair, Unusable, detect
from harness.pairs.overlap import normal, overlap
from harness.recipe.recipe import PairsSpec
from harness.store import hub
from harness.store import user_files as files
from harness.store.json_files import digest, file_digest
from harness.store.settings import settings
from harness.store.user_files import Malformed

HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40}):(?:(?P<config>[\w.-]+):)?(?P<split>[\w.-]+)")

LONGEST = 1_000_000

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a part comes from: a file of the user's, or a split of a data set of the Hub at a commit."""

    name: str
    path: Path | None = None

    def identity(self) -> dict[str, str]:
        """What names its content in keys and results: a hash of the file, or the commit; no path."""
        if self.path is not None:
            return {"sha256": file_digest(self.path)}
        return {"hub": self.name}

    def rows(self) -> list[tuple[str, Row]]:
        """Rows with where they stand.

        Raises:
            UserError: it cannot be read.
        """
        if self.path is not None:
            return files.numbered(self.path)
        found = HUB.fullmatch(self.name)
        assert found is not None
        return hub.rows(found["name"], found["commit"], found["split"], found["config"])


def locate(key: str, name: str, folder: Path | None) -> Source:
    """A source as a recipe writes it: a path (under ``--data-dir``, else beside the recipe, else from here), or
    ``org/name@COMMIT:split``, with ``config:`` before the split if there is more than one.

    Raises:
        UserError: there is no such file, or the Hub's part lacks a commit.
    """
    if HUB.fullmatch(name):
        return Source(name)
    root = settings().data_dir
    places = [Path(place) / name for place in (root, folder, ".") if place is not None]
    found = next((path for path in places if path.is_file()), None)
    if found is not None:
        return Source(name, found)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?(:[\w.:-]+)?", name) and ("@" in name or ":" in name):
        raise UserError(f"data.{key}: {name} needs a commit of 40 hex digits and a split: org/name@COMMIT:split")
    raise UserError(f"data.{key}: there is no file {name} under --data-dir, beside the recipe or here: name one")


@dataclass(frozen=True)
class Brought:
    """The rows of each part after cleaning (``id``, ``prompt`` as text, ``messages``, ``chosen``, ``rejected`` and
    scores); by file its format, rows, what was ``left_out`` and what was ``kept`` but noted; what identifies the files.
    """

    parts: dict[str, list[Row]]
    counts: dict[str, dict[str, Any]]
    identity: dict[str, dict[str, str]]


def brought(data: PairsSpec) -> Brought:
    """The pairs of a recipe; files are read once a process.

    Raises:
        UserError: a file is missing, a row malformed, or fewer rows are left than the recipe asks for.
    """
    sources = locate("train", data.train, data.folder), locate("test", data.test, data.folder)
    stamps = tuple((s.path.stat().st_size, s.path.stat().st_mtime_ns) if s.path else (0, 0) for s in sources)
    return _brought(data, sources, stamps)


@lru_cache(maxsize=4)
def _brought(data: PairsSpec, sources: tuple[Source, Source], stamps: tuple[tuple[int, int], ...]) -> Brought:
    (train, train_counts), (test, test_counts) = (read(source, data) for source in sources)
    found = overlap((p.said() for p in train), [p.said() for p in test])
    gone = {*found.equal, *found.near}
    same = {"evaluation prompts": len(found.equal), "nearly evaluation prompts": len(found.near)}
    train_counts["left_out"] |= {why: count for why, count in same.items() if count}
    if found.shared:
        train_counts["kept"]["share 13 words with an evaluation prompt"] = len(found.shared)
    parts = share_out([p for i, p in enumerate(train) if i not in gone], test, data)
    rows = {part: [_row(pair) for pair in pairs] for part, pairs in parts.items()}
    identity = {part: source.identity() for part, source in zip(("train", "test"), sources, strict=True)}
    return Brought(rows, {"train": train_counts, "test": test_counts}, identity)


def read(source: Source, data: PairsSpec) -> tuple[list[Pair], dict[str, Any]]:
    """The distinct usable pairs of a source, in order, and how many rows it had and lost.

    Raises:
        UserError: a row is not what its layout says (file and line are named), or none is usable.
    """
    rows = source.rows()
    lost: Counter[str] = Counter()
    seen, names, pairs, layout = set(), Counter[str](), [], str(data.format)
    for where, row in rows:
        try:
            layout = detect(row) if layout == "auto" else layout
            pair = READERS[layout](row, data.label)
        except Malformed as error:
            raise UserError(f"{source.path or source.name}, {where}: {error}") from None
        except Unusable as error:
            lost[str(error)] += 1
            continue
        if row.get("id") is not None:
            names[str(row["id"])] += 1
        key = digest(vars(pair))
        if key in seen:
            lost["duplicates"] += 1
        elif max(map(len, (pair.text(), pair.chosen, pair.rejected))) > LONGEST:
            lost["over a million characters"] += 1
        else:
            pairs.append(pair)
        seen.add(key)
    if not pairs:
        told = ", ".join(f"{count} {why}" for why, count in lost.items()) or "it is empty"
        raise UserError(f"{source.path or source.name} holds no usable pair ({told})")
    repeated = sum(count - 1 for count in names.values())
    kept = {"repeat an id and get one of their own": repeated} if repeated else {}
    return pairs, {"format": layout, "rows": len(rows), "left_out": dict(sorted(lost.items())), "kept": kept}


def share_out(train: list[Pair], test: list[Pair], data: PairsSpec) -> dict[str, list[Pair]]:
    """The parts: evaluation prompts are the first distinct ones of the test file, held-out pairs the next rows with
    another prompt; tuning prompts the last distinct ones of the training file, training pairs the first rows with
    another prompt.

    Raises:
        UserError: too few rows are left.
    """
    evaluated, heldout = _apart(test, data.eval_prompts, data.heldout_prompts, "eval_prompts", "heldout_prompts")
    tuned, trained = _apart(train[::-1], data.tune_prompts, 0, "tune_prompts", "train_prompts")
    trained = trained[::-1]
    if data.train_prompts > len(trained):
        raise UserError(
            f"data.train_prompts asks for {data.train_prompts} pairs beside data.tune_prompts, {len(trained)} are left "
            "after cleaning: lower one (train_prompts: 0 takes all)"
        )
    return {"train": trained[: data.train_prompts or None], "tune": tuned, "eval": evaluated, "heldout": heldout}


def _apart(pairs: list[Pair], count: int, more: int, first: str, second: str) -> tuple[list[Pair], list[Pair]]:
    """The first ``count`` pairs with distinct prompts, and the first ``more`` (0: all) of those with other prompts."""
    chosen: dict[str, Pair] = {}
    for pair in pairs:
        if len(chosen) < count:
            chosen.setdefault(normal(pair.said()), pair)
    rest = [pair for pair in pairs if normal(pair.said()) not in chosen]
    if len(chosen) < count or len(rest) < max(1, more):
        raise UserError(
            f"data.{first} asks for {count} distinct prompts and data.{second} for {more or 'all'} rows with others, "
            f"{len(chosen)} and {len(rest)} are left after cleaning: lower one"
        )
    return list(chosen.values()), rest[: more or None]


def _row(pair: Pair) -> Row:
    row: Row = {"id": digest(vars(pair)), "prompt": pair.text(), "messages": pair.prompt}
    row |= {"chosen": pair.chosen, "rejected": pair.rejected}
    if pair.chosen_score is not None and pair.rejected_score is not None:
        row |= {"chosen_reward": pair.chosen_score, "rejected_reward": pair.rejected_score}
    return row


def contaminated(rows: Iterable[Row], asked: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """How many training prompts are, or nearly are, prompts of each benchmark (by name), and how many more share a run
    of 13 words with one."""
    said = ["\n".join(m["content"] for m in row["messages"] if m["role"] == "user") for row in rows]
    found = {}
    for name, prompts in asked.items():
        o = overlap(said, prompts)
        found[name] = {"prompts": len(prompts), "equal": len(o.equal), "near": len(o.near), "shared": len(o.shared)}
    return found
