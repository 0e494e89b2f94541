"""Whether the engine samples from the weights that it was given: its log-probabilities beside transformers' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.answer.rollout_engine import RolloutEngine
from harness.answer.sampler_check import plain_logps
from harness.errors import UserError
from sail.types import Completion, Request

CHECKED_ANSWERS = 4
"""Answers whose log-probabilities are compared after each sync."""

TOLERANCE = 1e-3
"""Nats a token, on the mean of absolute differences, in float32 (6e-6 seen on SmolLM2)."""

HALF_TOLERANCE = 0.08
"""The same where model or engine compute in half precision: 0.03 to 0.045 seen on SmolLM2, and 0.11 where the engine
went on without a small adapter."""


def check_engine(
    engine: RolloutEngine, model: Any, requests: Sequence[Request], answers: Sequence[Completion]
) -> float:
    """Compare the log-probabilities of the first answers with a plain forward of the model, and print the difference.

    Args:
        engine: that sampled.
        model: of transformers, with the weights that the engine was given; used in evaluation mode and put back.
        requests: that were sampled.
        answers: to them.

    Returns:
        the mean absolute difference, nats a token.

    Raises:
        UserError: it passes the tolerance.
    """
    was_training = model.training
    model.eval()
    try:
        apart: list[float] = [
            abs(value - plain)
            for r, c in list(zip(requests, answers, strict=True))[:CHECKED_ANSWERS]
            for value, plain in zip(c.logps, plain_logps(model, r.prompt, c.ids).tolist(), strict=True)
        ]
    finally:
        model.train(was_training)
    difference = sum(apart) / max(1, len(apart))
    print(f"engine: {difference:.2g} nats a token off transformers, over {len(apart)} tokens", flush=True)
    limit = HALF_TOLERANCE if engine.settings.dtype != "float32" or model.dtype.itemsize < 4 else TOLERANCE
    if not difference <= limit:  # true for NaN too
        raise UserError(
            f"The engine's log-probabilities are {difference:.2g} nats a token off those of transformers, over "
            f"{limit:g}: set engine: transformers, or its options so that it computes as the model does (dtype)"
        )
    engine.unchecked = False
    return difference
