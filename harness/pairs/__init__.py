"""Preference pairs: sampled from the start policy or imported, and kept as token ids."""
