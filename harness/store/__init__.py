"""Stages, rows and files on disk: everything a run makes is kept here under a content address."""
