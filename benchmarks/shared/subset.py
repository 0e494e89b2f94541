"""Drawing a part of a question set by stratum (subject or subset)."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import UserError
from sail.noise import generator


def draw_subset(sizes: Mapping[str, int], limit: int, seed: int = 0) -> dict[str, list[int]]:
    """``limit`` places drawn from strata in proportion to their sizes (largest remainder), at least one of each.

    A larger subset of the same seed holds the places of a smaller one wherever its share of a stratum is not smaller.

    Args:
        sizes: items by stratum.
        limit: places in all; from the size of the whole set upwards, all are taken.
        seed: of the draw.

    Returns:
        ascending places by stratum.

    Raises:
        UserError: fewer places than strata.
    """
    total = sum(sizes.values())
    if limit >= total:
        return {name: list(range(size)) for name, size in sizes.items()}
    if limit < len(sizes):
        raise UserError(f"limit is {limit}, but there are {len(sizes)} subjects: give at least one question to each")
    free, rest = limit - len(sizes), total - len(sizes)
    exact = {name: free * (size - 1) / max(rest, 1) for name, size in sizes.items()}
    shares = {name: 1 + int(value) for name, value in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: (int(exact[name]) - exact[name], name))
    for name in by_remainder[: limit - sum(shares.values())]:
        shares[name] += 1
    return {
        name: sorted(int(i) for i in generator(("subset", name, seed)).permutation(size)[: shares[name]])
        for name, size in sizes.items()
    }
