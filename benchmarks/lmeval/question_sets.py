"""The official question sets MMLU and ARC-Challenge: read from ``--data-dir`` in the columns of the Hub's copies, or
left to lm-eval to load from the Hub at a pinned commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from benchmarks.lmeval import row_checks
from benchmarks.lmeval.split_files import FileStamp, Splits, numbered_rows, stamped
from benchmarks.shared.official_files import files_hash, local_file
from harness.benchmark import Row
from harness.errors import AbsentError, UserError
from harness.store import hub
from harness.store.user_files import Malformed

WHOLE_SET = "default"
"""The one stratum of a set without subjects."""


@dataclass(frozen=True)
class LocalQuestions:
    """What a data folder holds.

    Attributes:
        identity: hash of the files.
        strata: rows by stratum and split.
        repeated: how many of the questions repeat an earlier one of their stratum (the official MMLU has some).
    """

    identity: str
    strata: Mapping[str, Splits]
    repeated: int


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """An official question set.

    Attributes:
        folder: under the data folder.
        files: names in order of preference, by split; the split ``test`` is asked.
        repository: of the Hub.
        revision: its commit.
        size: questions of ``test`` when it is whole.
        check: a row of a file as the Hub's copy has it; raises :class:`Malformed` if it is no question.
        shown: the split that gives the examples.
        stratum_key: the key of a row's stratum; empty if the set has none.
    """

    folder: str
    files: Mapping[str, tuple[str, ...]]
    repository: str
    revision: str
    size: int
    check: Callable[[Row], Row]
    shown: str
    stratum_key: str = ""

    def paths(self) -> dict[str, Path]:
        """The set's files by split; empty where the data folder has none.

        Raises:
            UserError: some are there and some are not.
        """
        paths = {split: local_file(self.folder, *names) for split, names in self.files.items()}
        if not any(paths.values()):
            return {}
        missing = [self.files[split][0] for split, path in paths.items() if path is None]
        if missing:
            raise UserError(f"The folder {self.folder} under --data-dir lacks {', '.join(missing)}: add it")
        return {split: path for split, path in paths.items() if path is not None}

    def identity(self) -> str:
        """Where the questions come from: a hash of the files, or the Hub's revision.

        Raises:
            UserError: neither is at hand, or a row is no question.
        """
        if questions := self.questions():
            return questions.identity
        if not hub.reachable(self.repository, self.revision):
            wanted = ", ".join(f"{self.folder}/{names[0]}" for names in self.files.values())
            raise AbsentError(
                f"The Hub is switched off or does not answer, and {self.repository} is not in its cache: "
                f"give --data-dir with {wanted}"
            )
        return f"{self.repository}@{self.revision}"

    def questions(self) -> LocalQuestions | None:
        """What the data folder holds, read and checked once a process; None where it has none.

        Raises:
            UserError: a row is no question (file and line are named), or there is none.
        """
        paths = self.paths()
        files = [_SplitFile(split, stamped(path)) for split, path in paths.items()]
        return _read_questions(self, *files) if files else None

    def count(self) -> int:
        """Questions of the data folder; those of the whole set where it has none."""
        return sum(self.sizes().values()) if self.paths() else self.size

    def sizes(self) -> dict[str, int]:
        """Questions of the data folder by stratum; empty where it has none."""
        return {stratum: len(splits["test"]) for stratum, splits in self.local().items()}

    def local(self) -> Mapping[str, Splits]:
        """Rows by stratum and split, as lm-eval's tasks expect them; empty where the data folder has none."""
        questions = self.questions()
        return questions.strata if questions else {}

    def check_examples(self, shots: int) -> None:
        """Check that each stratum has ``shots`` rows to show as examples.

        Raises:
            UserError: one has fewer.
        """
        for stratum, splits in self.local().items():
            count = len(splits.get(self.shown, []))
            if count < shots:
                whose = f" of the {self.stratum_key} {stratum!r}" if self.stratum_key else ""
                raise UserError(
                    f"{self.paths()[self.shown]} has {count} questions{whose}, but {shots} are shown as examples: "
                    "add the others"
                )


MMLU = QuestionSet(
    "mmlu",
    {"test": ("test.jsonl", "test_first18_per_subject.jsonl"), "dev": ("dev.jsonl",)},
    "cais/mmlu",
    "c30699e8356da336a370243923dbaf21066bb9fe",
    14042,
    row_checks.mmlu_question,
    "dev",
    stratum_key="subject",
)
ARC = QuestionSet(
    "arc_challenge",
    {"train": ("train.jsonl",), "test": ("test.jsonl",)},
    "allenai/ai2_arc",
    "210d026faf9955653af8916fad021475a3f00453",
    1172,
    row_checks.arc_question,
    "train",
)


class _SplitFile(NamedTuple):
    split: str
    file: FileStamp


@lru_cache(maxsize=4)
def _read_questions(question_set: QuestionSet, *files: _SplitFile) -> LocalQuestions:
    """Rows by stratum; a stratum with nothing to ask is left out."""
    stratum_key = question_set.stratum_key
    strata: dict[str, Splits] = {}
    distinct: set[tuple[str, str, str]] = set()
    for split, file in files:
        ids: dict[tuple[str, str], str] = {}
        for where, row in numbered_rows(file.path, ["question", "choices", *([stratum_key] if stratum_key else [])]):
            try:
                question = question_set.check(row)
            except Malformed as error:
                raise UserError(f"{file.path}, {where}: {error}") from None
            stratum = question[stratum_key] if stratum_key else WHOLE_SET
            strata.setdefault(stratum, {}).setdefault(split, []).append(question)
            if split != "test":
                continue
            name = (stratum, str(row.get("id")))
            if row.get("id") not in (None, "") and ids.setdefault(name, where) != where:
                raise UserError(f"{file.path}, {where}: {ids[name]} has the id {row['id']!r} too: give each its own")
            distinct.add((stratum, question["question"], str(question["choices"])))
    with_test = {stratum: splits for stratum, splits in strata.items() if "test" in splits}
    count = sum(len(splits["test"]) for splits in with_test.values())
    return LocalQuestions(files_hash(*(file.path for _, file in files)), with_test, count - len(distinct))
