"""Oracles score responses or label preferences during training and evaluation."""
