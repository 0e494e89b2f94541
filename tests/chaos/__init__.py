"""What kills, damage, full disks, two commands at once and odd input do to a comparison: ``python -m tests.chaos``."""
