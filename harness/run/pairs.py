"""Building the stage of preference pairs, sampled or imported, and the prompts that go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.answer.chat import Prompt
from harness.errors import UserError
from harness.pairs.imported import imported_pairs
from harness.pairs.prompts import splits
from harness.recipe.recipe import DataSpec, PairsSpec, Recipe
from harness.run.resources import Resources
from harness.store.json_files import read_json, write_json, write_rows


def build_pairs(resources: Resources, work: Path) -> dict[str, Any]:
    """Write the pairs of a recipe into a work folder; returns the manifest entries.

    Raises:
        UserError: no pair is left.
    """
    data = resources.recipe.data
    resources.open_ledger(None)  # every answer and log-probability carries its cost
    return _import(resources, data, work) if data.imported else _sample(resources, data, work)


def _sample(resources: Resources, data: DataSpec, work: Path) -> dict[str, Any]:
    from harness.pairs.sampled import sample_pairs

    parts = splits(data)
    policy = resources.start
    resources.emit("stage", ("preference pairs", data.answers_to_sample))
    counts = {}
    for name in ("train", "heldout"):
        with resources.meter.phase("data" if name == "train" else name):
            rows, ties = sample_pairs(policy, resources.oracle, parts[name], data, resources.tick)
            write_rows(work / f"{name}.jsonl", rows)
            counts[name] = {"pairs": len(rows), "ties": ties}
    write_json(work / "counts.json", counts)
    for name, key in (("train", "train_prompts"), ("heldout", "heldout_prompts")):
        if not counts[name]["pairs"]:
            raise UserError(f"Sampling gave no {name} pair (all answers score alike): raise data.{key}")
    return resources.spent()


def _import(resources: Resources, data: PairsSpec, work: Path) -> dict[str, Any]:
    from harness.pairs.tokenised import LengthLimits, context_window, fitting_prompts, tokenised_pairs

    recipe, policy, tick = resources.recipe, resources.start, resources.tick
    imported = imported_pairs(data)
    context = context_window(policy)
    limits = LengthLimits(
        data.max_prompt_length or context, min(recipe.train.max_length, context), data.too_long == "cut"
    )
    total = 2 * (len(imported.parts["train"]) + len(imported.parts["heldout"]))
    resources.emit("stage", ("preference pairs", total))
    counts: dict[str, Any] = {"files": imported.counts, "source": imported.identity}
    kept = {}
    for name in ("train", "heldout"):
        with resources.meter.phase("data" if name == "train" else name):
            rows, left_out = tokenised_pairs(policy, imported.parts[name], limits, recipe.scoring_batch_size, tick)
        write_rows(work / f"{name}.jsonl", rows)
        kept[name], counts[name] = [r["id"] for r in rows], {"pairs": len(rows), "left_out": left_out}
    for name in ("tune", "eval"):
        rows, left_out = fitting_prompts(
            policy, imported.parts[name], min(limits.prompt, context - data.max_new_tokens)
        )
        kept[name], counts[name] = [r["id"] for r in rows], {"prompts": len(rows), "left_out": left_out}
    for name, ids in kept.items():
        if not ids:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts[name]["left_out"].items())
            raise UserError(
                f"Of the {name} rows none is left ({reasons}): raise train.max_length, data.max_prompt_length or "
                f"data.{name}_prompts"
            )
    write_json(work / "kept.json", kept)
    write_json(work / "counts.json", counts)
    return resources.spent()


def prompts_by_part(recipe: Recipe, pairs: Path) -> dict[str, list[Prompt]]:
    """The recipe's prompts by part; of imported ones those that the stage of the pairs kept.

    Args:
        recipe: says which prompts are used.
        pairs: folder of the finished stage.
    """
    parts, file = splits(recipe.data), pairs / "kept.json"
    if not file.is_file():
        return parts
    return {part: [p for p in parts[part] if p["id"] in ids] for part, ids in read_json(file).items()}
