"""Training in rounds: sample from the policy of the round before, label, train with DPO's loss, repeat.

``iterative-dpo`` and ``spin`` differ in where the pairs of a round come from, and in what they start and refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.answer.chat import eos_ids
from harness.store.json_files import read_json, read_rows, write_json, write_rows
from harness.train.context import TrainContext
from harness.train.settings import Policies, arguments, fresh, lora_config
from harness.train.stopping import Goal, pairs_per_step, planned_steps
from harness.train.trainer import run_trainer

Pairs = list[dict[str, Any]]

MakePairs = Callable[[TrainContext, Any, int, int, Sequence[dict[str, Any]]], Pairs]


@dataclass(frozen=True)
class Rounds:
    """How rounds follow each other.

    ``prompts``: ``split`` deals the training prompts out over the rounds; with ``all`` each round goes on where the one
    before stopped, and around again.
    ``reference``: the policy that DPO refers to, ``start`` or that of the ``previous`` round.
    ``begin``: each round goes on from the weights before (``continue``) or starts again (``restart``).
    """

    count: int
    prompts: Literal["split", "all"]
    reference: Literal["start", "previous"]
    begin: Literal["continue", "restart"]


def train_rounds(
    context: TrainContext, rounds: Rounds, beta: float, rows: Sequence[dict[str, Any]], make: MakePairs
) -> Path:
    """Train all rounds within the budget; each finished round, and the pairs of an unfinished one, stay on disk.

    Args:
        rows: what the rounds share, one a prompt (``id``, ``prompt_ids``, and what ``make`` needs).
        make: gives the pairs of a round from the policy in memory, the round's number, how many pairs its steps use
            (more are not worth sampling) and its rows.
    """
    from trl import DPOConfig

    from sail.dpo import TokenisedDPOTrainer

    policy = None
    for number in range(rounds.count):
        goal, folder = _goal(context, number + 1, rounds.count), context.directory / f"round-{number}"
        if (folder / "done.json").is_file():
            context.ledger.restore(read_json(folder / "done.json"))
            context.log[:] = read_json(folder / "log.json")
            policy = folder / "policy"
            continue
        if goal.reached(context):
            continue
        needed, used = _needed(context, goal), int(context.ledger.get("train", "pairs"))
        after = used % max(1, len(rows))
        share = [*rows[after:], *rows[:after]] if rounds.prompts == "all" else rows[number :: rounds.count]
        pairs = _pairs(context, folder, (number, needed), policy, list(share), make)
        settings = arguments(context) | {"output_dir": str(folder / "checkpoints"), "beta": beta}
        begun = _policies(context, rounds, policy)
        args = DPOConfig(**settings, precompute_ref_log_probs=False)
        run_trainer(context, TokenisedDPOTrainer, args, rows=pairs, policies=begun, goal=goal)
        write_json(folder / "log.json", context.log)
        context.tick()
        write_json(folder / "done.json", context.ledger.dump())
        policy = folder / "policy"
    assert policy is not None
    return policy


def _goal(context: TrainContext, number: int, count: int) -> Goal:
    """Where the first ``number`` of ``count`` rounds end: by steps if known, else by the share of the budget."""
    total = planned_steps(context)
    if total is not None and context.budget.axis in ("steps", "pairs"):
        return Goal(steps=total * number // count)
    return Goal(number / count, total)


def _needed(context: TrainContext, goal: Goal) -> int:
    """Pairs that the steps up to a goal use: exactly, or as the cost of a step (so far, or predicted) tells. If they
    turn out too few, the round goes over them again."""
    ledger, budget, per_step = context.ledger, context.budget, pairs_per_step(context)
    done = ledger.get("train", "steps")
    if budget.axis in ("steps", "pairs"):
        return int((goal.steps or 0) - done) * per_step
    each = budget.spent(ledger) / done if done else context.per_step.get(budget.axis, 0.0)
    left = goal.share * budget.limit - budget.spent(ledger)
    steps = max(1, int(left / each)) if each else 1
    return min(steps, int(goal.steps - done) if goal.steps is not None else steps) * per_step


def _pairs(
    context: TrainContext, folder: Path, order: tuple[int, int], policy: Path | None, rows: Pairs, make: MakePairs
) -> Pairs:
    """The round's pairs, sampled once; what they cost is kept with them."""
    file, spent = folder / "pairs.jsonl", folder / "sampled.json"
    if not spent.is_file():
        write_rows(file, make(context, load_policy(context, policy), *order, rows))
        context.tick()
        write_json(spent, context.ledger.dump())
    context.ledger.restore(read_json(spent))
    return read_rows(file)


def load_policy(context: TrainContext, folder: Path | None, *, trainable: bool = False) -> Any:
    """The policy saved in a folder (the start policy if None), metered."""
    if folder is None:
        return context.load_model()
    if context.train.lora:
        from peft import PeftModel

        return PeftModel.from_pretrained(context.load_model(), str(folder), is_trainable=trainable)
    return context.load_model(folder)


def _policies(context: TrainContext, rounds: Rounds, policy: Path | None) -> Policies:
    if policy is None:
        return fresh(context)
    reference = policy if rounds.reference == "previous" else None
    if not context.train.lora:
        model = load_policy(context, policy if rounds.begin == "continue" else None)
        return Policies(model, load_policy(context, reference))
    if rounds.begin == "continue":
        model = load_policy(context, policy, trainable=True)  # TRL copies its adapter as the reference
        return Policies(model, None if reference else context.load_model())
    model = context.load_model()
    config = lora_config(context.train.lora, model)
    return Policies(model, load_policy(context, reference).merge_and_unload() if reference else None, config)


def sampled(
    context: TrainContext, model: Any, number: tuple[int, ...], rows: Sequence[dict[str, Any]], count: int
) -> list[Any]:
    """``count`` answers of a policy to each row's prompt, at temperature 1, keyed by seed, prompt and ``number``."""
    from sail.sampling import sample
    from sail.types import Request

    requests = [
        Request(tuple(r["prompt_ids"]), context.max_new_tokens, 1.0, (context.seed, r["id"], "round", *number, k))
        for r in rows
        for k in range(count)
    ]
    ids = eos_ids(model.generation_config.eos_token_id, context.tokenizer)
    with context.meter.phase("generate"):
        return sample(model, requests, eos_ids=ids, pad_id=context.tokenizer.pad_token_id)
