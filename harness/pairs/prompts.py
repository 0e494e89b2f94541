"""The prompts of a recipe, split into training, tuning, evaluation and held-out parts."""

from __future__ import annotations

from harness.answer.chat import Prompt
from harness.errors import UserError
from harness.oracles.constraints import load_prompts
from harness.recipe.recipe import DataSpec, PairsSpec


def splits(data: DataSpec | PairsSpec) -> dict[str, list[Prompt]]:
    """The prompts a recipe uses: ``train`` and ``tune`` from the training file, ``eval`` and ``heldout`` from the
    evaluation file; all four disjoint.

    Raises:
        UserError: the recipe asks for more prompts than are written.

    Brought pairs are shared out by :mod:`harness.pairs.imported`.
    """
    if isinstance(data, PairsSpec):
        from harness.pairs.imported import brought

        return brought(data).parts
    train, evaluation = load_prompts("train"), load_prompts("eval")
    for keys, rows in ((("train_prompts", "tune_prompts"), train), (("eval_prompts", "heldout_prompts"), evaluation)):
        asked = sum(getattr(data, key) for key in keys)
        if asked > len(rows):
            raise UserError(f"data.{keys[0]} + data.{keys[1]} asks for {asked} prompts, {len(rows)} exist: lower one")
    return {
        "train": train[: data.train_prompts],
        "tune": train[len(train) - data.tune_prompts :],
        "eval": evaluation[: data.eval_prompts],
        "heldout": evaluation[data.eval_prompts : data.eval_prompts + data.heldout_prompts],
    }
