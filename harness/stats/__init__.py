"""Statistics: pure functions on per-prompt columns."""
