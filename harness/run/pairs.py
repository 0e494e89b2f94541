"""Building the stage of preference pairs, sampled or imported, and the prompts that go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.answer.chat import Prompt
from harness.errors import UserError
from harness.pairs.advice import advice
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
    from harness.pairs.tokenised import add_reference_logps

    parts = splits(data)
    policy, batch_size = resources.start_served, resources.recipe.scoring_batch_size
    resources.emit("stage", ("preference pairs", data.answers_to_sample))
    counts = {}
    for name in ("train", "heldout"):
        with resources.meter.phase("data" if name == "train" else name):
            rows, ties = sample_pairs(policy, resources.oracle, parts[name], data, resources.tick)
            if resources.engine is not None:  # another engine's own are off by its rounding
                add_reference_logps(policy, rows, batch_size)
            write_rows(work / f"{name}.jsonl", rows)
            counts[name] = {"pairs": len(rows), "ties": ties}
    write_json(work / "counts.json", counts)
    for name, key in (("train", "train_prompts"), ("heldout", "heldout_prompts")):
        if not counts[name]["pairs"]:
            raise UserError(f"Sampling gave no {name} pair (all answers score alike): raise data.{key}")
    return resources.spent()


def _import(resources: Resources, data: PairsSpec, work: Path) -> dict[str, Any]:
    from harness.pairs.tokenised import (
        LengthLimits,
        add_reference_logps,
        context_window,
        fitting_prompts,
        tokenised_pairs,
    )

    recipe, policy = resources.recipe, resources.start
    imported = imported_pairs(data)
    context = context_window(policy)
    limits = LengthLimits(
        data.max_prompt_length or context, min(recipe.train.max_length, context), data.too_long == "cut"
    )
    parts = {name: tokenised_pairs(policy, imported.parts[name], limits) for name in ("train", "heldout")}
    limit = min(limits.prompt, context - data.max_new_tokens)
    parts |= {name: fitting_prompts(policy, imported.parts[name], limit) for name in ("tune", "eval")}
    for name, part in parts.items():
        if not part.rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in part.left_out.items())
            cure = advice(part.left_out, name, recipe.chat_template or recipe.model)
            raise UserError(f"Of the {name} rows none is left ({reasons}): {cure}")
    resources.emit("stage", ("preference pairs", 2 * sum(len(parts[name].rows) for name in ("train", "heldout"))))
    for name in ("train", "heldout"):
        with resources.meter.phase("data" if name == "train" else name):
            add_reference_logps(policy, parts[name].rows, recipe.scoring_batch_size, resources.tick)
        write_rows(work / f"{name}.jsonl", parts[name].rows)
    counts: dict[str, Any] = {"files": imported.counts, "source": imported.identity}
    for name, part in parts.items():
        kind = "pairs" if name in ("train", "heldout") else "prompts"
        counts[name] = {kind: len(part.rows), "left_out": part.left_out, "kept": part.kept}
    write_json(work / "kept.json", {name: [row["id"] for row in part.rows] for name, part in parts.items()})
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
