"""Official question sets from ``--data-dir``, in the columns that the Hub's copies have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from benchmarks import datadir
from harness import files, hub
from harness.benchmark import Row
from harness.errors import UserError
from sail.noise import generator

Splits = dict[str, list[Row]]
ONE = "default"


@dataclass(frozen=True)
class Source:
    """A question set: its folder under the data folder (files in order of preference, by split; ``tested`` is the one
    asked), its place on the Hub, and how many questions ``tested`` has when it is whole."""

    folder: str
    files: Mapping[str, tuple[str, ...]]
    repository: str
    revision: str
    size: int
    tested: str = "test"
    by: str = ""
    labels: tuple[str, ...] = field(default=("A", "B", "C", "D", "E"))

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
            UserError: neither is at hand.
        """
        paths = self.paths()
        if paths:
            return _facts(self.by, *_stamped(paths))[0]
        if not hub.reachable(self.repository, self.revision):
            wanted = ", ".join(f"{self.folder}/{names[0]}" for names in self.files.values())
            raise UserError(
                f"The Hub is switched off and {self.repository} is not in its cache: give --data-dir with {wanted}"
            )
        return f"{self.repository}@{self.revision}"

    def count(self) -> int:
        """Questions that are there."""
        paths = self.paths()
        return sum(self.sizes().values()) if paths else self.size

    def sizes(self) -> dict[str, int]:
        """Questions that are there, by stratum; empty where the data folder has none."""
        paths = self.paths()
        return _facts(self.by, *_stamped({self.tested: paths[self.tested]}))[1] if paths else {}

    def local(self) -> dict[str, Splits]:
        """Rows by stratum and split, as lm-eval's tasks expect them; empty where the data folder has none."""
        found: dict[str, Splits] = {}
        for split, path in self.paths().items():
            for row in files.rows(path, ["question", "choices", *([self.by] if self.by else [])]):
                stratum = str(row[self.by]) if self.by else ONE
                found.setdefault(stratum, {}).setdefault(split, []).append(self._official(row, path))
        return found

    def _official(self, row: Row, path: Path) -> Row:
        """Letters as options' labels and an index as the answer are accepted beside the Hub's own columns."""
        try:
            if self.by:
                answer = row["answer"] if isinstance(row["answer"], int) else "ABCD".index(row["answer"])
                head = {"question": row["question"], self.by: row[self.by]}
                return {**head, "choices": list(row["choices"]), "answer": answer}
            choices = row["choices"]
            if isinstance(choices, list):
                choices = {"text": choices, "label": list(row.get("labels") or self.labels[: len(choices)])}
            key = row["answerKey"] if "answerKey" in row else choices["label"][row["answer"]]
            return {"id": str(row.get("id") or ""), "question": row["question"], "choices": choices, "answerKey": key}
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} has a row that is no question with options and an answer ({type(error).__name__}: {error})"
            ) from None


MMLU = Source(
    "mmlu",
    {"test": ("test.jsonl", "test_first18_per_subject.jsonl"), "dev": ("dev.jsonl",)},
    "cais/mmlu",
    "c30699e8356da336a370243923dbaf21066bb9fe",
    14042,
    by="subject",
)
ARC = Source(
    "arc_challenge",
    {"train": ("train.jsonl",), "test": ("test.jsonl",)},
    "allenai/ai2_arc",
    "210d026faf9955653af8916fad021475a3f00453",
    1172,
)


def _stamped(paths: Mapping[str, Path]) -> list[tuple[Path, int]]:
    return [(path, path.stat().st_mtime_ns) for path in paths.values()]


@lru_cache(maxsize=32)
def _facts(by: str, *stamped: tuple[Path, int]) -> tuple[str, dict[str, int]]:
    """Hash of some files, and the number of their rows by stratum."""
    paths = [path for path, _ in stamped]
    wanted = ["question", "choices", *([by] if by else [])]
    strata = Counter(str(row[by]) if by else ONE for path in paths for row in files.rows(path, wanted))
    return datadir.sha256(*paths), dict(strata)


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
