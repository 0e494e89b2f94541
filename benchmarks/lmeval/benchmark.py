"""What all benchmarks by lm-eval share: tasks built from its definitions, one call, one row an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from benchmarks.lmeval.run import evaluate_tasks, quiet, sample_rows, seeded
from benchmarks.lmeval.sample_metrics import UNIT_SHARES, SampleValues, add_metric, has_finite_responses
from benchmarks.lmeval.tasks import definitions_hash, lm_eval_version
from benchmarks.shared.numbers import SHARE
from benchmarks.shared.subset import draw_subset
from harness.benchmark import Benchmark, BenchmarkOptions, EvalContext, Row, Scored
from harness.errors import UserError
from harness.score.results import Columns, Metric


class LMEvalOptions(BenchmarkOptions):
    """``limit``: a subset of so many items, MMLU's by subject in proportion (0: all). ``seed``: of that draw."""

    limit: int = Field(default=0, ge=0)
    seed: int = 0


class LMEval(Benchmark):
    """A benchmark whose items, prompts and metrics are lm-eval's.

    ``shots``: examples; None for the task's own number. ``chat``: by the chat template, each example a turn of its own.
    ``main``: the primary metric; empty for the first one that the task lists.
    """

    Options = LMEvalOptions
    options: LMEvalOptions
    label = "official set"
    shots: int | None = None
    chat: bool = False
    main: ClassVar[str] = ""

    def definitions(self) -> dict[str, Path]:
        """lm-eval's YAML file by task."""
        raise NotImplementedError

    def identity(self) -> str:
        """Where the questions come from."""
        raise NotImplementedError

    def tasks(self) -> list[Any]:
        """lm-eval's task objects, their data read."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What the log says of the data."""
        return []

    def stratum(self, task: str) -> str:
        """A task's name as tables show it."""
        return task

    def protocol(self) -> dict[str, Any]:
        """Adds lm-eval's version, the hash of its definitions, the data, and how examples are drawn and shown."""
        protocol = super().protocol() | {
            "lm_eval": lm_eval_version(),
            "definition": definitions_hash(list(self.definitions().values())),
            "data": self.identity(),
            "shots": self.shots,
            "shots_seed": 1234,
            "chat": self.chat,
        }
        if not self.options.limit:
            del protocol["seed"]
        return protocol

    def answer(self, context: EvalContext) -> list[Row]:
        """lm-eval's samples: responses, target and metrics of each item; ``weight``: items that it stands for; ``cut``:
        tokens of its prompt that the model's length left no room for."""
        from benchmarks.lmeval.model import PolicyLM

        self._log(self.notes())
        with quiet(), context.policy.meter.phase("eval"):
            with seeded():
                tasks = {task.config.task: task for task in self.tasks()}
            with seeded():  # the first look at the documents, which some tasks shuffle
                sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
            drawn = draw_subset(sizes, self.options.limit, self.options.seed) if self.options.limit else None
            lm = PolicyLM(context.policy, context.scoring_batch_size, context.progress, context.expect)
            with seeded():
                results = evaluate_tasks(lm, list(tasks.values()), self.shots, drawn, self.chat)
        rows = sample_rows(results)
        if lm.cut:
            _add_cuts(rows, lm.cut, drawn)
            limit = f"{lm.max_length:,} tokens"
            self._log([f"{len(lm.cut):,} items have a prompt longer than the model's {limit}: it is cut"])
        for row in rows:
            if drawn:
                row["weight"] = round(sizes[row["task"]] / len(drawn[row["task"]]), 6)
            row["higher"] = {key: results["higher_is_better"][row["task"]].get(key) for key in row["metrics"]}
        return rows

    def _log(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            print(f"{self.name}: {sentence}", flush=True)

    def score(self, rows: list[Row]) -> Scored:
        """Each metric that is a mean over items, or a perplexity; the first one, or ``main``, is primary.

        Raises:
            UserError: there is no such metric.
        """
        groups: dict[str, Columns] = {}
        metrics: list[Metric] = []
        filters = list(dict.fromkeys(r["filter"] for r in rows))
        for name in filters:
            filtered = [r for r in rows if r["filter"] == name]
            group = name if len(filters) > 1 else "items"
            groups[group] = self._columns(filtered)
            finite = [has_finite_responses(r["resps"]) for r in filtered]
            for key in dict.fromkeys(key for r in filtered for key in r["metrics"]):
                values = [r["metrics"].get(key) for r in filtered]
                samples = SampleValues(key, values, filtered[0]["higher"].get(key), finite)
                full_name = f"{key},{name}" if len(filters) > 1 else key
                metric = add_metric(samples, full_name, self._title(full_name), groups, group)
                metrics += [metric] if metric else []
        if not metrics:
            raise UserError(f"The benchmark {self.name} has no metric that is a mean over items: name another task")
        next((m for m in metrics if m.name == self.main), metrics[0]).primary = True
        metrics.sort(key=lambda m: not m.primary)
        ranges = {m.estimator.column: SHARE for m in metrics if UNIT_SHARES.match(m.name)}
        return Scored(groups, metrics, ranges)

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


def _add_cuts(
    rows: Sequence[Row], cut: Mapping[tuple[str, int], int], drawn: Mapping[str, Sequence[int]] | None
) -> None:
    """Add ``cut`` to the rows of items whose prompt was cut.

    Args:
        rows: of all items.
        cut: tokens by task and place among the items asked.
        drawn: places of those items in the task's set; None if all were asked.
    """
    tokens_by_item = {(task, drawn[task][place] if drawn else place): tokens for (task, place), tokens in cut.items()}
    for row in rows:
        if (row["task"], row["doc_id"]) in tokens_by_item:
            row["cut"] = tokens_by_item[row["task"], row["doc_id"]]
