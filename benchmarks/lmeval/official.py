"""MMLU and ARC-Challenge as lm-eval defines them, with everything fixed but the subset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from benchmarks.lmeval.benchmark import LMEval
from benchmarks.lmeval.question_sets import ARC, MMLU, QuestionSet
from benchmarks.lmeval.split_files import Splits
from benchmarks.lmeval.tasks import build_tasks, definitions_folder
from benchmarks.shared.subset import draw_subset
from harness.benchmark import BenchmarkOptions, EvalCost, published_if_absent
from harness.errors import UserError

BATCH = 16
"""Questions that share their examples in a forward pass, about."""


class OfficialTasks(LMEval):
    """A protocol with everything fixed but the subset. ``source``: its question set. ``item_tokens``: of
    a question with its options, about; in a prompt's examples too. ``rows``:
    sequences of an item."""

    source: ClassVar[QuestionSet]
    item_tokens: ClassVar[int]
    rows: ClassVar[int] = 1

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        count, whole = self.source.count(), self.source.size
        used = min(self.options.limit or count, count)
        if used < whole:
            by = f" by {self.source.stratum_key}" if self.source.stratum_key else ""
            self.label = f"{used:,} of {whole:,}" + (f", drawn{by}" if used < count else "")

    def task_of(self, stratum: str) -> str:
        """lm-eval's task of a stratum."""
        raise NotImplementedError

    def identity(self) -> str:
        """The source's.

        Raises:
            UserError: no source, a row that is no question, a subject that lm-eval does not know or with fewer examples
                than are shown, or a limit that leaves a subject out.
        """
        identity = self.source.identity()
        self._local()
        self.source.check_examples(self.shots or 0)
        sizes = self.source.sizes() or dict.fromkeys(self.definitions(), self.source.size)
        draw_subset(sizes, self.options.limit or 10**9)  # raises if the limit is too small
        return identity

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """The questions, and the examples once for all questions of a batch that share them."""
        count = min(self.options.limit or 10**9, published_if_absent(self.source.count, self.source.size))
        return EvalCost(0, 0, round(count * self.item_tokens * (self.rows + (self.shots or 0) / BATCH)), common=1.0)

    def longest_prompt(self) -> int:
        """Twice the usual length of a question with its examples."""
        return 2 * self.item_tokens * (1 + (self.shots or 0))

    def tasks(self) -> list[Any]:
        """From ``--data-dir``, else from the Hub at a pinned revision; the definitions are the same."""
        data = self._local()
        chosen = {name: path for name, path in self.definitions().items() if not data or name in data}
        return build_tasks(chosen, data, {"revision": self.source.revision})

    def _local(self) -> dict[str, Splits]:
        """Rows of the data folder by task and split."""
        data = {self.task_of(stratum): splits for stratum, splits in self.source.local().items()}
        definitions = self.definitions()
        unknown = [name for name in data if name not in definitions]
        if unknown:
            raise UserError(f"lm-eval has no task {unknown[0]!r}: fix the subjects in {self.source.folder}")
        return data

    def prompt_texts(self) -> list[str]:
        """The questions of the data folder, without their options; none where they are on the Hub."""
        data = {name: splits["test"] for name, splits in self._local().items()}
        sizes = {name: len(rows) for name, rows in data.items()}
        drawn = draw_subset(sizes, self.options.limit or sum(sizes.values()), self.options.seed)
        return [data[name][place]["question"] for name, places in drawn.items() for place in places]

    def notes(self) -> list[str]:
        """Questions that stand in the files twice."""
        questions = self.source.questions()
        if questions is None or not questions.repeated:
            return []
        return [f"{questions.repeated:,} of {self.source.count():,} questions repeat an earlier one and count again"]


class MMLU5(OfficialTasks):
    """Knowledge over 57 subjects (arXiv 2009.03300): 5 examples, accuracy by the letter's log-likelihood."""

    name = "mmlu_official"
    title = "MMLU 5-shot"
    summary = "the official items (--data-dir or the Hub) by lm-eval: 57 subjects, 5-shot, acc"
    source, shots, main = MMLU, 5, "acc"
    item_tokens = 110

    def definitions(self) -> dict[str, Path]:
        """The 57 subjects of group ``mmlu``."""
        folder = definitions_folder() / "mmlu" / "default"
        return {path.stem: path for path in sorted(folder.glob("mmlu_*.yaml"))}

    def task_of(self, stratum: str) -> str:
        """``mmlu_`` and the subject."""
        return f"mmlu_{stratum}"

    def stratum(self, task: str) -> str:
        """The subject."""
        return task.removeprefix("mmlu_")


class MMLU5Chat(MMLU5):
    """The same by the chat template: another protocol, whose numbers differ by several points."""

    name = "mmlu_official_chat"
    title = "MMLU 5-shot chat"
    summary = "the same by the model's chat template, each example a turn of its own"
    chat = True


class ARC25(OfficialTasks):
    """Grade-school science (arXiv 1803.05457): 25 examples, log-likelihood of the option's text by its length."""

    name = "arc_challenge_official"
    title = "ARC-C 25-shot"
    summary = "the official items (--data-dir or the Hub) by lm-eval: 25-shot, acc_norm"
    source, shots, main = ARC, 25, "acc_norm"
    item_tokens, rows = 40, 4

    def definitions(self) -> dict[str, Path]:
        """One task."""
        return {"arc_challenge": definitions_folder() / "arc" / "arc_challenge.yaml"}

    def task_of(self, stratum: str) -> str:
        """One task."""
        return "arc_challenge"


class ARC25Chat(ARC25):
    """The same by the chat template."""

    name = "arc_challenge_official_chat"
    title = "ARC-C 25-shot chat"
    summary = "the same by the model's chat template, each example a turn of its own"
    chat = True


class ARC0(ARC25):
    """Without examples, which is lm-eval's own default."""

    name = "arc_challenge_0shot"
    title = "ARC-C 0-shot"
    summary = "the official items (--data-dir or the Hub) by lm-eval: 0-shot, acc_norm"
    shots = 0


class ARC0Chat(ARC0):
    """The same by the chat template."""

    name = "arc_challenge_0shot_chat"
    title = "ARC-C 0-shot chat"
    summary = "the same by the model's chat template"
    chat = True
