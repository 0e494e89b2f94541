"""What is worth a note about the labels of pairs that stay: scores against them, both orders of one pair. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.pairs.layouts import PreferencePair

AGAINST = "score the rejected answer higher"
TIED = "score both answers alike"
BOTH_ORDERS = "are there in both orders"


def label_notes(pairs: Sequence[PreferencePair]) -> dict[str, int]:
    """Rows by note, with the notes that their layout took. The label counts, whatever the scores say.

    A pair in both orders (A better than B in one row, B better than A in another) counts as two rows. Both stay:
    annotators may differ, and TRL trains on both.

    Args:
        pairs: of one file.
    """
    notes = Counter(note for pair in pairs for note in pair.notes)
    for pair in pairs:
        if pair.chosen_score is not None and pair.rejected_score is not None:
            notes[AGAINST] += pair.chosen_score < pair.rejected_score
            notes[TIED] += pair.chosen_score == pair.rejected_score
    prompts = [tuple((turn["role"], turn["content"]) for turn in pair.prompt) for pair in pairs]
    orders = {(prompt, pair.chosen, pair.rejected) for prompt, pair in zip(prompts, pairs, strict=True)}
    notes[BOTH_ORDERS] = sum((prompt, p.rejected, p.chosen) in orders for prompt, p in zip(prompts, pairs, strict=True))
    return {note: count for note, count in sorted(notes.items()) if count}
