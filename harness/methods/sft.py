"""``sft``: likelihood of the chosen responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.methods.base import MethodConfig, PairMethod

if TYPE_CHECKING:
    from harness.methods.base import Loss


class SFT(PairMethod):
    """Supervised fine-tuning on the chosen responses."""

    name = "sft"
    summary = "supervised fine-tuning on the chosen responses"
    paper = ""
    published = "baseline of all preference papers; no reference, no beta"
    reads_reference = False
    Config = MethodConfig
    chosen_only = True

    def loss(self, beta: float) -> Loss:
        """Negative log-likelihood by token."""
        from harness.train.losses import sft

        return sft
