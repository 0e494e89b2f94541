"""Any single task of lm-eval, written ``lm_eval:TASK`` in a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from benchmarks.lmeval.benchmark import LMEval, LMEvalOptions
from benchmarks.lmeval.documents import document_fault
from benchmarks.lmeval.run import quiet, seeded
from benchmarks.lmeval.split_files import Splits, split_rows, stamped
from benchmarks.lmeval.tasks import build_tasks, definition_file, needed_splits, tested_split
from benchmarks.shared.official_files import files_hash, local_folder
from harness.benchmark import Benchmark, BenchmarkOptions, EvalCost
from harness.budget.forecast import text_tokens
from harness.errors import AbsentError, Problem, UserError


class AnyTaskOptions(LMEvalOptions):
    """``shots``: examples (absent: the task's own number). ``chat``: by the chat template. ``revision``: commit of the
    task's data set on the Hub, needed unless ``--data-dir`` has ``lm_eval/TASK/SPLIT.jsonl``."""

    shots: int | None = Field(default=None, ge=0)
    chat: bool = False
    revision: str = Field(default="", pattern="^([0-9a-f]{40})?$")


class AnyTask(LMEval):
    """A single task of lm-eval by name; its score is the first metric that the task lists."""

    name = "lm_eval"
    title = "lm-eval"
    summary = "any single task of lm-eval, written lm_eval:TASK (lm_eval:truthfulqa_mc2, lm_eval:ifeval)"
    label = "lm-eval"
    Options = AnyTaskOptions
    options: AnyTaskOptions
    task: ClassVar[str] = ""

    @classmethod
    def member(cls, name: str) -> type[Benchmark]:
        """The benchmark ``lm_eval:name``."""
        return type("Task", (cls,), {"name": f"{cls.name}:{name}", "title": name, "task": name, "__doc__": cls.__doc__})

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        self.shots, self.chat = self.options.shots, self.options.chat
        if self.options.limit:
            self.label = f"{self.options.limit} drawn"  # of how many is not always known

    def protocol(self) -> dict[str, Any]:
        """The label says of how many questions, where local files give the number."""
        protocol, limit = super().protocol(), self.options.limit
        count = len(self._splits().get(tested_split(self.definitions()[self.task]), []))
        if limit and count:
            protocol["label"] = f"{limit:,} of {count:,}, drawn" if limit < count else AnyTask.label
        return protocol

    def definitions(self) -> dict[str, Path]:
        """The task's.

        Raises:
            UserError: no task is named, or lm-eval has none of that name.
        """
        if not self.task:
            raise UserError("The benchmark lm_eval needs the name of a task: write lm_eval:TASK")
        return {self.task: definition_file(self.task)}

    def _files(self) -> dict[str, Path]:
        """The data folder's file by split."""
        folder = local_folder("lm_eval", self.task)
        return {path.stem: path for path in sorted(folder.glob("*.jsonl"))} if folder else {}

    def _splits(self) -> Splits:
        return {split: list(split_rows(stamped(path))) for split, path in self._files().items()}

    def identity(self) -> str:
        """A hash of the local files, which are read and checked, or the Hub's revision.

        Raises:
            UserError: there is neither, or a file is broken.
        """
        if paths := self._files():
            self._splits()
            return files_hash(*paths.values())
        if not self.options.revision:
            raise UserError(
                f"The benchmark {self.name} needs data: write benchmarks: {{{self.name}: {{revision: COMMIT}}}} into "
                "the recipe (a commit of its data set on the Hub), or put "
                f"lm_eval/{self.task}/SPLIT.jsonl under --data-dir"
            )
        return f"Hub@{self.options.revision}"

    def ready(self) -> list[Problem]:
        """Splits that the task reads and the data folder lacks; else the first question that cannot be asked."""
        files = self._files()
        missing = [split for split in needed_splits(self.definitions()[self.task]) if split not in files]
        if files and not missing:
            return self._document_problems()
        if not files:
            return []
        sentence = f"lm-eval's task {self.task} reads the splits {', '.join(missing)}, which the data folder lacks"
        names = ", ".join(f"lm_eval/{self.task}/{split}.jsonl" for split in missing)
        return [Problem(f"benchmark {self.name}", sentence, f"put {names} under --data-dir", absent=True)]

    def _document_problems(self) -> list[Problem]:
        """The first question of the local files that lm-eval could not ask."""
        with quiet(), seeded():
            fault = document_fault(self.tasks()[0])
        if not fault:
            return []
        folder = next(iter(self._files().values())).parent
        sentence = f"The files in {folder} do not fit lm-eval's task {self.task}: {fault}"
        return [Problem(f"benchmark {self.name}", sentence, "correct or remove it")]

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """By the letters of the local rows; nothing is known of a task whose data are on the Hub.

        Raises:
            AbsentError: its data are on the Hub.
        """
        rows = self._splits().get(tested_split(self.definitions()[self.task]), [])
        if not rows:
            raise AbsentError(f"The cost of {self.name} is not known before its data are here: give --data-dir")
        texts = [" ".join(str(value) for value in row.values()) for row in rows[: self.options.limit or None]]
        return EvalCost(0, 0, text_tokens(texts, template=0) * (1 + (self.shots or 0)))

    def tasks(self) -> list[Any]:
        """The one task.

        Raises:
            UserError: ``shots`` is set, and the task fixes 0 examples.
        """
        splits = self._splits()
        data = {self.task: splits} if splits else {}
        tasks = build_tasks(self.definitions(), data, {"revision": self.options.revision})
        if self.shots and tasks[0].config.num_fewshot == 0:
            raise UserError(f"lm-eval's task {self.task} fixes 0 examples: leave shots out of benchmark {self.name}")
        return tasks
