"""Keyed noise: every random draw of SAIL is a pure function of what it is for.

A draw is keyed by (seed, example, step, sample, position), never taken from a global generator, so that batch layout,
the number of processes and a resume cannot change it.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Key = tuple[int | str, ...]


def generator(key: Key) -> np.random.Generator:
    """A counter-based (Philox) generator that depends on ``key`` alone."""
    digest = blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def uniforms(key: Key, count: int) -> NDArray[np.float64]:
    """``count`` uniforms in [0, 1); entry ``t`` is the noise of position ``t``. Shape (count,)."""
    return generator(key).random(count)


def uniform(key: Key) -> float:
    """One uniform in [0, 1)."""
    return float(uniforms(key, 1)[0])


def categorical(shares: tuple[float, ...], draw: float) -> int:
    """Index of the category that a uniform ``draw`` falls into; the last index takes the remaining probability.

    ``shares`` are the probabilities of categories 0..k-1 (sum at most 1); the result k means "none of them".
    """
    edge = 0.0
    for index, share in enumerate(shares):
        edge += share
        if draw < edge:
            return index
    return len(shares)
