"""Official question sets from ``--data-dir``, in the columns that the Hub's copies have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from benchmarks.lmeval import rows
from benchmarks.shared import official_files as datadir
from harness.benchmark import Row
from harness.errors import UserError
from harness.store import hub
from harness.store import user_files as files
from harness.store.user_files import Malformed
from sail.noise import generator

Splits = dict[str, list[Row]]
ONE = "default"


@dataclass(frozen=True)
class Questions:
    """What a data folder holds: a hash of the files, rows by stratum and split, and how many of the questions repeat an
    earlier one of their stratum (the official MMLU has some)."""

    identity: str
    strata: Mapping[str, Splits]
    repeated: int


@dataclass(frozen=True, eq=False)
class Source:
    """A question set: its folder under the data folder (files in order of preference, by split; ``test`` is the one
    asked, ``shown`` gives the examples), its place on the Hub, how many questions ``test`` has when it is whole, what
    checks a row, and the key of its stratum."""

    folder: str
    files: Mapping[str, tuple[str, ...]]
    repository: str
    revision: str
    size: int
    check: Callable[[Row], Row]
    shown: str
    by: str = ""

    def paths(self) -> dict[str, Path]:
        """The set's files by split; empty where the data folder has none.

        Raises:
            UserError: some are there and some are not.
        """
        found = {split: datadir.optional(self.folder, *names) for split, names in self.files.items()}
        if not any(found.values()):
            return {}
        lacking = [self.files[split][0] for split, path in found.items() if path is None]
        if lacking:
            raise UserError(f"The folder {self.folder} under --data-dir lacks {', '.join(lacking)}: add it")
        return {split: path for split, path in found.items() if path is not None}

    def identity(self) -> str:
        """Where the questions come from: a hash of the files, or the Hub's revision.

        Raises:
            UserError: neither is at hand, or a row is no question.
        """
        if found := self.questions():
            return found.identity
        if not hub.reachable(self.repository, self.revision):
            wanted = ", ".join(f"{self.folder}/{names[0]}" for names in self.files.values())
            raise UserError(
                f"The Hub is switched off and {self.repository} is not in its cache: give --data-dir with {wanted}"
            )
        return f"{self.repository}@{self.revision}"

    def questions(self) -> Questions | None:
        """What the data folder holds, read and checked once a process; None where it has none.

        Raises:
            UserError: a row is no question (file and line are named), or there is none.
        """
        paths = self.paths()
        return _questions(self, *((split, *stamped(path)) for split, path in paths.items())) if paths else None

    def count(self) -> int:
        """Questions that are there."""
        return sum(self.sizes().values()) if self.paths() else self.size

    def sizes(self) -> dict[str, int]:
        """Questions that are there, by stratum; empty where the data folder has none."""
        return {stratum: len(splits["test"]) for stratum, splits in self.local().items()}

    def local(self) -> Mapping[str, Splits]:
        """Rows by stratum and split, as lm-eval's tasks expect them; empty where the data folder has none."""
        found = self.questions()
        return found.strata if found else {}

    def suffice(self, shots: int) -> None:
        """Whether each stratum has ``shots`` rows to show as examples.

        Raises:
            UserError: one has fewer.
        """
        for stratum, splits in self.local().items():
            there = len(splits.get(self.shown, []))
            if there < shots:
                whose = f" of the {self.by} {stratum!r}" if self.by else ""
                raise UserError(
                    f"{self.paths()[self.shown]} has {there} questions{whose}, but {shots} are shown as examples: "
                    "add the others"
                )


MMLU = Source(
    "mmlu",
    {"test": ("test.jsonl", "test_first18_per_subject.jsonl"), "dev": ("dev.jsonl",)},
    "cais/mmlu",
    "c30699e8356da336a370243923dbaf21066bb9fe",
    14042,
    rows.mmlu,
    "dev",
    by="subject",
)
ARC = Source(
    "arc_challenge",
    {"train": ("train.jsonl",), "test": ("test.jsonl",)},
    "allenai/ai2_arc",
    "210d026faf9955653af8916fad021475a3f00453",
    1172,
    rows.arc,
    "train",
)


def stamped(path: Path) -> tuple[Path, int, int]:
    """A file with what tells that it has changed."""
    facts = path.stat()
    return path, facts.st_size, facts.st_mtime_ns


@lru_cache(maxsize=4)
def _questions(source: Source, *parts: tuple[str, Path, int, int]) -> Questions:
    """Rows of some files by stratum; what has no question to ask is left out."""
    strata: dict[str, Splits] = {}
    said: set[tuple[str, ...]] = set()
    for split, path, *_ in parts:
        ids: dict[tuple[str, str], str] = {}
        for where, row in _rows(path, ["question", "choices", *([source.by] if source.by else [])]):
            try:
                found = source.check(row)
            except Malformed as error:
                raise UserError(f"{path}, {where}: {error}") from None
            stratum = found[source.by] if source.by else ONE
            strata.setdefault(stratum, {}).setdefault(split, []).append(found)
            if split != "test":
                continue
            name = (stratum, str(row.get("id")))
            if row.get("id") not in (None, "") and ids.setdefault(name, where) != where:
                raise UserError(f"{path}, {where}: {ids[name]} has the id {row['id']!r} too: give each its own")
            said.add((stratum, found["question"], str(found["choices"])))
    asked = {stratum: splits for stratum, splits in strata.items() if "test" in splits}
    count = sum(len(splits["test"]) for splits in asked.values())
    return Questions(datadir.sha256(*(path for _, path, *_ in parts)), asked, count - len(said))


def _rows(path: Path, needed: Sequence[str] = ()) -> Sequence[tuple[str, Row]]:
    found = files.read_located_rows(path, needed)
    if not found:
        raise UserError(f"{path} holds no row: fill it or remove it")
    return found


@lru_cache(maxsize=8)
def table(path: Path, size: int, stamp: int) -> tuple[Row, ...]:
    """Rows of a split of any task (:func:`stamped`).

    Raises:
        UserError: a line is none, or a column holds values of two kinds (file and line are named).
    """
    known: dict[str, tuple[str, str]] = {}
    found = _rows(path)
    for where, row in found:
        try:
            for key, kind in rows.kinds(row):
                if known.setdefault(key, (kind, where))[0] != kind:
                    before, place = known[key]
                    raise Malformed(f"{key!r} is {kind}, but {before} in {place}: give each column one kind of value")
        except Malformed as error:
            raise UserError(f"{path}, {where}: {error}") from None
    return tuple(row for _, row in found)


def subset(sizes: Mapping[str, int], limit: int, seed: int = 0) -> dict[str, list[int]]:
    """``limit`` places drawn from strata in proportion to their sizes (largest remainder), at least one of each.

    A larger subset of the same seed holds the places of a smaller one wherever its share of a stratum is not smaller.

    Raises:
        UserError: fewer places than strata.
    """
    total = sum(sizes.values())
    if limit >= total:
        return {name: list(range(size)) for name, size in sizes.items()}
    if limit < len(sizes):
        raise UserError(f"limit is {limit}, but there are {len(sizes)} subjects: give at least one question to each")
    free, rest = limit - len(sizes), total - len(sizes)
    exact = {name: free * (size - 1) / max(rest, 1) for name, size in sizes.items()}
    share = {name: 1 + int(value) for name, value in exact.items()}
    order = sorted(sizes, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in order[: limit - sum(share.values())]:
        share[name] += 1
    return {
        name: sorted(int(i) for i in generator(("subset", name, seed)).permutation(size)[: share[name]])
        for name, size in sizes.items()
    }
