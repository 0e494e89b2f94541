"""Oracles: who labels preferences during training, and who rewards answers in evaluation."""
