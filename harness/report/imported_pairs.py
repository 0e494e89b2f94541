"""The paragraph of a leaderboard page on imported pairs: where they are from, what was left out, what overlaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def data_paragraph(data: Mapping[str, Any]) -> str:
    """The paragraph; "" for pairs that were sampled from the start policy.

    ``data`` is the JSON record of the pairs in a result file.
    """
    if "source" not in data:
        return ""
    files = [_file(part, data["files"][part], data["source"][part]) for part in ("train", "test")]
    kept = [
        f"{data['train']['pairs']} training pairs{_notes(data['train'])}",
        f"{data['heldout']['pairs']} held-out pairs{_notes(data['heldout'])}",
        f"{data['tune']['prompts']} tuning prompts{_notes(data['tune'])}",
        f"{data['eval']['prompts']} evaluation prompts{_notes(data['eval'])}",
    ]
    paragraph = (
        "**Data**: the pairs came with the recipe; nobody was asked for a label here and none is charged, only their "
        f"log-probabilities under the start policy. {' '.join(files)} Used: {', '.join(kept)}."
    )
    return f"{paragraph}{_overlaps(data.get('overlap', {}))}"


def _file(part: str, counts: Mapping[str, Any], source: Mapping[str, str]) -> str:
    where = source.get("hub") or f"sha256 {source['sha256'][:16]}"
    name = "Training" if part == "train" else "Test"
    sentences = (
        f"{name} file (`{where}`, {counts['format']}): {counts['rows']} rows, {_counts(counts['left_out'])} left out."
    )
    if counts["kept"]:
        sentences += f" Kept and noted: {_counts(counts['kept'])}."
    unused = counts.get("columns_not_used")  # results of earlier versions have none
    return sentences + (f" Columns not used: {', '.join(f'`{column}`' for column in unused)}." if unused else "")


def _notes(counts: Mapping[str, Any]) -> str:
    """What was left out (or cut), and what is worth a note of what stayed; "" if nothing was."""
    notes = [_counts(counts["left_out"])] if counts["left_out"] else []
    if counts.get("kept"):  # results of earlier versions have none
        notes.append(f"of those kept, {_counts(counts['kept'])}")
    return f" ({'; '.join(notes)})" if notes else ""


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in counts.items()) or "none"


def _overlaps(benchmarks: Mapping[str, Mapping[str, int]]) -> str:
    """Training prompts that are prompts of other benchmarks, which stay in."""
    overlaps = [
        f"{name} {o['equal']} equal, {o['near']} nearly, {o['shared']} by 13 words" for name, o in benchmarks.items()
    ]
    return f" Training prompts that are prompts of other benchmarks: {'; '.join(overlaps)}." if overlaps else ""
