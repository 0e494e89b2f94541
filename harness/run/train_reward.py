"""``train-reward``: a reward model from a recipe's stored preference pairs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.answer.answer_ids import without_end
from harness.answer.chat import Prompt
from harness.answer.load import saved_eos_ids
from harness.errors import UserError
from harness.oracles.none import NONE
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.recipe.recipe import OracleSpec, Recipe
from harness.run.devices import claim_one
from harness.run.plan import RunPlan, make_run
from harness.run.progress import Display, Work
from harness.run.run import Run
from harness.store.json_files import Row, read_rows, write_json
from harness.store.stages import Store

if TYPE_CHECKING:
    from harness.train.reward_model import RewardSettings


def train_reward(
    recipe: Recipe, store: Path, out: Path, *, epochs: int, learning_rate: float, seed: int = 0, shown: Display
) -> dict[str, Any]:
    """Train a sequence-classification head, and all weights, on the recipe's training pairs; test on held-out ones.

    Args:
        recipe: gives the start policy and the pairs.
        store: folder of finished stages; the pairs are made if they are not there.
        out: folder for the reward model.
        epochs: passes over the pairs.
        learning_rate: of the optimiser.
        seed: of the order of pairs.
        shown: shows progress.

    Returns:
        what ``reward.json`` beside the model holds: pairs, epochs, precision, the settings of training, and the
        accuracy on held-out pairs with its counts.

    Raises:
        UserError: the folder is taken, no held-out pair can have rewards, or none has.
    """
    from transformers.utils import logging

    from harness.train.reward_model import RewardSettings

    claim_one(os.environ, "train-reward")
    logging.set_verbosity_error()  # that a classification head is new is what is wanted here
    logging.disable_progress_bar()
    if out.exists() and any(out.iterdir()):
        raise UserError(f"The folder {out} is not empty: choose another with --out")
    if recipe.data.imported:  # the recipe may name the model that is made here
        recipe = recipe.model_copy(update={"oracle": OracleSpec(name=NONE), "eval_oracle": None})
    plan = make_run(recipe, recipe.budget, "start", 0, [], Store(store))
    settings = RewardSettings(epochs, learning_rate, recipe.train, recipe.precision, seed)
    with plan.comparison.store.in_use():
        return _train(plan, settings, out, shown)


def _train(plan: RunPlan, settings: RewardSettings, out: Path, shown: Display) -> dict[str, Any]:
    """As :func:`train_reward`, once nothing stands in the way."""
    from harness.train.reward_model import load_reward_base, train_reward_model

    recipe = plan.comparison.recipe
    work = shown.begin("reward model")
    run = Run(plan, work.show)
    settings.check(run.resources.start_dir)
    pairs = _Pairs.read(run)
    settings.check_length(run.resources.start_dir, len(pairs.train))
    pairs.check_heldout(RewardModel(RewardModelOptions(model=str(run.resources.start_dir))))  # its tokenizer alone
    model, tokenizer = load_reward_base(run.resources.start_dir, recipe.train.attention)
    on_step = _progress(work, f"training on {len(pairs.train)} pairs, steps")
    train_reward_model(model, tokenizer, pairs.training_rows(tokenizer), settings, out, on_step)
    work.stage(f"held-out pairs ({len(pairs.heldout)})", None)
    reward_model = RewardModel(RewardModelOptions(model=str(out)))
    reward_model.chat_date = recipe.chat_date
    verdicts = pairs.heldout_wins(tokenizer, reward_model)
    won = [v for v in verdicts if v == v]  # without pairs of which a reward is not finite
    if not won:
        raise UserError(f"The reward model in {out} gives no finite reward: train it with a smaller --learning-rate")
    shared = plan.comparison.facts
    facts = {
        **{"base": shared.start.key, "pairs": shared.pairs.key, "labels": shared.oracle},
        "trained_pairs": len(pairs.train),
        "epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "precision": settings.computed_in,
        "train": settings.used(),
        "heldout_accuracy": round(sum(won) / len(won), 4),
        "heldout_pairs": len(won),
    }
    write_json(out / "reward.json", facts)
    work.finished("done")
    return facts


def _progress(work: Work, text: str) -> Callable[[int, int], None]:
    """Shows steps done of the steps in all; the stage begins with step 0."""
    return lambda done, total: work.at(done) if done else work.stage(text, total)


@dataclass(frozen=True)
class _Pairs:
    """The stored pairs of a run, with the prompts that they answer by id, and the ids that end an answer."""

    end_ids: list[int]
    prompts: dict[str, Prompt]
    train: list[Row]
    heldout: list[Row]

    @classmethod
    def read(cls, run: Run) -> _Pairs:
        folder = run.pairs()
        prompts = {p["id"]: p for part in ("train", "heldout") for p in run.prompts[part]}
        end_ids = saved_eos_ids(run.resources.start_dir, run.resources.tokenizer)
        return cls(end_ids, prompts, read_rows(folder / "train.jsonl"), read_rows(folder / "heldout.jsonl"))

    def training_rows(self, tokenizer: Any) -> list[dict[str, list[int]]]:
        """Whole conversations as token ids."""
        return [
            {
                f"{side}_ids": conversation_ids(tokenizer, self.prompts[row["id"]], self.text(tokenizer, row, side))
                for side in ("chosen", "rejected")
            }
            for row in self.train
        ]

    def heldout_wins(self, tokenizer: Any, oracle: RewardModel) -> list[float]:
        """For each held-out pair 1 where the chosen answer has the higher reward, 0 where it has not; NaN where one
        of them is not finite."""
        prompts, chosen, rejected = self._heldout_texts(tokenizer)
        return oracle.prefer(prompts, chosen, rejected)

    def check_heldout(self, oracle: RewardModel) -> None:
        """Refuse held-out pairs of which the reward model will rate none.

        Args:
            oracle: has the tokenizer of the reward model; its weights are not loaded.

        Raises:
            UserError: says how many its chat template does not write and how many are too long.
        """
        prompts, chosen, rejected = self._heldout_texts(oracle.tokenizer)
        first, second = oracle.lengths(prompts, chosen), oracle.lengths(prompts, rejected)
        unwritten = sum(0 in pair for pair in zip(first, second, strict=True))
        long = sum(0 not in pair and max(pair) > oracle.limit for pair in zip(first, second, strict=True))
        if unwritten + long < len(prompts):
            return
        cures = ["prompts whose turns the start policy's chat template writes"] if unwritten else []
        cures += [f"conversations of at most {oracle.limit:,} tokens"] if long else []
        raise UserError(
            f"The reward model could rate none of the {len(prompts)} held-out pairs ({unwritten} are refused by the "
            f"start policy's chat template or lose a turn in it, {long} are too long): take {' and '.join(cures)}"
        )

    def _heldout_texts(self, tokenizer: Any) -> tuple[list[Prompt], list[str], list[str]]:
        """Prompts, chosen and rejected answers of the held-out pairs."""
        chosen, rejected = (
            [self.text(tokenizer, row, side) for row in self.heldout] for side in ("chosen", "rejected")
        )
        return [self.prompts[row["id"]] for row in self.heldout], chosen, rejected

    def text(self, tokenizer: Any, row: Row, side: str) -> str:
        """An answer: as it was imported, but for an end token at its end; one that was sampled here, decoded."""
        prompt = self.prompts[row["id"]]
        if side in prompt:
            return without_end(tokenizer, prompt[side], self.end_ids)
        decoded: str = tokenizer.decode(row[f"{side}_ids"], skip_special_tokens=True)
        return decoded.strip()
