"""What the stored pairs cost a method: each is charged once, at its first use."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from harness.budget.ledger import Ledger


class StoredPairs:
    """The stored pairs by the token ids of their answers, with the price of one.

    A pair is used when the model trains on its chosen or its rejected answer. Training on an equal answer that the
    policy sampled itself counts as well.

    Args:
        pairs: rows with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.
        price: of one pair, by quantity, as in the ledger.
        max_length: tokens at which training cuts a row.
    """

    def __init__(self, pairs: Sequence[dict[str, Any]], price: Mapping[str, float], max_length: int) -> None:
        self._price = price
        self._pair_of: dict[bytes, int] = {}
        for number, row in enumerate(pairs):
            for side in ("chosen_ids", "rejected_ids"):
                self._pair_of.setdefault(_hash([*row["prompt_ids"], *row[side]][:max_length]), number)

    def charge(self, ids: Any, mask: Any, ledger: Ledger) -> bool:
        """Charge the pairs that a training forward uses for the first time, to phase ``data``.

        Args:
            ids: token ids of the forward, (B, L).
            mask: attention mask, (B, L); None if there is no padding.
            ledger: knows the pairs that are bought already.

        Returns:
            whether every row is one of a stored pair.
        """
        rows = ids.tolist()
        masks = [[True] * len(row) for row in rows] if mask is None else mask.bool().tolist()
        used = {
            self._pair_of.get(_hash([token for token, real in zip(row, row_mask, strict=True) if real]))
            for row, row_mask in zip(rows, masks, strict=True)
        }
        ledger.bought |= {i for i in used if i is not None}
        if ledger.bought:
            count = len(ledger.bought)
            ledger.entries["data"] = {q: each * count for q, each in self._price.items()} | {"pairs": count}
        return None not in used


def _hash(ids: Sequence[int]) -> bytes:
    """Of token ids, in 16 bytes: the ids of all stored pairs would fill memory."""
    return blake2b(array("q", ids).tobytes(), digest_size=16).digest()
