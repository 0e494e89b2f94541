"""Preference pairs imported from a user's files or the Hub: read, cleaned and divided before any model is loaded.

A malformed row is an error that names file and line. A well-formed row that is of no use is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.pairs.file_reader import FileReader
from harness.pairs.labels import label_notes
from harness.pairs.layouts import EMPTY, EQUAL, LAST_TURN, NO_PROMPT, TIE, PreferencePair, Unusable
from harness.pairs.overlap import find_overlap, normalised
from harness.pairs.pair_source import PairSource, locate_pair_source
from harness.recipe.recipe import PairsSpec
from harness.store.json_files import Row, digest
from harness.store.user_files import Malformed

MAX_CHARACTERS = 1_000_000

TEST_ROWS, EVALUATION, NEAR = "rows of the test file", "evaluation prompts", "nearly evaluation prompts"

_CURES = {
    NO_PROMPT: "add a 'prompt', or let both conversations begin with it and end with an answer",
    LAST_TURN: "write the beginning of the answer into 'chosen' and 'rejected' instead of the prompt",
    TIE: "name a file in which one answer is the better one",
    EMPTY: "check that 'chosen' and 'rejected' hold the answers",
    EQUAL: "check that 'chosen' and 'rejected' are not one column",
}


@dataclass(frozen=True)
class ImportedPairs:
    """The pairs of a recipe after cleaning.

    Attributes:
        parts: rows by part (``train``, ``tune``, ``eval``, ``heldout``), each with ``id``, ``prompt`` (text),
            ``messages``, ``chosen``, ``rejected`` and, if known, ``chosen_reward`` and ``rejected_reward``.
        counts: by file (``train``, ``test``) its format, number of rows, what was ``left_out``, what was ``kept`` but
            is worth a note, and its ``columns_not_used``. JSON for ``counts.json``.
        identity: by file what identifies its content.
    """

    parts: dict[str, list[Row]]
    counts: dict[str, dict[str, Any]]
    identity: dict[str, dict[str, str]]


def imported_pairs(data: PairsSpec) -> ImportedPairs:
    """The pairs of a recipe. Files are read once a process.

    Raises:
        UserError: a file is missing, both are the same, a row is malformed, or fewer rows are left than the recipe asks
            for.
    """
    train = locate_pair_source("train", data.train, data.folder)
    test = locate_pair_source("test", data.test, data.folder)
    return _import_pairs(data, train, test, (_file_stamp(train), _file_stamp(test)))


def _file_stamp(source: PairSource) -> tuple[int, int]:
    """Size and time of a source's files, so that a changed file is read again."""
    statuses = [path.stat() for path in source.files()]
    return sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=0)


@lru_cache(maxsize=4)
def _import_pairs(
    data: PairsSpec, train_source: PairSource, test_source: PairSource, stamps: tuple[tuple[int, int], ...]
) -> ImportedPairs:
    identity = {"train": train_source.identity(), "test": test_source.identity()}
    if identity["train"] == identity["test"]:
        if train_source.path is not None and not train_source.read_rows():
            raise UserError(f"data.train and data.test are empty ({data.train} and {data.test}): name other files")
        raise UserError(
            f"data.train and data.test hold the same rows ({data.train} and {data.test}): name another file or split, "
            "or cut it in two (head -n -200 FILE > train.jsonl and tail -n 200 FILE > test.jsonl)"
        )
    train, train_counts = read_usable_pairs(train_source, data)
    test, test_counts = read_usable_pairs(test_source, data)
    overlap = find_overlap((pair.user_text() for pair in train), [pair.user_text() for pair in test])
    dropped = {*overlap.equal, *overlap.near}
    both = count_shared_pairs(train, test)
    reasons = {TEST_ROWS: both, EVALUATION: len(overlap.equal) - both, NEAR: len(overlap.near)}
    reasons = {reason: count for reason, count in reasons.items() if count}
    train_counts["left_out"] |= reasons
    if len(dropped) == len(train):
        raise UserError(
            f"data.train: all {len(train)} usable rows ask a prompt of data.test ({_listed(reasons)}): name another "
            "file, or divide the rows so that no prompt is in both"
        )
    train = [pair for i, pair in enumerate(train) if i not in dropped]
    for counts, pairs in ((train_counts, train), (test_counts, test)):
        counts["kept"] |= label_notes(pairs)
    if overlap.shared:
        train_counts["kept"]["share 13 words with an evaluation prompt"] = len(overlap.shared)
    try:
        parts = divide_into_parts(train, test, data)
    except UserError as error:
        lost = [(name, c) for name, c in (("train", train_counts), ("test", test_counts)) if c["left_out"]]
        cleaning = "; ".join(f"of {c['rows']} {name} rows {_listed(c['left_out'])}" for name, c in lost)
        raise UserError(f"{error} (left out {cleaning})" if lost else str(error)) from None
    rows = {part: [_row(pair) for pair in pairs] for part, pairs in parts.items()}
    return ImportedPairs(rows, {"train": train_counts, "test": test_counts}, identity)


class UsablePairs(NamedTuple):
    """Distinct usable pairs of a source, in order. ``counts`` is the source's entry in ``ImportedPairs.counts``."""

    pairs: list[PreferencePair]
    counts: dict[str, Any]


def read_usable_pairs(source: PairSource, data: PairsSpec) -> UsablePairs:
    """Read a source and leave out rows that hold no preference, duplicates and texts that are far too long.

    Raises:
        UserError: a row breaks its layout (file and line are named), or no row is usable.
    """
    rows = source.read_rows()
    left_out, id_counts = Counter[str](), Counter[str]()
    reader, seen = FileReader([row for _, row in rows], str(data.format), data.label), set[str]()
    pairs: list[PreferencePair] = []
    for place, row in rows:
        try:
            pair = reader.read(row)
        except Malformed as error:
            raise UserError(f"{source.path or source.name}, {place}: {error}") from None
        except Unusable as error:
            left_out[str(error)] += 1
            continue
        if row.get("id") is not None:
            id_counts[str(row["id"])] += 1
        key = digest(pair.content())
        if key in seen:
            left_out["duplicates"] += 1
        elif max(map(len, (pair.prompt_text(), pair.chosen, pair.rejected))) > MAX_CHARACTERS:
            left_out["over a million characters"] += 1
        else:
            pairs.append(pair)
        seen.add(key)
    if not pairs:
        cure = _CURES.get(max(left_out, key=lambda reason: left_out[reason], default=""), "name another file")
        reasons = _listed(left_out) or "it is empty"
        raise UserError(f"{source.path or source.name} holds no usable pair ({reasons}): {cure}")
    repeated = sum(count - 1 for count in id_counts.values())
    kept = {"repeat an id and get one of their own": repeated} if repeated else {}
    counts = {"format": reader.layout, "rows": len(rows), "left_out": dict(sorted(left_out.items())), "kept": kept}
    return UsablePairs(pairs, counts | {"columns_not_used": sorted(reader.unused)})


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def count_shared_pairs(train: Sequence[PreferencePair], test: Iterable[PreferencePair]) -> int:
    """How many training rows have the user's turns and both answers of a test row, in either order."""
    tested = {(normalised(pair.user_text()), frozenset((pair.chosen, pair.rejected))) for pair in test}
    return sum((normalised(p.user_text()), frozenset((p.chosen, p.rejected))) in tested for p in train)


def divide_into_parts(
    train: list[PreferencePair], test: list[PreferencePair], data: PairsSpec
) -> dict[str, list[PreferencePair]]:
    """The parts ``train``, ``tune``, ``eval`` and ``heldout``, which share no prompt within a file.

    Evaluation prompts are the first distinct ones of the test file; held-out pairs are the next rows with another
    prompt. Tuning prompts are the last distinct ones of the training file; training pairs are the first rows with
    another prompt.

    Args:
        train: usable pairs of the training file, without evaluation prompts.
        test: usable pairs of the test file.
        data: how many of each part the recipe asks for.

    Raises:
        UserError: too few rows are left.
    """
    evaluation, heldout = _separate("test", test, data.eval_prompts, data.heldout_prompts)
    tuning, training = _separate("train", train[::-1], data.tune_prompts, 0)
    training = training[::-1]
    if data.train_prompts > len(training):
        raise UserError(
            f"data.train_prompts asks for {data.train_prompts} pairs beside data.tune_prompts, {len(training)} are "
            "left after cleaning: lower one (train_prompts: 0 takes all)"
        )
    return {"train": training[: data.train_prompts or None], "tune": tuning, "eval": evaluation, "heldout": heldout}


_KEYS = {"test": ("eval_prompts", "heldout_prompts"), "train": ("tune_prompts", "train_prompts")}


def _separate(
    file: str, pairs: list[PreferencePair], prompt_count: int, row_count: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """The first ``prompt_count`` pairs with distinct prompts, and the first ``row_count`` (0: all) of the pairs with
    other prompts."""
    distinct: dict[str, PreferencePair] = {}
    for pair in pairs:
        if len(distinct) < prompt_count:
            distinct.setdefault(normalised(pair.user_text()), pair)
    others = [pair for pair in pairs if normalised(pair.user_text()) not in distinct]
    if len(distinct) < prompt_count or len(others) < max(1, row_count):
        prompt_key, row_key = _KEYS[file]
        available = len({normalised(pair.user_text()) for pair in pairs})
        cure = "lower one" if available > 1 else "two distinct prompts are needed, so name another file"
        raise UserError(
            f"data.{prompt_key} asks for {prompt_count} distinct prompts and data.{row_key} for {row_count or 'all'} "
            f"rows with others, {len(distinct)} and {len(others)} are left after cleaning (data.{file} has {available} "
            f"distinct prompts): {cure}"
        )
    return list(distinct.values()), others[: row_count or None]


def _row(pair: PreferencePair) -> Row:
    row: Row = {"id": digest(pair.content()), "prompt": pair.prompt_text(), "messages": pair.prompt}
    row |= {"chosen": pair.chosen, "rejected": pair.rejected}
    if pair.chosen_score is not None and pair.rejected_score is not None:
        row |= {"chosen_reward": pair.chosen_score, "rejected_reward": pair.rejected_score}
    return row


def count_benchmark_overlaps(
    rows: Iterable[Row], benchmark_prompts: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, int]]:
    """How many training prompts overlap with each benchmark, as JSON by benchmark: ``prompts`` (of the benchmark), and
    training prompts that are ``equal`` to one, ``near`` one, or only share a run of 13 words with one (``shared``).

    Args:
        rows: training rows with ``messages``.
        benchmark_prompts: prompt texts by benchmark.
    """
    user_texts = ["\n".join(m["content"] for m in row["messages"] if m["role"] == "user") for row in rows]
    counts = {}
    for name, prompts in benchmark_prompts.items():
        overlap = find_overlap(user_texts, prompts)
        counts[name] = {
            "prompts": len(prompts),
            "equal": len(overlap.equal),
            "near": len(overlap.near),
            "shared": len(overlap.shared),
        }
    return counts
