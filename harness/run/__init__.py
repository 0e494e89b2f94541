"""A comparison: planned, run in processes, published, scored again."""
