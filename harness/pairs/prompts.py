"""The prompts of a recipe, split into training, tuning, evaluation and held-out parts."""

from __future__ import annotations

from harness.answer.chat import Prompt
from harness.errors import UserError
from harness.oracles.constraints import load_prompts
from harness.pairs.imported import imported_pairs
from harness.recipe.recipe import DataSpec, PairsSpec


def splits(data: DataSpec | PairsSpec) -> dict[str, list[Prompt]]:
    """The prompts that a recipe uses, by part. The parts are disjoint.

    ``train`` and ``tune`` come from the training file, ``eval`` and ``heldout`` from the evaluation file. Imported
    pairs are divided by :mod:`harness.pairs.imported`.

    Raises:
        UserError: the recipe asks for more prompts than there are.
    """
    if data.imported:
        return imported_pairs(data).parts
    train, evaluation = load_prompts("train"), load_prompts("eval")
    for keys, rows in ((("train_prompts", "tune_prompts"), train), (("eval_prompts", "heldout_prompts"), evaluation)):
        requested = sum(getattr(data, key) for key in keys)
        if requested > len(rows):
            raise UserError(
                f"data.{keys[0]} + data.{keys[1]} asks for {requested} prompts, {len(rows)} exist: lower one"
            )
    return {
        "train": train[: data.train_prompts],
        "tune": train[len(train) - data.tune_prompts :],
        "eval": evaluation[: data.eval_prompts],
        "heldout": evaluation[data.eval_prompts : data.eval_prompts + data.heldout_prompts],
    }
