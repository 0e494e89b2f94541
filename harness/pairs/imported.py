"""Preference pairs imported from a user's files or the Hub: cleaned and divided before any model is loaded.

The files are read once. What is left of them is a stage of the store, which other processes and later commands read row
by row. Where the store cannot be written, a temporary folder holds it for the process.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.pairs.cleaning import Letters, Sources, clean
from harness.pairs.overlap import LIKENESSES, EvaluationTexts, normalised
from harness.pairs.pair_source import PairSource, locate_pair_source
from harness.pairs.parts import PARTS
from harness.recipe.recipe import PairsSpec
from harness.store.json_files import Row, read_json
from harness.store.row_files import RowFile
from harness.store.stages import Stage, Store
from harness.store.versions import IMPORTED_VERSION


@dataclass(frozen=True)
class ImportedPairs:
    """The pairs of a recipe after cleaning.

    Attributes:
        parts: rows by part (``train``, ``tune``, ``eval``, ``heldout``), each with ``id``, ``prompt`` (text),
            ``messages``, ``chosen``, ``rejected`` and, if known, ``chosen_reward`` and ``rejected_reward``. A row is
            read when it is asked for.
        counts: by file (``train``, ``test``) its format, number of rows, what was ``left_out``, what was ``kept`` but
            is worth a note, and its ``columns_not_used``. JSON for ``counts.json``.
        identity: by file what identifies its content.
        letters: of the training rows.
    """

    parts: dict[str, RowFile]
    counts: dict[str, dict[str, Any]]
    identity: dict[str, dict[str, str]]
    letters: Letters


def imported_pairs(data: PairsSpec, store: Store | None = None) -> ImportedPairs:
    """The pairs of a recipe.

    Args:
        data: of the recipe.
        store: keeps them; None if they were prepared in this process before, or for this process alone.

    Raises:
        UserError: a file is missing, both are the same, a row is malformed, or fewer rows are left than the recipe asks
            for.
    """
    stage = imported_stage(data)
    folder = _folders.get(stage.key)

    def build(work: Path) -> None:
        try:
            clean(_sources(data), data, stage.inputs["files"], work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    if store is not None and (store.done(stage) or _is_writable(store, stage)):
        try:
            folder = store.get(stage, build)
        except UserError:
            store.remove_if_empty()
            raise
    elif folder is None or not folder.is_dir():
        _temporary.append(tempfile.TemporaryDirectory(prefix="sail-bench-"))
        folder = Path(_temporary[-1].name)
        build(folder)
    _folders[stage.key] = folder
    return _read(folder)


def imported_stage(data: PairsSpec) -> Stage:
    """The stage that holds the pairs of a recipe after cleaning.

    Args:
        data: of the recipe.

    Raises:
        UserError: a file is missing, or both are the same.
    """
    sources = _sources(data)
    identity = source_identity(data, sources)
    return Stage("imported", {"version": IMPORTED_VERSION, "files": identity, "data": data.key()})


def _sources(data: PairsSpec) -> Sources:
    return Sources(
        locate_pair_source("train", data.train, data.folder), locate_pair_source("test", data.test, data.folder)
    )


def source_identity(data: PairsSpec, sources: Sources) -> dict[str, dict[str, str]]:
    """By file what identifies its content. Files are hashed once a process."""
    identity = {"train": _identity(sources.train, _stamp(sources.train))}
    identity["test"] = _identity(sources.test, _stamp(sources.test))
    if identity["train"] == identity["test"]:
        if sources.train.path is not None and next(iter(sources.train.rows()), None) is None:
            raise UserError(f"data.train and data.test are empty ({data.train} and {data.test}): name other files")
        raise UserError(
            f"data.train and data.test hold the same rows ({data.train} and {data.test}): name another file or split, "
            "or cut it in two (head -n -200 FILE > train.jsonl and tail -n 200 FILE > test.jsonl)"
        )
    return identity


def _stamp(source: PairSource) -> tuple[int, int]:
    """Size and time of a source's files, so that a changed file is read again."""
    statuses = [path.stat() for path in source.files()]
    return sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=0)


@lru_cache(maxsize=16)
def _identity(source: PairSource, stamp: tuple[int, int]) -> dict[str, str]:
    return source.identity()


_folders: dict[str, Path] = {}
"""Where this process has prepared pairs, by the key of their stage."""

_temporary: list[tempfile.TemporaryDirectory[str]] = []


def _is_writable(store: Store, stage: Stage) -> bool:
    try:
        store.work(stage)
    except OSError:
        return False
    return True


@lru_cache(maxsize=4)
def _read(folder: Path) -> ImportedPairs:
    """What :func:`harness.pairs.cleaning.clean` wrote."""
    summary = read_json(folder / "summary.json")
    parts = {part: RowFile(folder / f"{PARTS[part]}.jsonl", places) for part, places in summary["offsets"].items()}
    return ImportedPairs(parts, summary["counts"], summary["identity"], Letters(*summary["letters"]))


def count_benchmark_overlaps(
    rows: Iterable[Row], benchmark_prompts: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, int]]:
    """How many training prompts overlap with each benchmark, as JSON by benchmark: ``prompts`` (of the benchmark), and
    training prompts that are ``equal`` to one, ``near`` one, or only share a run of 13 words with one (``shared``).

    Args:
        rows: training rows with ``messages``; read once.
        benchmark_prompts: prompt texts by benchmark.
    """
    texts = {name: EvaluationTexts(map(normalised, prompts)) for name, prompts in benchmark_prompts.items()}
    counts = {name: Counter[str]() for name in texts}
    for row in rows:
        prompt = normalised("\n".join(m["content"] for m in row["messages"] if m["role"] == "user"))
        for name, evaluation in texts.items():
            counts[name][evaluation.compare(prompt) or ""] += 1
    return {
        name: {"prompts": len(benchmark_prompts[name])} | {like: counts[name][like] for like in LIKENESSES}
        for name in texts
    }
