"""Training in rounds: sample from the policy of the round before, label, train with DPO's loss, repeat.

``iterative-dpo`` and ``spin`` differ in where the pairs of a round come from, and in what they start and refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.budget import Ledger
from harness.methods.base import TrainContext
from harness.store import read_json, read_rows, write_json, write_rows
from harness.training import Policies, arguments, fresh, lora_config, planned_steps, run_trainer

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

    total, policy = planned_steps(context), None
    edges = [total * r // rounds.count for r in range(rounds.count + 1)]
    for number in range(rounds.count):
        steps, folder = edges[number + 1] - edges[number], context.directory / f"round-{number}"
        if steps == 0:
            continue
        per_step = context.train.batch_size * context.train.gradient_accumulation
        needed, after = steps * per_step, edges[number] * per_step % max(1, len(rows))
        share = [*rows[after:], *rows[:after]] if rounds.prompts == "all" else rows[number :: rounds.count]
        if not (folder / "done.json").is_file():
            pairs = _pairs(context, folder, (number, needed), policy, list(share), make)
            settings = arguments(context) | {
                "output_dir": str(folder / "checkpoints"),
                "max_steps": steps,
                "beta": beta,
            }
            begun = _policies(context, rounds, policy)
            args = DPOConfig(**settings, precompute_ref_log_probs=False)
            run_trainer(context, TokenisedDPOTrainer, args, rows=pairs, policies=begun)
            write_json(folder / "log.json", context.log)
            context.tick()
            write_json(folder / "done.json", context.ledger.dump())
        else:
            context.ledger.entries = Ledger.load(read_json(folder / "done.json")).entries
            context.log[:] = read_json(folder / "log.json")
        policy = folder / "policy"
    assert policy is not None
    return policy


def _pairs(
    context: TrainContext, folder: Path, order: tuple[int, int], policy: Path | None, rows: Pairs, make: MakePairs
) -> Pairs:
    """The round's pairs, sampled once; what they cost is kept with them."""
    file, spent = folder / "pairs.jsonl", folder / "sampled.json"
    if not spent.is_file():
        write_rows(file, make(context, load_policy(context, policy), *order, rows))
        context.tick()
        write_json(spent, context.ledger.dump())
    context.ledger.entries = Ledger.load(read_json(spent)).entries
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
    eos = model.generation_config.eos_token_id
    ids = eos if isinstance(eos, list) else [context.tokenizer.eos_token_id if eos is None else eos]
    with context.meter.phase("generate"):
        return sample(model, requests, eos_ids=ids, pad_id=context.tokenizer.pad_token_id)
