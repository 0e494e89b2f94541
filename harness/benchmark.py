"""The contract of a benchmark: answer, judge, score, with a file after each; score is pure and deterministic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from harness.errors import UserError
from harness.score.metrics import evaluate
from harness.score.results import BenchmarkResult, Columns, Metric
from harness.store.json_files import digest
from sail.types import Request

if TYPE_CHECKING:
    from harness.answer.client import Call, Reply
    from harness.answer.policy import Policy
    from harness.judge.local import LocalJudge
    from harness.oracles.metered import MeteredOracle


Row = dict[str, Any]


class BenchmarkOptions(BaseModel):
    """Options of a benchmark that a recipe may set. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass
class EvalContext:
    """What a benchmark may use: the policy under test, the start policy, the judge, the oracle, and unseen data.
    ``training_oracle``: the one that labelled the training pairs, where another one evaluates. ``expect`` says how
    much comes, before ``progress`` counts it. ``kept`` gives the policy at a share of the budget; None if the run ended
    before it. ``ask`` puts questions to the judge behind the recipe's endpoint."""

    policy: Policy
    start: Policy
    judge: LocalJudge
    oracle: MeteredOracle
    prompts: Sequence[Row]
    heldout_pairs: Sequence[Row]
    scoring_batch_size: int
    training_oracle: MeteredOracle | None = None
    ask: Callable[[Sequence[Call]], list[Reply]] = lambda calls: []
    kept: Callable[[float], Policy | None] = lambda fraction: None
    progress: Callable[[int], None] = lambda done: None
    expect: Callable[[int], None] = lambda total: None


class Benchmark:
    """Base class of benchmarks.

    ``judged``: a judge's identity belongs to its protocol; ``by_endpoint``: that judge is the recipe's ``judge:``
    behind an OpenAI-compatible endpoint, not the local one. ``on_task``: it uses the recipe's own evaluation prompts,
    held-out pairs and oracle, and they belong to its protocol. ``by_text``: the policy's texts are all it needs, so
    that it measures a policy behind an endpoint too. ``against_start``: the start policy is its baseline, and belongs
    to its protocol (always so where the local judge is asked). ``versus``: a pairwise oracle also compares its answers
    (``id``, ``text``) with those of the recipe's reference method; ``score`` finds ``reference`` (that method's name)
    and ``reference_won`` (1, 0 or between; None without a verdict) in such rows.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    label: str = "mini"
    version: ClassVar[int] = 1
    judged: ClassVar[bool] = False
    by_endpoint: ClassVar[bool] = False
    on_task: ClassVar[bool] = False
    by_text: ClassVar[bool] = False
    against_start: bool = False
    versus: ClassVar[bool] = False
    Options: ClassVar[type[BenchmarkOptions]] = BenchmarkOptions

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        self.options = options or self.Options()

    @classmethod
    def member(cls, name: str) -> type[Benchmark]:
        """The benchmark that a recipe writes as ``family:name``, for a class that stands for a family.

        Raises:
            UserError: this class is one benchmark.
        """
        raise UserError(f"The benchmark {cls.name} is no family: write {cls.name} instead of {cls.name}:{name}")

    def protocol(self) -> dict[str, Any]:
        """Everything beside the policy, the start policy and the judge that can change the score."""
        return {
            "benchmark": self.name,
            "label": self.label,
            "version": self.version,
            **self.options.model_dump(mode="json"),
        }

    def requests(self, context: EvalContext) -> list[Request]:
        """First answers to sample, so that all benchmarks share their batches. May be empty."""
        return []

    def predicted(self, prompts: int, trained: bool) -> tuple[int, int]:
        """Most tokens it can generate and judge calls it can make, for ``prompts`` task prompts and a policy that is
        ``trained`` (or the start policy itself)."""
        return 0, 0

    def asked(self) -> list[str]:
        """What it asks first, the same of every policy, for the check of brought training data; may be empty."""
        return []

    def fractions(self) -> list[float]:
        """Shares of the budget whose policies it scores beside the final one."""
        return []

    def answer(self, context: EvalContext) -> list[Row]:
        """What the policy does: one row an item."""
        raise NotImplementedError

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Rows with verdicts. The default needs no judge."""
        return rows

    def score(self, rows: list[Row]) -> tuple[dict[str, Columns], list[Metric]]:
        """Per-prompt columns by group (each with ``id``) and the metrics to compute from them. Pure."""
        raise NotImplementedError


def score(
    benchmark: Benchmark, rows: list[Row], protocol: dict[str, Any], judge: dict[str, Any] | None
) -> BenchmarkResult:
    """Score the judged rows of a benchmark. Pure; needs no model."""
    items, metrics = benchmark.score(rows)
    return BenchmarkResult(
        benchmark=benchmark.name,
        title=benchmark.title,
        label=protocol.get("label", benchmark.label),
        protocol=protocol,
        protocol_hash=digest(protocol),
        judge=judge,
        metrics=[evaluate(m, items) for m in metrics],
        items=items,
        snapshots=sorted(_snapshots(rows)),
    )


def _snapshots(found: Any) -> set[str]:
    """Every ``judge`` in rows of any depth: the model that an endpoint said it answered as."""
    if isinstance(found, list):
        return set().union(*map(_snapshots, found))
    if not isinstance(found, dict):
        return set()
    own = {found["judge"]} if isinstance(found.get("judge"), str) and found["judge"] else set()
    return own.union(*map(_snapshots, found.values()))
