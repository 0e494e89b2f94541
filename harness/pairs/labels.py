"""What is worth a note about the labels of pairs that stay: scores against them, both orders of one pair. Pure."""

from __future__ import annotations

from array import array
from collections import Counter

from harness.pairs.layouts import PreferencePair
from harness.store.json_files import text_hash

AGAINST = "score the rejected answer higher"
TIED = "score both answers alike"
BOTH_ORDERS = "are there in both orders"


class LabelNotes:
    """Counts rows of one file by note, with the notes that their layout took. The label counts, whatever the scores
    say.

    A pair in both orders (A better than B in one row, B better than A in another) counts as two rows. Both stay:
    annotators may differ, and TRL trains on both.
    """

    def __init__(self) -> None:
        self._notes = Counter[str]()
        self._orders, self._reverse = array("Q"), array("Q")  # hashes of each pair as it is, and turned round

    def add(self, pair: PreferencePair) -> None:
        """Count one row."""
        self._notes.update(pair.notes)
        if pair.chosen_score is not None and pair.rejected_score is not None:
            self._notes[AGAINST] += pair.chosen_score < pair.rejected_score
            self._notes[TIED] += pair.chosen_score == pair.rejected_score
        prompt = [text for turn in pair.prompt for text in (turn["role"], turn["content"])]
        self._orders.append(text_hash(*prompt, pair.chosen, pair.rejected))
        self._reverse.append(text_hash(*prompt, pair.rejected, pair.chosen))

    def counts(self) -> dict[str, int]:
        """Rows by note."""
        orders = set(self._orders)
        both = sum(order in orders for order in self._reverse)
        notes = {**self._notes, BOTH_ORDERS: both}
        return {note: count for note, count in sorted(notes.items()) if count}
