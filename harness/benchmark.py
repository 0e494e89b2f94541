"""The contract of a benchmark: answer, judge, score, with a file after each; score is pure and deterministic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from harness.budget.forecast import TEMPLATE_TOKENS
from harness.errors import AbsentError, Problem, UserError, reason_of, shown
from harness.score.results import BenchmarkResult, Columns, Metric
from harness.score.validity import Range, checked_columns, columns_fault
from harness.store.json_files import Row as Row
from harness.store.json_files import digest, json_text
from sail.types import Request

if TYPE_CHECKING:
    from harness.answer.policy import Policy
    from harness.answer.reply import Call, Reply
    from harness.judge.local import LocalJudge
    from harness.oracles.metered import MeteredOracle


class BenchmarkOptions(BaseModel):
    """Options of a benchmark that a recipe may set. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass
class EvalContext:
    """What a benchmark may use.

    Attributes:
        policy: the policy under test.
        start: the start policy.
        judge: the local judge (the start policy, answering by log-probability).
        oracle: the oracle that evaluates.
        prompts: the recipe's evaluation prompts.
        heldout_pairs: stored pairs that no method trained on.
        scoring_batch_size: rows of a forward pass that only scores.
        training_oracle: the oracle that labelled the training pairs, where another one evaluates.
        ask: puts questions to the judge behind the recipe's endpoint.
        kept: the policy at a share of the budget; None if the run ended before it.
        progress: gets the number of items done in the current step.
        expect: gets the number of items that the step will have, before ``progress`` is called.
    """

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


JudgedBy = Literal["none", "local", "endpoint"]
Need = Literal["weights", "task", "start", "reference"]
TEXTS_ALONE: frozenset[Need] = frozenset()


class EvalCost(NamedTuple):
    """The most that a benchmark can ask of one policy.

    Attributes:
        tokens: to generate.
        judge_calls: of its judge.
        read: tokens of prompts and of scored answers that go through the policy; those of ``prompt_texts`` if 0.
        task_prompts: how often one of the recipe's evaluation prompts is read, which ``read`` leaves out.
        common: share of ``read`` that is the same text for every policy. Prompts are so anyway.
    """

    tokens: int
    judge_calls: int
    read: int = 0
    task_prompts: int = 0
    common: float = 0.0


class CallTokens(NamedTuple):
    """Typical tokens of one call of a judge: read and written."""

    read: int
    written: int


class Scored(NamedTuple):
    """What a benchmark makes of judged rows.

    Attributes:
        columns: per-prompt columns by group, each with ``id``. A value that is missing is an
            :class:`~harness.score.validity.Invalid` with its reason (or None).
        metrics: those to compute from them, still without values.
        ranges: by column, the least and the greatest value. A value outside, of another type or not finite is not
            valid.
    """

    columns: dict[str, Columns]
    metrics: list[Metric]
    ranges: Mapping[str, Range] = MappingProxyType({})


class Benchmark:
    """Base class of benchmarks.

    **To implement**, in this order:

    1. ``name``, ``title`` and ``summary``: how recipes, tables and listings call it.
    2. :meth:`answer`: ask the policy; one row an item.
    3. :meth:`judge`, if a judge grades the answers, with ``judged_by`` set to who that is: ``"local"`` (the start
       policy, by log-probability) or ``"endpoint"`` (the recipe's ``judge:``). Its identity belongs to the protocol.
    4. :meth:`score`: per-prompt columns and the metrics to compute from them.
    5. :meth:`protocol`: add whatever else can change the score (a data hash, the decoding), and raise ``version`` when
       the code changes it.

    **Optional**, in the order in which authors have wanted them:

    * ``Options``: settings that a recipe may give.
    * ``needs``: what it cannot do without. ``"weights"`` (the default): log-probabilities, so that a model behind an
      endpoint is left out; declare ``TEXTS_ALONE`` if the policy's texts are enough. ``"task"``: the recipe's own
      evaluation prompts, held-out pairs and oracle. ``"start"``: the start policy is its baseline (always so with the
      local judge). ``"reference"``: a pairwise oracle also compares its answers (``id``, ``text``) with those of the
      recipe's reference method; :meth:`score` then finds ``reference`` (that method's name) and ``reference_won``
      (1, 0 or between; None without a verdict) in such rows. All but ``"weights"`` and ``"reference"`` enter the
      protocol.
    * :meth:`requests`: first answers, so that benchmarks share their batches.
    * :meth:`prompt_texts`: its prompts, for the check of imported training data.
    * :meth:`cost`, and ``call_tokens`` of its judge: for ``sail-bench plan``.
    * :meth:`ready`: say early why it could not run here; what :meth:`protocol` raises is reported anyway.
    * :meth:`fractions`: policies on the way that it scores.
    * :meth:`member`: for a class that stands for a family (``family:name``).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    label: str = "mini"
    version: ClassVar[int] = 1
    judged_by: ClassVar[JudgedBy] = "none"
    needs: frozenset[Need] = frozenset({"weights"})
    call_tokens: ClassVar[CallTokens] = CallTokens(1000, 200)
    Options: ClassVar[type[BenchmarkOptions]] = BenchmarkOptions

    def __init__(self, options: BenchmarkOptions | None = None) -> None:
        self.options = options or self.Options()

    def answer(self, context: EvalContext) -> list[Row]:
        """What the policy does: one row an item."""
        raise NotImplementedError

    def judge(self, rows: list[Row], context: EvalContext) -> list[Row]:
        """Rows with verdicts. The default needs no judge."""
        return rows

    def score(self, rows: list[Row]) -> Scored:
        """Columns and metrics of judged rows. Pure."""
        raise NotImplementedError

    def protocol(self) -> dict[str, Any]:
        """Everything beside the policy, the start policy and the judge that can change the score."""
        return {
            "benchmark": self.name,
            "label": self.label,
            "version": self.version,
            **self.options.model_dump(mode="json"),
        }

    def ready(self) -> list[Problem]:
        """Why it could not run on this machine; empty if nothing is known that speaks against it. Called before any
        work, by ``plan`` too: no model is loaded."""
        return []

    def requests(self, context: EvalContext) -> list[Request]:
        """First answers to sample, so that all benchmarks share their batches. May be empty."""
        return []

    def prompt_texts(self) -> list[str]:
        """What it asks first, the same of every policy, for the check of imported training data; may be empty."""
        return []

    def cost(self, prompts: int, trained: bool) -> EvalCost:
        """The most that it can ask of one policy. The size of a published set stands for one that is not here.

        Args:
            prompts: number of the recipe's evaluation prompts.
            trained: whether the policy is a trained one (not the start policy itself).
        """
        return EvalCost(0, 0)

    def longest_prompt(self) -> int:
        """Tokens of the longest prompt, about, for the prediction of memory."""
        return max((len(text) // 3 for text in self.prompt_texts()), default=0) + TEMPLATE_TOKENS

    def fractions(self) -> list[float]:
        """Shares of the budget whose policies it scores beside the final one."""
        return []

    @classmethod
    def member(cls, name: str) -> type[Benchmark]:
        """The benchmark that a recipe writes as ``family:name``, for a class that stands for a family.

        Raises:
            UserError: this class is one benchmark.
        """
        raise UserError(f"The benchmark {cls.name} is no family: write {cls.name} instead of {cls.name}:{name}")


def published_if_absent(count: Callable[[], int], published: int, limit: int = 0) -> int:
    """How many items of a set are asked; where its data are not on this machine, of the set as it was published.

    Args:
        count: counts them.
        published: items of the whole published set.
        limit: most items (0: all).
    """
    try:
        return count()
    except AbsentError:
        return min(published, limit or published)


def benchmark_result(
    benchmark: Benchmark, rows: list[Row], protocol: dict[str, Any], judge: dict[str, Any] | None
) -> BenchmarkResult:
    """Score the judged rows of a benchmark. Pure; needs no model.

    Args:
        benchmark: the one that the rows are of.
        rows: judged rows of one policy.
        protocol: everything that can change the score but the policy, a JSON record; its hash is stored beside it.
        judge: identity of the judge, a JSON record; None if no judge was asked.

    Raises:
        UserError: what the benchmark makes of its rows cannot be scored.
    """
    from harness.score.metrics import evaluate

    scored = _scored(benchmark, rows)
    items, invalid = checked_columns(scored.columns, scored.metrics, scored.ranges)
    return BenchmarkResult(
        benchmark=benchmark.name,
        title=benchmark.title,
        label=protocol.get("label", benchmark.label),
        protocol=protocol,
        protocol_hash=digest(protocol),
        judge=judge,
        metrics=[evaluate(m, items) for m in scored.metrics],
        items=items,
        invalid=invalid,
        snapshots=sorted(_answering_models(rows)),
        stripped=sum(1 for answer in _sampled_answers(rows) if answer.get("thoughts")),
        replaced=sum(answer.get("replaced", 0) for answer in _sampled_answers(rows)),
    )


def _scored(benchmark: Benchmark, rows: list[Row]) -> Scored:
    """The benchmark's columns and metrics of its rows."""
    try:
        scored = Scored(*benchmark.score(rows))
    except UserError:
        raise
    except Exception as error:
        reason = f"its score() fails on its {len(rows):,} judged rows ({reason_of(error)})"
        raise UserError(f"The benchmark {benchmark.name} has no score: {reason}: correct it") from error
    if fault := columns_fault(scored.columns, scored.metrics):
        raise UserError(f"The benchmark {benchmark.name} has no score: {fault}: correct what its score() returns")
    return scored


def rows_fault(rows: Any, before: list[Row] | None = None) -> str:
    """Why what a benchmark's ``answer`` or ``judge`` returned cannot be stored; empty if it can.

    Args:
        rows: returned.
        before: rows that were to be judged.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return f"{shown(rows)} is no list of dicts, one for each item"
    if not rows:
        return "there are no items: its question set is empty, or nothing of it could be asked"
    if before is not None and len(rows) != len(before):
        return f"{len(rows):,} judged rows came of {len(before):,} answers"
    try:
        json_text(rows)
    except (TypeError, ValueError, RecursionError) as error:
        return f"the rows are no JSON ({reason_of(error)})"
    return ""


def _sampled_answers(node: Any) -> Iterator[Row]:
    """The policy's answers in rows of any depth: they say whether they were cut. Those of a baseline are not its."""
    if isinstance(node, list):
        for part in node:
            yield from _sampled_answers(part)
    elif isinstance(node, dict):
        if "truncated" in node and "text" in node:
            yield node
        yield from _sampled_answers([part for key, part in node.items() if key != "baseline"])


def _answering_models(node: Any) -> set[str]:
    """Every ``judge`` in rows of any depth: the model that an endpoint reported as having answered."""
    if isinstance(node, list):
        return set().union(*map(_answering_models, node))
    if not isinstance(node, dict):
        return set()
    own = {node["judge"]} if isinstance(node.get("judge"), str) and node["judge"] else set()
    return own.union(*map(_answering_models, node.values()))
