"""The judge that needs no network (the start policy itself), and cards that measure a judge."""
