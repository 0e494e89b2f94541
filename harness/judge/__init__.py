"""Judges: what a benchmark asks for a verdict."""
