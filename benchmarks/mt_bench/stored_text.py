"""What FastChat's judgment files hold where a judge did not answer."""

from __future__ import annotations

STORED_AS_FAILED = "stored as failed"
"""Reason where a row without text holds FastChat's mark of a failure: the score -1, or the winner ``error``."""

_FAILED_CALL = "$ERROR$"


def judgment_text(judgment: str | None) -> str | None:
    """The text that a verdict is read from; None where there is none. FastChat writes ``$ERROR$`` for a call that
    failed."""
    text = (judgment or "").strip()
    return None if text in ("", _FAILED_CALL) else judgment
