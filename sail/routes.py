"""What keyed noise decides for an example at a step: its route, who samples its responses, how its label falls.

A route says where a pair's responses and label come from (the table in docs/sail.md). A source says which model samples
the responses of an online pair.
"""

from __future__ import annotations

from sail.noise import categorical, uniform

DP, PP, PR, OFF = 0, 1, 2, 3
"""``DP``: dataset responses, self-label. ``PP``: policy responses, self-label. ``PR``: policy responses, label from
``preference``. ``OFF``: the dataset's pair and label (plain DPO)."""

ROUTE_NAMES = {OFF: "off", DP: "dp", PP: "pp", PR: "pr"}

START, LAGGED, OTHER, CURRENT = 0, 1, 2, 3
"""The start policy, older weights of the policy, another model, the current policy."""


def route_of(seed: int, example: int, step: int, shares: tuple[float, ...], labelled: bool = True) -> int:
    """Route of an example at a step: DP, PP or PR by their shares, else OFF.

    Args:
        seed: of the keyed noise.
        example: the example's id in the data set.
        step: number of finished optimiser steps.
        shares: probabilities of DP, PP and PR, in this order.
        labelled: whether the example's label may be used. If not, it never takes OFF: the other routes share OFF's
            probability in proportion to their own.
    """
    total = 1.0 if labelled else sum(shares)
    route = categorical(shares, total * uniform((seed, example, step, "route")))
    return route if labelled or route != OFF else max(range(len(shares)), key=lambda r: shares[r])


def source_of(seed: int, example: int, step: int, shares: tuple[float, ...]) -> int:
    """Which model samples an online pair: START, LAGGED or OTHER by their shares, else CURRENT.

    Args:
        seed: of the keyed noise.
        example: the example's id in the data set.
        step: number of finished optimiser steps.
        shares: probabilities of START, LAGGED and OTHER, in this order.
    """
    return categorical(shares, uniform((seed, example, step, "source")))


def label_of(p: float, draw: float, kind: str) -> float:
    """The training label that a preference probability becomes.

    Args:
        p: probability that the first response is preferred; 0.5 is a tie.
        draw: a uniform in [0, 1).
        kind: ``hard`` (the likelier response; the draw settles a tie), ``sampled`` (1 with probability ``p``) or
            ``soft`` (``p`` itself).

    Returns:
        probability that the first response is preferred: 0 or 1, except for ``soft``.
    """
    if kind == "soft":
        return p
    threshold = 0.5 if kind == "hard" and p == 0.5 else p
    return float(draw < threshold) if kind == "sampled" or p == 0.5 else float(p > 0.5)


def flipped(label: float, draw: float, rate: float) -> float:
    """The label under symmetric noise.

    Args:
        label: probability that the first response is preferred.
        draw: a uniform in [0, 1).
        rate: probability of a flip.

    Returns:
        ``1 - label`` where ``draw < rate``, else ``label``.
    """
    return 1 - label if draw < rate else label
