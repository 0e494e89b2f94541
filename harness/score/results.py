"""The result file ``results/<recipe>/<budget>/<method>/seed-<k>.json``: one typed, versioned schema for all reports.

A score never stands alone: value, interval, n_valid / n_total, protocol hash, judge identity and ledger are one
record. The per-prompt columns are stored with it, so that differences between methods can be computed on paired
prompts, and a score can be recomputed, from the files alone.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from harness.errors import UserError, unknown
from harness.store.json_files import write_json
from harness.store.storage import unwritable

SCHEMA_VERSION = 1

RESULTS = Path("results")
LOCAL = RESULTS / "local"
"""Where a user's own comparisons go. Git ignores it, so that the committed results of a clone stay as they are."""

_READ = (RESULTS, RESULTS / "studies", LOCAL)

Columns = dict[str, list[Any]]


class Record(BaseModel):
    """Base class of what a result file holds: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")


class Estimator(Record):
    """How a value follows from per-prompt columns: a name of :mod:`harness.score.estimators`, a group of columns, and
    the column it uses (if it uses one)."""

    kind: str
    group: str = "items"
    column: str = ""


class Metric(Record):
    """One number with its 95% interval (bootstrap over prompts) and its minimum detectable difference.

    ``better``: 1 if higher is better, -1 if lower is, 0 if neither (a cost or a diagnostic). ``mdd``: the smallest true
    difference between two independent models that a set of this size finds with power 80% at the 5% level.
    """

    name: str
    title: str
    unit: str
    better: Literal[-1, 0, 1]
    primary: bool = False
    estimator: Estimator
    value: float | None = None
    low: float | None = None
    high: float | None = None
    mdd: float | None = None
    n_valid: int = 0
    n_total: int = 0


FINDINGS = ("fault", "invalid", "stripped", "replaced")
"""Fields of a :class:`BenchmarkResult` that its file lacks where there is nothing to report."""


class BenchmarkResult(Record):
    """Scores of one benchmark under one protocol.

    ``snapshots``: the models that the judge's endpoint reported as having answered. ``unanswered``: calls that it did
    not answer; the same command repeats them. ``fault``: why the last of them got none. ``invalid``: by metric, how
    many values are not valid, by reason. ``stripped``: the policy's answers whose thoughts were left out. ``replaced``:
    characters of its answers and of the judge's replies that no store takes; U+FFFD stands for them.
    """

    benchmark: str
    title: str
    label: str
    protocol: dict[str, Any]
    protocol_hash: str
    judge: dict[str, Any] | None
    metrics: list[Metric]
    items: dict[str, Columns]
    snapshots: list[str] = []
    unanswered: int = 0
    invalid: dict[str, dict[str, int]] = {}
    fault: str = ""
    stripped: int = 0
    replaced: int = 0

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files of results without such findings stay as they were before these were recorded."""
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value or name not in FINDINGS}

    def metric(self, name: str) -> Metric:
        """A metric by name."""
        return next(m for m in self.metrics if m.name == name)


class Trial(Record):
    """One point of the recorded search."""

    learning_rate: float
    options: dict[str, Any] = {}
    gold_reward: float | None = None
    perplexity_ratio: float | None = None
    eligible: bool
    seed: int
    error: str = ""


class RunResult(Record):
    """One run: recipe x method x seed. ``variant_of`` is set where ``method`` is a variant that the recipe names;
    ``reference`` is the row that the others are compared with; ``versions`` are those of the code that made it
    (:mod:`harness.store.versions`); ``pending`` are benchmarks that it is still to be measured on, and ``error``
    is why that failed, if it did; ``stages`` are keys in the store: of the ``policy``, and by benchmark of its judged
    rows. ``contents`` are hashes of what these held: weights of the ``start`` and the ``policy``, rows of the ``pairs``
    and, by benchmark, its judged rows; a file lacks it where the store recorded none."""

    schema_version: Literal[1] = 1
    run_key: str
    comparison_key: str
    recipe: str
    recipe_hash: str
    description: str
    method: str
    variant_of: str = ""
    reference: str = "dpo"
    method_summary: str
    method_paper: str
    method_origin: str
    method_options: dict[str, Any]
    seed: int
    budget: dict[str, Any]
    status: Literal["ok", "failed"]
    error: str = ""
    start: dict[str, Any]
    data: dict[str, Any]
    oracles: dict[str, Any] = Field(default_factory=dict)
    learning_rate: float | None = None
    trials: list[Trial] = []
    ledger: dict[str, Any] = Field(default_factory=dict)
    tuning_ledger: dict[str, Any] = Field(default_factory=dict)
    overshoot: float = 0
    stopped_by: str = ""
    prices: dict[str, Any] = Field(default_factory=dict)
    benchmarks: list[BenchmarkResult] = []
    train_log: list[dict[str, float]] = []
    environment: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, int] = Field(default_factory=dict)
    pending: list[str] = []
    stages: dict[str, str] = Field(default_factory=dict)
    contents: dict[str, str] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Files of results without hashes stay as they were before these were recorded."""
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value or name != "contents"}

    def benchmark(self, name: str) -> BenchmarkResult | None:
        """A benchmark's scores by name."""
        return next((b for b in self.benchmarks if b.benchmark == name), None)


def result_path(results: Path, recipe: str, budget: str, method: str, seed: int) -> Path:
    """Where a run's result lives.

    Args:
        results: the results folder.
        recipe: the recipe's name.
        budget: the budget's name.
        method: the row's name in the tables (a method or a variant of one).
        seed: the training seed.
    """
    return results / recipe / budget / method / f"seed-{seed}.json"


def write_result(path: Path, result: RunResult) -> None:
    """Write a result; the folder appears if it can.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        write_json(path, result.model_dump(mode="json"))
    except OSError as error:
        raise unwritable(path.parent, error, "set --results", "The results folder ") from None


def read_result(path: Path) -> RunResult:
    """Read a result.

    Raises:
        UserError: the file is not a result of this schema version.
    """
    try:
        return RunResult.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError) as error:
        raise UserError(_no_result(path, error)) from None


def _no_result(path: Path, error: ValueError) -> str:
    """Why a file is no result, and what to do: a user's own file is not to be removed.

    Args:
        path: of the file.
        error: of reading it.
    """
    if not re.fullmatch(r"seed-\d+\.json", path.name):
        return f"{path} is not a result file: give a folder results/RECIPE/BUDGET, that of a row, or a seed-N.json"
    detail = error.errors()[0] if isinstance(error, ValidationError) else None
    place = ".".join(map(str, detail["loc"])) if detail else ""
    reason = f"{place}: {detail['msg']}" if detail and place else "it is not JSON, or not whole"
    return (
        f"{path} is no result of schema version {SCHEMA_VERSION} ({reason}): move it away, and the command that wrote "
        "it writes it again"
    )


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Without the collector of cycles, which would go through all results again and again while more are read, and
    which they have none of."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_results(folder: Path) -> list[RunResult]:
    """All results of a recipe under one budget, in order of method folder and seed.

    Raises:
        UserError: they were made under different settings and cannot share a table.
    """
    paths = sorted(folder.glob("*/seed-*.json"))
    with _no_garbage():
        results = [read_result(path) for path in paths]
    for path, result in zip(paths, results, strict=True):
        if result.comparison_key != results[0].comparison_key:
            raise UserError(f"{path} and {paths[0]} were made under different settings: remove or move one of them")
    return results


def results_read(results: Path | None) -> tuple[Path, ...]:
    """The results folders that a command reads: the one that is named, or the committed ones, those of studies, and a
    user's own."""
    return _READ if results is None else (results,)


def result_folders(results: Path | None, recipe: str | None = None) -> list[Path]:
    """Folders ``<results>/<recipe>/<budget>``, of one recipe or of all, in each folder of :func:`results_read`.

    Raises:
        UserError: there are none.
    """
    read = results_read(results)
    files = [sorted(root.glob(f"{recipe or '*'}/*/*/seed-*.json")) for root in read]
    folders = list(dict.fromkeys(path.parent.parent for in_root in files for path in in_root))
    if not folders:
        named = results or RESULTS
        recipes = sorted({p.parts[-4] for root in read for p in root.glob("*/*/*/seed-*.json")})
        if recipe and recipes:
            raise unknown(f"recipe in {named}", recipe, recipes)
        raise UserError(f"The folder {named} holds no results: run 'sail-bench compare' first, or name another folder")
    return folders
