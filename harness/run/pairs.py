"""Building the stage of preference pairs, sampled or imported, and the prompts that go with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.answer.chat import Prompt
from harness.errors import UserError
from harness.pairs.advice import advice
from harness.pairs.imported import imported_pairs
from harness.pairs.prompts import splits
from harness.recipe.recipe import DataSpec, PairsSpec, Recipe
from harness.run.resources import Resources
from harness.store.json_files import Row, read_json, write_json, write_rows
from harness.store.row_files import RowFile, RowView, RowWriter
from harness.store.stages import Store

if TYPE_CHECKING:
    from harness.answer.policy import Policy
    from harness.pairs.tokenised import KeptRows, LengthLimits

PAIRS = ("train", "heldout")
"""The parts that are stored as pairs of token ids."""


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
    from harness.pairs.tokenised import with_reference_logps

    parts = splits(data)
    policy, batch_size = resources.start_served, resources.recipe.scoring_batch_size
    resources.emit("stage", ("preference pairs", data.answers_to_sample))
    counts = {}
    for name in ("train", "heldout"):
        with resources.meter.phase("data" if name == "train" else name):
            rows, ties = sample_pairs(policy, resources.oracle, parts[name], data, resources.tick)
            if resources.engine is not None:  # another engine's own are off by its rounding
                rows = list(with_reference_logps(policy, rows, batch_size))
            write_rows(work / f"{name}.jsonl", rows)
            counts[name] = {"pairs": len(rows), "ties": ties}
    write_json(work / "counts.json", counts)
    for name, key in (("train", "train_prompts"), ("heldout", "heldout_prompts")):
        if not counts[name]["pairs"]:
            raise UserError(f"Sampling gave no {name} pair (all answers score alike): raise data.{key}")
    return resources.spent()


def _import(resources: Resources, data: PairsSpec, work: Path) -> dict[str, Any]:
    from harness.pairs.tokenised import LengthLimits, context_window, fitting_prompts, with_reference_logps

    recipe, policy = resources.recipe, resources.start
    imported = imported_pairs(data, resources.store)
    context = context_window(policy)
    limits = LengthLimits(
        data.max_prompt_length or context, min(recipe.train.max_length, context), data.too_long == "cut"
    )
    parts = {name: _tokenised(policy, imported.parts[name], limits, work / f"{name}.ids") for name in PAIRS}
    limit = min(limits.prompt, context - data.max_new_tokens)
    parts |= {name: fitting_prompts(policy, imported.parts[name], limit) for name in ("tune", "eval")}
    for name, part in parts.items():
        if not part.rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in part.left_out.items())
            cure = advice(part.left_out, name, recipe.chat_template or recipe.model)
            raise UserError(f"Of the {name} rows none is left ({reasons}): {cure}")
    resources.emit("stage", ("preference pairs", 2 * sum(len(parts[name].rows) for name in PAIRS)))
    counts: dict[str, Any] = {"files": imported.counts, "source": imported.identity}
    for name, part in parts.items():
        kind = "pairs" if name in PAIRS else "prompts"
        counts[name] = {kind: len(part.rows), "left_out": part.left_out, "kept": part.kept}
    write_json(work / "kept.json", {name: [row["id"] for row in part.rows] for name, part in parts.items()})
    for name in PAIRS:
        with resources.meter.phase("data" if name == "train" else name), RowWriter(work / f"{name}.jsonl") as writer:
            for row in with_reference_logps(policy, parts[name].rows, recipe.scoring_batch_size, resources.tick):
                writer.write(row)
        (work / f"{name}.ids").unlink()
    write_json(work / "counts.json", counts)
    return resources.spent()


def _tokenised(policy: Policy, rows: Sequence[Row], limits: LengthLimits, file: Path) -> KeptRows:
    """Token ids of pairs, in a file, so that memory does not grow with their number."""
    from harness.pairs.tokenised import PairTokeniser

    tokeniser = PairTokeniser(policy, limits)
    with RowWriter(file) as writer:
        for row in tokeniser.rows(rows):
            writer.write(row)
    return tokeniser.counted(RowFile(file))


def prompts_by_part(recipe: Recipe, store: Store, pairs: Path) -> Mapping[str, Sequence[Prompt]]:
    """The recipe's prompts by part; of imported ones those that the stage of the pairs kept, found when a part is first
    asked for.

    Args:
        recipe: says which prompts are used.
        store: holds the imported pairs.
        pairs: folder of the finished stage.
    """
    parts, file = splits(recipe.data, store), pairs / "kept.json"
    return KeptParts(parts, read_json(file)) if file.is_file() else parts


class KeptParts(Mapping[str, Sequence[Prompt]]):
    """Parts of which some rows were left out.

    Args:
        parts: all rows by part.
        kept: ids of those that stay, by part.
    """

    def __init__(self, parts: Mapping[str, Sequence[Prompt]], kept: Mapping[str, Sequence[str]]) -> None:
        self._parts, self._kept = parts, kept
        self._chosen: dict[str, Sequence[Prompt]] = {}

    def __getitem__(self, part: str) -> Sequence[Prompt]:
        if part not in self._chosen:
            rows, ids = self._parts[part], set(self._kept[part])
            places = [place for place, row in enumerate(rows) if row["id"] in ids]
            self._chosen[part] = RowView(rows, places)
        return self._chosen[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)
