"""Measurements of the project's own speed, side by side with peers in one run."""
