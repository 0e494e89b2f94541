"""``train-reward``: a reward model from a recipe's stored preference pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.oracles.none import NONE
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.recipe.recipe import OracleSpec, PairsSpec, Recipe
from harness.run.plan import make_run
from harness.run.progress import Display
from harness.run.run import Run
from harness.store.json_files import read_rows, write_json
from harness.store.stages import Store


def train_reward(
    recipe: Recipe,
    store: Path,
    out: Path,
    *,
    epochs: int,
    learning_rate: float,
    seed: int = 0,
    shown: Display,
) -> dict[str, Any]:
    """Train a sequence-classification head, and all weights, on the recipe's training pairs; test on held-out ones.

    Args:
        recipe: gives the start policy and the pairs.
        store: folder of finished stages; the pairs are made if they are not there.
        out: folder for the reward model.
        epochs: passes over the pairs.
        learning_rate: of AdamW.
        seed: of the order of pairs.
        shown: shows progress.

    Returns:
        what ``reward.json`` beside the model holds: pairs, epochs, and the accuracy on held-out pairs with its counts.

    Raises:
        UserError: the folder is taken.
    """
    from transformers.utils import logging

    from harness.train.reward_model import RewardSettings, load_reward_base, train_reward_model

    logging.set_verbosity_error()  # that a classification head is new is what is wanted here
    logging.disable_progress_bar()
    if out.exists() and any(out.iterdir()):
        raise UserError(f"The folder {out} is not empty: choose another with --out")
    if isinstance(recipe.data, PairsSpec):  # the recipe may name the model that is made here
        recipe = recipe.model_copy(update={"oracle": OracleSpec(name=NONE), "eval_oracle": None})
    plan = make_run(recipe, recipe.budget, "start", 0, [], Store(store))
    shown.run("reward model", ["preference pairs", "training", "held-out pairs"])
    run = Run(plan, lambda kind, value: shown.stage(*value) if kind == "stage" else shown.advance(value))
    folder, prompts = run.pairs(), {p["id"]: p for part in ("train", "heldout") for p in run.prompts[part]}
    tokenizer, model = load_reward_base(run.resources.start_dir)

    def text(row: dict[str, Any], side: str) -> str:
        decoded: str = tokenizer.decode(row[f"{side}_ids"], skip_special_tokens=True)
        return decoded.strip()

    def ids(row: dict[str, Any], side: str) -> list[int]:
        return conversation_ids(tokenizer, prompts[row["id"]], text(row, side))

    pairs = read_rows(folder / "train.jsonl")
    rows = [{"chosen_ids": ids(r, "chosen"), "rejected_ids": ids(r, "rejected")} for r in pairs]

    def on_step(done: int, total: int) -> None:
        if done:
            shown.at(done)
        else:
            shown.stage(f"training on {len(pairs)} pairs, steps", total)

    settings = RewardSettings(epochs, learning_rate, recipe.train.batch_size, seed)
    train_reward_model(model, tokenizer, rows, settings, out, on_step)
    heldout = read_rows(folder / "heldout.jsonl")
    shown.stage(f"held-out pairs ({len(heldout)})", None)
    oracle = RewardModel(RewardModelOptions(model=str(out)))
    chosen, rejected = ([text(r, side) for r in heldout] for side in ("chosen", "rejected"))
    won = oracle.prefer([prompts[r["id"]] for r in heldout], chosen, rejected)
    facts = {
        "base": plan.comparison.facts.start.key,
        "pairs": plan.comparison.facts.pairs.key,
        "labels": plan.comparison.facts.oracle,
        "trained_pairs": len(pairs),
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "heldout_accuracy": round(sum(won) / len(won), 4),
        "heldout_pairs": len(won),
    }
    write_json(out / "reward.json", facts)
    shown.finished("done")
    return facts
