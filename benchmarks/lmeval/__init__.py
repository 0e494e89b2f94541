"""MMLU and ARC-Challenge as lm-eval defines them, and any other single task of lm-eval as ``lm_eval:TASK``.

lm-eval is used as a library, on the policy in memory: its task definitions, prompts, examples, filters and metrics. The
log-likelihoods equal those of its own ``HFLM`` (:mod:`benchmarks.lmeval.model`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from benchmarks.lmeval import tasks
from benchmarks.lmeval.data import ARC, MMLU, Source, Splits, stamped, subset, table
from benchmarks.shared import official_files as datadir
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, Row
from harness.errors import UserError
from harness.score.metrics import metric
from harness.score.results import Columns, Metric


class LMEvalOptions(BenchmarkOptions):
    """``limit``: a subset of so many items, drawn by ``seed``; MMLU's by subject in proportion (0: all)."""

    limit: int = Field(default=0, ge=0)
    seed: int = 0


class LMEval(Benchmark):
    """What the protocols share: tasks built from lm-eval's definitions, one call, one row an item.

    ``shots``: examples; None for the task's own number. ``chat``: by the chat template, each example a turn of its own.
    """

    Options = LMEvalOptions
    options: LMEvalOptions
    label = "official set"
    shots: int | None = None
    chat: bool = False

    def definitions(self) -> dict[str, Path]:
        """lm-eval's YAML file by task."""
        raise NotImplementedError

    def identity(self) -> str:
        """Where the questions come from."""
        raise NotImplementedError

    def tasks(self) -> list[Any]:
        """The tasks, their data read."""
        raise NotImplementedError

    def protocol(self) -> dict[str, Any]:
        """Adds lm-eval's version, the hash of its definitions, the data, and how examples are drawn and shown."""
        found = super().protocol() | {
            "lm_eval": tasks.lm_eval_version(),
            "definition": tasks.definition(list(self.definitions().values())),
            "data": self.identity(),
            "shots": self.shots,
            "shots_seed": 1234,
            "chat": self.chat,
        }
        if not self.options.limit:
            del found["seed"]
        return found

    def answer(self, context: EvalContext) -> list[Row]:
        """lm-eval's samples: responses, target and metrics of each item; ``weight``: items that it stands for; ``cut``:
        tokens of its prompt that the model's length left no room for."""
        from benchmarks.lmeval import run
        from benchmarks.lmeval.model import PolicyLM

        self.tell(self.notes())
        with run.quiet(), context.policy.meter.phase("eval"):
            with run.seeded():
                built = {task.config.task: task for task in self.tasks()}
            with run.seeded():  # the first look at the documents, which some tasks shuffle
                sizes = {name: len(task.eval_docs) for name, task in built.items()}
            chosen = subset(sizes, self.options.limit, self.options.seed) if self.options.limit else None
            lm = PolicyLM(context.policy, context.scoring_batch_size, context.progress, context.expect)
            with run.seeded():
                results = run.simple_evaluate(lm, list(built.values()), self.shots, chosen, self.chat)
        found = run.rows(results)
        places = {task: dict(enumerate(chosen[task])) if chosen else {} for task in sizes}
        cut = {(task, places[task].get(at, at)): tokens for (task, at), tokens in lm.cut.items()}
        for row in found:
            if (row["task"], row["doc_id"]) in cut:
                row["cut"] = cut[row["task"], row["doc_id"]]
        if cut:
            self.tell([f"{len(cut):,} items have a prompt longer than the model's {lm.max_length:,} tokens: it is cut"])
        if chosen:
            for row in found:
                row["weight"] = round(sizes[row["task"]] / len(chosen[row["task"]]), 6)
        for row in found:
            row["higher"] = {k: results["higher_is_better"][row["task"]].get(k) for k in row["metrics"]}
        return found

    def notes(self) -> list[str]:
        """What the log says of the data."""
        return []

    def tell(self, sentences: Sequence[str]) -> None:
        """Sentences for the run's log."""
        for sentence in sentences:
            print(f"{self.name}: {sentence}", flush=True)

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """Each metric that is a mean over items, or a perplexity; the first one, or ``main``, is primary."""
        groups: dict[str, Columns] = {}
        found: list[Metric] = []
        several = len({r["filter"] for r in rows}) > 1
        for name in dict.fromkeys(r["filter"] for r in rows):
            part = [r for r in rows if r["filter"] == name]
            group = name if several else "items"
            groups[group] = self._columns(part)
            for key in dict.fromkeys(key for r in part for key in r["metrics"]):
                values = [r["metrics"].get(key) for r in part]
                full = f"{key},{name}" if several else key
                made = _metric(full, key, self._title(full), values, groups, group, part[0]["higher"].get(key))
                found += [made] if made else []
        if not found:
            raise UserError(f"The benchmark {self.name} has no metric that is a mean over items: name another task")
        first = next((m for m in found if m.name == self.main), found[0])
        first.primary = True
        found.sort(key=lambda m: not m.primary)
        return groups, found

    main: ClassVar[str] = ""

    def _title(self, name: str) -> str:
        return self.title if name == self.main else f"{self.title} {name}"

    def _columns(self, rows: list[Row]) -> Columns:
        several = len({r["task"] for r in rows}) > 1
        columns: Columns = {"id": [f"{r['task']}/{r['doc_id']}" if several else r["doc_id"] for r in rows]}
        if several:
            columns["subject"] = [self.stratum(r["task"]) for r in rows]
        if "weight" in rows[0]:
            columns["weight"] = [r["weight"] for r in rows]
        return columns

    def stratum(self, task: str) -> str:
        """A task's name as tables show it."""
        return task


SHARES = re.compile(r"^(acc|exact_match|em\b|f1|mc[12]|prompt_level|pass@)")


def _metric(
    name: str,
    key: str,
    title: str,
    values: list[Any],
    groups: dict[str, Columns],
    group: str,
    higher: bool | None,
) -> Metric | None:
    """A metric with its columns; None for one that is no mean over items (a correlation, say)."""
    better: Any = 0 if higher is None else 1 if higher else -1
    columns = groups[group]
    known = [v for v in values if v is not None]
    if all(isinstance(v, bool | int | float) for v in known):
        columns[name] = [None if v is None else float(v) for v in values]
        share = SHARES.match(key) is not None
        kind = ("weighted_" if "weight" in columns else "") + ("percent" if share else "mean")
        return metric(name, title, f"{key} %" if share else key, better, kind, name, group=group)
    if all(isinstance(v, list) and all(isinstance(each, bool) for each in v) for v in known):
        columns[name] = [None if v is None else [float(each) for each in v] for v in values]
        return metric(name, title, key, better, "pooled_mean", name, group=group)
    if key in ("word_perplexity", "byte_perplexity"):
        groups[name] = {"id": columns["id"], "nll": [-v[0] for v in values], "tokens": [v[1] for v in values]}
        return metric(name, title, key, better, "perplexity", "nll", group=name)
    return None


class Official(LMEval):
    """A protocol with everything fixed but the subset."""

    source: ClassVar[Source]

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        super().__init__(options)
        there, whole = self.source.count(), self.source.size
        asked = min(self.options.limit or there, there)
        if asked < whole:
            drawn = f", drawn{' by ' + self.source.by if self.source.by else ''}" if asked < there else ""
            self.label = f"{asked:,} of {whole:,}{drawn}"

    def identity(self) -> str:
        """The source's.

        Raises:
            UserError: no source, a row that is no question, a subject that lm-eval does not know or with fewer examples
                than are shown, or a limit that leaves a subject out.
        """
        found = self.source.identity()
        self._local()
        self.source.suffice(self.shots or 0)
        subset(self.source.sizes() or dict.fromkeys(self.definitions(), self.source.size), self.options.limit or 10**9)
        return found

    def tasks(self) -> list[Any]:
        """From ``--data-dir``, else from the Hub at a pinned revision; the definitions are the same."""
        data = self._local()
        chosen = {name: path for name, path in self.definitions().items() if not data or name in data}
        return tasks.build(chosen, data, {"revision": self.source.revision})

    def _local(self) -> dict[str, Splits]:
        """Rows of the data folder by task and split."""
        data = {self.task_of(stratum): splits for stratum, splits in self.source.local().items()}
        known = self.definitions()
        unknown = [name for name in data if name not in known]
        if unknown:
            raise UserError(f"lm-eval has no task {unknown[0]!r}: mend the subjects in {self.source.folder}")
        return data

    def prompt_texts(self) -> list[str]:
        """The questions of the data folder, without their options; none where they are on the Hub."""
        data = {name: splits["test"] for name, splits in self._local().items()}
        sizes = {name: len(found) for name, found in data.items()}
        drawn = subset(sizes, self.options.limit or sum(sizes.values()), self.options.seed)
        return [data[name][place]["question"] for name, places in drawn.items() for place in places]

    def notes(self) -> list[str]:
        """Questions that stand there twice."""
        found = self.source.questions()
        if found is None or not found.repeated:
            return []
        return [f"{found.repeated:,} of {self.source.count():,} questions repeat an earlier one and count again"]

    def task_of(self, stratum: str) -> str:
        """lm-eval's task of a stratum."""
        raise NotImplementedError


class MMLU5(Official):
    """Knowledge over 57 subjects (arXiv 2009.03300): 5 examples, accuracy by the letter's log-likelihood."""

    name = "mmlu_official"
    title = "MMLU 5-shot"
    summary = "the official items (--data-dir or the Hub) by lm-eval: 57 subjects, 5-shot, acc"
    source, shots, main = MMLU, 5, "acc"

    def definitions(self) -> dict[str, Path]:
        """The 57 subjects of group ``mmlu``."""
        folder = tasks.root() / "mmlu" / "default"
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


class ARC25(Official):
    """Grade-school science (arXiv 1803.05457): 25 examples, log-likelihood of the option's text by its length."""

    name = "arc_challenge_official"
    title = "ARC-C 25-shot"
    summary = "the official items (--data-dir or the Hub) by lm-eval: 25-shot, acc_norm"
    source, shots, main = ARC, 25, "acc_norm"

    def definitions(self) -> dict[str, Path]:
        """One task."""
        return {"arc_challenge": tasks.root() / "arc" / "arc_challenge.yaml"}

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


class AnyOptions(LMEvalOptions):
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
    Options = AnyOptions
    options: AnyOptions
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
        """With how many questions there are in the label, where local files tell."""
        found, limit = super().protocol(), self.options.limit
        there = len(self._splits().get(tasks.tested(self.definitions()[self.task]), []))
        if limit and there:
            found["label"] = f"{limit:,} of {there:,}, drawn" if limit < there else AnyTask.label
        return found

    def definitions(self) -> dict[str, Path]:
        """The task's."""
        if not self.task:
            raise UserError("The benchmark lm_eval needs the name of a task: write lm_eval:TASK")
        return {self.task: tasks.locate(self.task)}

    def _files(self) -> Mapping[str, Path]:
        folder = datadir.folder("lm_eval", self.task)
        return {path.stem: path for path in sorted(folder.glob("*.jsonl"))} if folder else {}

    def _splits(self) -> Splits:
        return {split: list(table(*stamped(path))) for split, path in self._files().items()}

    def identity(self) -> str:
        """A hash of the local files, which are read and checked, or the Hub's revision."""
        if paths := self._files():
            self._splits()
            return datadir.sha256(*paths.values())
        if not self.options.revision:
            raise UserError(
                f"The benchmark {self.name} needs data: set its revision (a commit of the data set on the Hub), or put "
                f"lm_eval/{self.task}/SPLIT.jsonl under --data-dir"
            )
        return f"Hub@{self.options.revision}"

    def tasks(self) -> list[Any]:
        """The one task."""
        found = self._splits()
        data = {self.task: found} if found else {}
        built = tasks.build(self.definitions(), data, {"revision": self.options.revision})
        if self.shots and built[0].config.num_fewshot == 0:
            raise UserError(f"lm-eval's task {self.task} fixes 0 examples: leave shots out of benchmark {self.name}")
        return built
