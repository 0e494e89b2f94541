"""``sail-pp``: responses and labels from the policy."""

from __future__ import annotations

from harness.methods.sail import PUBLISHED, SAIL


class SAILPP(SAIL):
    """Self-labelled responses of the policy beside offline pairs. Defaults: share p = 0.3, pi = 0.2."""

    name = "sail-pp"
    summary = "SAIL: policy responses, self-labelled"
    published = f"share 0.3, coefficient 0.2; {PUBLISHED}"
    route = "pp"
