"""``sail-dp``: responses of the data set, labels from the policy."""

from __future__ import annotations

from pydantic import Field

from harness.methods.sail import PUBLISHED, SAIL, SAILOptions


class DPOptions(SAILOptions):
    """Defaults of the official code: share r = 0.4, coefficient rho = 0.2."""

    share: float = Field(default=0.4, ge=0, le=1)


class SAILDP(SAIL):
    """Self-labelled pairs of the data set beside offline ones: DPO with confidence sharpening."""

    name = "sail-dp"
    summary = "SAIL: data set responses, self-labelled"
    published = f"share 0.4, coefficient 0.2; {PUBLISHED}"
    route = "dp"
    Config = DPOptions
