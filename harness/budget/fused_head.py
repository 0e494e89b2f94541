"""Sees TRL's fused LM head, which reads the head's weight without calling the head, so that no hook on it runs."""

from __future__ import annotations

import weakref
from typing import Any, Protocol


class FusedHeadListener(Protocol):
    """Is called after each pass of the fused head."""

    def fused_head_scored(self, hidden: Any, weight: Any, logps: Any) -> None:
        """Takes note of one pass.

        Args:
            hidden: inputs of the head, (N, hidden size).
            weight: of the head, (vocabulary, hidden size).
            logps: its first output, with gradient if it trains.
        """


_LISTENERS: weakref.WeakSet[FusedHeadListener] = weakref.WeakSet()


def watch_fused_head(listener: FusedHeadListener) -> None:
    """Report every later pass of the fused head to a listener, for as long as the listener lives."""
    from trl.trainer import utils

    _LISTENERS.add(listener)
    original = utils._ChunkedLogProbFunction
    if hasattr(original, "metered"):
        return

    class Metered:
        """TRL's kernel, whose passes are reported."""

        metered = True

        @staticmethod
        def apply(hidden: Any, weight: Any, *rest: Any) -> Any:
            """As the kernel's."""
            outputs = original.apply(hidden, weight, *rest)
            for each in list(_LISTENERS):
                each.fused_head_scored(hidden, weight, outputs[0])
            return outputs

    utils._ChunkedLogProbFunction = Metered
