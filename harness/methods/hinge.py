"""``hinge``: the hinge loss of SLiC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.methods.base import PairMethod

if TYPE_CHECKING:
    from harness.methods.base import Loss


class Hinge(PairMethod):
    """SLiC: hinge loss on the implicit reward margin."""

    name = "hinge"
    summary = "SLiC: hinge loss on the implicit reward margin"
    paper = "arXiv:2305.10425"
    published = "margin 1 and a supervised term in SLiC-HF; as a loss of the DPO margin in RSO, arXiv:2309.06657"
    grid = {"beta": (0.1, 0.5)}

    def loss(self, beta: float) -> Loss:
        """``max(0, 1 - u)``."""
        from sail.losses import PairLoss

        hinge = PairLoss("hinge", beta)
        return lambda sides: hinge.phi(hinge.margin(sides))
