"""Small pairs in RewardBench's format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.benchmark import Row
from kit.rows import write_rows

ANSWERS = ["yes", "no, never", "a longer answer", "maybe", "so it is", "not at all", "three", "four words are here"]


def own_pairs(count: int = 12) -> list[Row]:
    """Pairs of two subsets; the last one holds the same answer twice."""
    rows = [
        {
            "prompt": f"Question {i}?",
            "chosen": ANSWERS[i % 8],
            "rejected": ANSWERS[(3 * i + 1) % 8],
            "subset": "mine" if i % 3 else "other",
            "id": i,
        }
        for i in range(count)
    ]
    for row in rows:
        if row["chosen"] == row["rejected"]:
            row["rejected"] += " indeed"
    rows[-1]["rejected"] = rows[-1]["chosen"]
    return rows


def write_pairs(folder: Path, rows: Sequence[Row], name: str = "filtered.jsonl") -> Path:
    path = folder / "rewardbench" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        write_rows(path, rows)
    return path
