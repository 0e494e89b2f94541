"""``report.html``: one self-contained page to explore a comparison, from its result files and the store."""
