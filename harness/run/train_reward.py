"""``train-reward``: a reward model from a recipe's stored preference pairs, by TRL's RewardTrainer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.oracles.none import NONE
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.recipe.recipe import OracleSpec, PairsSpec, Recipe
from harness.run.make_runs import make_runs
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
        shown: says what goes on.

    Returns:
        what ``reward.json`` beside the model says: pairs, epochs, and the accuracy on held-out pairs with its counts.

    Raises:
        UserError: the folder is taken.
    """
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, PrinterCallback, TrainerCallback
    from transformers.utils import logging
    from trl import RewardConfig, RewardTrainer

    from sail.config import cpu_arguments

    class Steps(TrainerCallback):  # type: ignore[misc]
        """The bar of the training."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            shown.stage(f"training on {len(pairs)} pairs, steps", state.max_steps)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            shown.at(state.global_step)

    logging.set_verbosity_error()  # that a classification head is new is what is wanted here
    logging.disable_progress_bar()
    if out.exists() and any(out.iterdir()):
        raise UserError(f"The folder {out} is not empty: choose another with --out")
    if isinstance(recipe.data, PairsSpec):  # the recipe may name the model that is made here
        recipe = recipe.model_copy(update={"oracle": OracleSpec(name=NONE), "eval_oracle": None})
    plan = make_runs(recipe, recipe.budget, ["start"], 1, [], Store(store))[0]
    shown.run("reward model", ["preference pairs", "training", "held-out pairs"])
    run = Run(plan, lambda kind, value: shown.stage(*value) if kind == "stage" else shown.advance(value))
    folder = run.pairs()
    tokenizer = AutoTokenizer.from_pretrained(run.start_dir)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(run.start_dir, num_labels=1, dtype="float32")
    model.config.pad_token_id = tokenizer.pad_token_id
    prompts = {p["id"]: p for part in ("train", "heldout") for p in run.prompts[part]}

    def ids(row: dict[str, Any], side: str) -> list[int]:
        text = tokenizer.decode(row[f"{side}_ids"], skip_special_tokens=True).strip()
        return conversation_ids(tokenizer, prompts[row["id"]], text)

    pairs = read_rows(folder / "train.jsonl")
    data = Dataset.from_list([{"chosen_ids": ids(r, "chosen"), "rejected_ids": ids(r, "rejected")} for r in pairs])
    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "output_dir": scratch,
            "num_train_epochs": epochs,
            "learning_rate": learning_rate,
            "per_device_train_batch_size": recipe.train.batch_size,
            "max_length": None,
            "seed": seed,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 10,
            "dataloader_pin_memory": False,
            **cpu_arguments(),
            "bf16": False,
        }
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(**settings),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[Steps()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.save_model(str(out))
    tokenizer.save_pretrained(out)
    held = read_rows(folder / "heldout.jsonl")
    shown.stage(f"held-out pairs ({len(held)})", None)
    oracle = RewardModel(RewardModelOptions(model=str(out)))
    texts = [
        [tokenizer.decode(r[f"{side}_ids"], skip_special_tokens=True).strip() for r in held]
        for side in ("chosen", "rejected")
    ]
    won = oracle.prefer([prompts[r["id"]] for r in held], texts[0], texts[1])
    facts = {
        "base": plan.start.key,
        "pairs": plan.pairs.key,
        "labels": plan.oracle,
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
