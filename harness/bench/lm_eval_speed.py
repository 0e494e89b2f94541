"""MMLU (5-shot) and ARC-Challenge (25-shot) through our model interface and through plain lm-eval, side by side.

Run: ``python -m harness.bench.lm_eval_speed DATA_DIR [ITEMS] [MODEL] [BATCH]``. ITEMS: 0 for all. Prints one JSON line a
task: items, scores of both, greatest difference of a log-likelihood, items that differ in a metric, seconds (building of
prompts included), ratio. The same model object, tokenizer, tasks, items and batch size; MMLU's items are drawn by
subject (whole subjects, so that as many share their examples as in the full set). The two sides take turns, chunk by
chunk, so that a busy machine slows both.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.ledger import Ledger
from harness.meter import Meter
from harness.models import build_start
from harness.policy import Policy, load_model, load_tokenizer
from harness.store import Store

Chunk = dict[str, list[int]]
WARM_UP = 2


def chunks(sizes: dict[str, int], items: int, size: int = 100) -> list[Chunk]:
    """Whole strata, or parts of at most ``size`` items, until ``items`` are reached (0: all)."""
    found: list[Chunk] = []
    left = items or sum(sizes.values())
    for name, count in sizes.items():
        for start in range(0, min(count, left), size):
            found.append({name: list(range(start, min(start + size, count, left)))})
        left -= min(count, left)
    return [chunk for chunk in found if all(chunk.values())]


def compare(ours: Any, theirs: Any, tasks: dict[str, Any], shots: int, parts: Sequence[Chunk]) -> dict[str, Any]:
    """Both sides on the same parts, the order alternating; the first part is run once before, to warm up."""
    from benchmarks.lmeval.run import rows, simple_evaluate

    def run(lm: Any, part: Chunk) -> tuple[float, list[dict[str, Any]]]:
        began = time.perf_counter()
        found = simple_evaluate(lm, [tasks[name] for name in part], shots, part, chat=False)
        return time.perf_counter() - began, rows(found)

    for lm in (ours, theirs):
        run(lm, {name: places[:WARM_UP] for name, places in parts[0].items()})
    seconds, collected = [0.0, 0.0], ([], [])  # type: tuple[list[dict[str, Any]], list[dict[str, Any]]]
    for i, part in enumerate(parts):
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            spent, found = run((ours, theirs)[side], part)
            seconds[side] += spent
            collected[side].extend(found)
    gap = max(
        abs(x[0] - y[0]) for a, b in zip(*collected, strict=True) for x, y in zip(a["resps"], b["resps"], strict=True)
    )
    scores = [
        {name: sum(r["metrics"][name] for r in side) / len(side) for name in side[0]["metrics"]} for side in collected
    ]
    return {
        "items": len(collected[0]),
        "ours": scores[0],
        "lm_eval": scores[1],
        "items_that_differ": sum(a["metrics"] != b["metrics"] for a, b in zip(*collected, strict=True)),
        "greatest_gap": float(f"{gap:.3g}"),
        "seconds_ours": round(seconds[0], 2),
        "seconds_lm_eval": round(seconds[1], 2),
        "ratio": round(seconds[1] / seconds[0], 2),
    }


def measure(folder: Path, items: int = 60, model: str = "smollm2", batch: int = 16) -> list[dict[str, Any]]:
    """One row a task.

    Raises:
        UserError: the folder has no questions.
    """
    from lm_eval.models.huggingface import HFLM

    from benchmarks.lmeval import ARC25, MMLU5
    from benchmarks.lmeval.model import PolicyLM
    from benchmarks.lmeval.run import quiet

    os.environ["SAIL_BENCH_DATA_DIR"] = str(folder.resolve())
    found = []
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(sys.stderr), quiet():
        start = build_start(model, Store(Path(scratch)))
        loaded, tokenizer = load_model(start), load_tokenizer(start)
        theirs = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch)
        for benchmark in (MMLU5(), ARC25()):
            if not benchmark.source.paths():
                raise UserError(f"{folder} has no folder {benchmark.source.folder}: name one that does")
            tasks = {task.config.task: task for task in benchmark.tasks()}
            sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
            policy = Policy(loaded, tokenizer, "bench", meter=Meter(Ledger()), cache=None)
            row = compare(PolicyLM(policy, batch), theirs, tasks, benchmark.shots, chunks(sizes, items))
            found.append({"benchmark": benchmark.name, "model": model, "shots": benchmark.shots} | row)
    return found


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments:
        sys.exit("python -m harness.bench.lm_eval_speed DATA_DIR [ITEMS] [MODEL] [BATCH]")
    given = [int(arguments[1])] if arguments[1:] else []
    try:
        for line in measure(Path(arguments[0]), *given, *arguments[2:3], *map(int, arguments[3:4])):
            print(json.dumps(line))
    except UserError as error:
        sys.exit(f"Error: {error}")
