"""A sampler's requests and its completions. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sail.noise import Key

SAMPLER_VERSION = 3
"""Raise it whenever the same request would give another answer: it is part of every key that depends on samples."""


@dataclass(frozen=True)
class Request:
    """One answer to sample. ``prompt``: token ids. ``temperature`` 0 is greedy; otherwise ``key`` names the noise."""

    prompt: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 1.0
    key: Key = ()


@dataclass(frozen=True)
class Completion:
    """A sampled answer. ``ids`` end with EOS only if it was generated (``stopped``); ``logps`` are in nats at T=1."""

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    stopped: bool

    @property
    def logp(self) -> float:
        """Log-probability of the whole completion, a generated EOS counted once (nats)."""
        return float(sum(self.logps))
