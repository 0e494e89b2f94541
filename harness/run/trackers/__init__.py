"""Experiment trackers: training curves of all runs of a comparison while they train, their scores, the final table."""
