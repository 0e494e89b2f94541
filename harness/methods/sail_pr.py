"""``sail-pr``: responses from the policy, labels from the oracle."""

from __future__ import annotations

from pydantic import Field

from harness.methods.sail import PUBLISHED, SAIL, SAILOptions


class PROptions(SAILOptions):
    """Defaults of the official code: share g = 0.3, coefficient gamma = 0.3."""

    coefficient: float = Field(default=0.3, ge=0)


class SAILPR(SAIL):
    """Online RLHF with the score term T1."""

    name = "sail-pr"
    summary = "SAIL: policy responses, oracle labels (online RLHF with the score term)"
    published = f"share 0.3, coefficient 0.3; {PUBLISHED}"
    route = "pr"
    Config = PROptions
