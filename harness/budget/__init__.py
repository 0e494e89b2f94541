"""What a run may spend, what it spent, and what it is predicted to spend."""
