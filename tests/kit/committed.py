"""The result files that this repository commits."""

from __future__ import annotations

from pathlib import Path


def committed_files(results: Path) -> list[Path]:
    """All result files under a folder of results, but those of a user's own comparisons in ``local``."""
    return [path for path in sorted(results.glob("**/seed-*.json")) if path.relative_to(results).parts[0] != "local"]
