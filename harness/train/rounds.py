"""Training in rounds: sample from the policy of the round before, label, train with DPO's loss, repeat.

``iterative-dpo`` and ``spin`` differ in where the pairs of a round come from, and in what they start from and refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.store.json_files import read_json, read_rows, write_json, write_rows
from harness.store.row_files import RowView
from harness.train.checkpoints import read_record, set_aside, write_record
from harness.train.context import TrainContext
from harness.train.settings import Policies, arguments, lora_config, start_policies
from harness.train.stopping import Goal, pairs_per_step, planned_steps
from harness.train.trainer import run_trainer

DONE = "done.json"
"""Record of a finished round."""

Rows = list[dict[str, Any]]


class Round(NamedTuple):
    """One round, as the function that makes its pairs sees it.

    Attributes:
        number: of the round, from 0.
        needed: pairs that its steps use; more are not worth sampling.
        rows: its prompts, one row each.
    """

    number: int
    needed: int
    rows: Sequence[dict[str, Any]]


MakePairs = Callable[[TrainContext, Any, Round], Rows]
"""Gives the pairs of a round from the policy in memory."""


@dataclass(frozen=True)
class Rounds:
    """How rounds follow each other.

    Attributes:
        count: number of rounds.
        prompts: ``split`` deals the training prompts out over the rounds; with ``all`` each round goes on where the
            one before stopped, and around again.
        reference: the policy that DPO refers to: ``start``, or that of the ``previous`` round.
        begin: each round goes on from the weights before (``continue``) or starts again (``restart``).
    """

    count: int
    prompts: Literal["split", "all"]
    reference: Literal["start", "previous"]
    begin: Literal["continue", "restart"]


def train_rounds(
    context: TrainContext, rounds: Rounds, beta: float, rows: Sequence[dict[str, Any]], make_pairs: MakePairs
) -> Path:
    """Train all rounds within the budget; each finished round, and the pairs of an unfinished one, stay on disk.

    Args:
        context: of the run.
        rounds: how rounds follow each other.
        beta: scale of the implicit reward.
        rows: what the rounds share, one a prompt (``id``, ``prompt_ids``, and what ``make_pairs`` needs).
        make_pairs: gives the pairs of a round.

    Returns:
        the folder of the last round's policy.
    """
    from trl import DPOConfig

    from sail.dpo import TokenisedDPOTrainer

    policy = None
    for number in range(rounds.count):
        goal, folder = _goal(context, number + 1, rounds.count), context.directory / f"round-{number}"
        if (spent := read_record(folder / DONE)) is not None:
            context.ledger.restore(spent)
            context.log[:] = read_json(folder / "log.json")
            policy = folder / "policy"
            continue
        if (folder / DONE).exists():
            _set_aside_from(context, number)
        if goal.reached(context):
            continue
        needed = _pairs_needed(context, goal)
        this_round = Round(number, needed, _rows_of(context, rounds, rows, number))
        pairs = _pairs(context, folder, policy, this_round, make_pairs)
        settings = arguments(context) | {"output_dir": str(folder / "checkpoints"), "beta": beta}
        args = DPOConfig(**settings, precompute_ref_log_probs=False)
        run_trainer(
            context,
            TokenisedDPOTrainer,
            args,
            rows=pairs,
            policies=_policies(context, rounds, policy),
            goal=goal,
            steps=max(1, needed // pairs_per_step(context)),
        )
        write_json(folder / "log.json", context.log)
        context.tick()
        write_record(folder / DONE, context.ledger.dump(), "policy", "log.json")
        policy = folder / "policy"
    assert policy is not None
    return policy


def _set_aside_from(context: TrainContext, number: int) -> None:
    """Leave a damaged round, and those that began from it, out of the way."""
    for folder in sorted(context.directory.glob("round-*")):
        if int(folder.name.removeprefix("round-")) >= number:
            set_aside(folder)


def _goal(context: TrainContext, number: int, count: int) -> Goal:
    """Where the first ``number`` of ``count`` rounds end: by steps if known, else by the share of the budget."""
    total = planned_steps(context)
    if total is not None and context.budget.axis in ("steps", "pairs"):
        return Goal(steps=total * number // count)
    return Goal(number / count, total)


def _rows_of(
    context: TrainContext, rounds: Rounds, rows: Sequence[dict[str, Any]], number: int
) -> Sequence[dict[str, Any]]:
    """The rows of a round, by its number: its part of them, or all, those not used yet first."""
    if rounds.prompts == "split":
        return rows[number :: rounds.count]
    used = int(context.ledger.get("train", "pairs")) % max(1, len(rows))
    return RowView(rows, [*range(used, len(rows)), *range(used)])


def _pairs_needed(context: TrainContext, goal: Goal) -> int:
    """Pairs that the steps up to a goal use: exactly, or from what a step has cost so far or is predicted to cost. If
    they turn out too few, the round goes over them again."""
    ledger, budget, per_step = context.ledger, context.budget, pairs_per_step(context)
    done = ledger.get("train", "steps")
    if budget.axis in ("steps", "pairs"):
        return int((goal.steps or 0) - done) * per_step
    step_cost = budget.spent(ledger) / done if done else context.per_step.get(budget.axis, 0.0)
    left = goal.share * budget.limit - budget.spent(ledger)
    steps = max(1, int(left / step_cost)) if step_cost else 1
    return min(steps, int(goal.steps - done) if goal.steps is not None else steps) * per_step


def _pairs(context: TrainContext, folder: Path, policy: Path | None, this_round: Round, make_pairs: MakePairs) -> Rows:
    """The round's pairs, made once; the ledger after making them is kept beside them."""
    file, record = folder / "pairs.jsonl", folder / "sampled.json"
    spent = read_record(record)
    if spent is None:
        model = load_policy(context, policy)
        model.requires_grad_(True)  # autocast keeps its copies of such weights from one token to the next
        write_rows(file, make_pairs(context, model, this_round))
        del model
        context.tick()
        spent = context.ledger.dump()
        write_record(record, spent, file.name)
    context.ledger.restore(spent)
    return read_rows(file)


def load_policy(context: TrainContext, folder: Path | None, *, trainable: bool = False) -> Any:
    """A saved policy in memory, metered.

    Args:
        context: of the run.
        folder: where the policy, or its adapter, is saved; None for the start policy.
        trainable: whether training goes on with the saved adapter.
    """
    if folder is None:
        return context.load_model()
    if context.train.lora:
        from peft import PeftModel

        from harness.answer.load import without_input_casts

        model = PeftModel.from_pretrained(context.load_model(), str(folder), is_trainable=trainable)
        return without_input_casts(model, context.precision)
    return context.load_model(folder)


def _policies(context: TrainContext, rounds: Rounds, policy: Path | None) -> Policies:
    """What a round starts from, given the policy of the round before (None in the first)."""
    if policy is None:
        return start_policies(context)
    reference = policy if rounds.reference == "previous" else None
    if not context.train.lora:
        model = load_policy(context, policy if rounds.begin == "continue" else None)
        return Policies(model, load_policy(context, reference))
    if rounds.begin == "continue" and reference:
        return Policies(load_policy(context, policy, trainable=True))  # TRL copies its adapter as the reference
    model = context.load_model()
    config = lora_config(context.train.lora, model)
    if rounds.begin == "continue":
        return Policies(model, peft_config=config, adapter=policy)
    return Policies(model, _reference(context, reference) if reference else None, config)


def _reference(context: TrainContext, folder: Path) -> Any:
    """The policy of a saved adapter as a model of its own. In bfloat16 a merged adapter would be rounded away."""
    adapted = load_policy(context, folder)
    return adapted.merge_and_unload() if context.precision == "float32" else adapted.get_base_model()


def sample_answers(
    context: TrainContext, model: Any, rows: Sequence[dict[str, Any]], count: int, key: tuple[int, ...]
) -> list[list[Any]]:
    """Answers of a policy to each row's prompt, at temperature 1.

    Args:
        context: of the run.
        model: the policy.
        rows: with ``id`` and ``prompt_ids``.
        count: answers to each prompt.
        key: of the noise, beside seed and prompt: the round's number, and what else tells two samplings apart.

    Returns:
        ``count`` completions (:class:`sail.types.Completion`) for each row.
    """
    from harness.answer.load import autocast
    from sail.sampling import end_ids, sample
    from sail.types import Request

    requests = [
        Request(tuple(r["prompt_ids"]), context.max_new_tokens, 1.0, (context.seed, r["id"], "round", *key, k))
        for r in rows
        for k in range(count)
    ]
    ends, pad = end_ids(model, context.tokenizer), context.tokenizer.pad_token_id
    with context.meter.phase("generate"):
        draw, size = context.sampler or sample, context.generation_batch_size
        with autocast(context.precision):
            completions = draw(model, requests, eos_ids=ends, pad_id=pad, batch_size=size)
    return [completions[i * count : (i + 1) * count] for i in range(len(rows))]
