"""Judges: what a benchmark asks for a verdict."""

from __future__ import annotations

LOCAL_VERSION = 1
"""Raise it whenever a prompt or the way of reading the local judge's answer changes."""
