"""MMLU (5-shot) and ARC-Challenge (25-shot) through our model interface and through plain lm-eval, side by side.

Run: ``python -m harness.bench.lm_eval_speed DATA_DIR [ITEMS] [MODEL] [BATCH]``. ITEMS: 0 for all. BATCH: the batch size
of plain lm-eval, which is 1 unless told otherwise (on a CPU it is slower with more); ours is the recipes' 16.

Prints one JSON line a task: items, scores of both, greatest difference of a log-likelihood, items that differ in a
metric, seconds (building of prompts included), their ratio over all and by part (least, median, greatest), and the
ratio of floating-point operations, which no busy machine moves. Same model object, tokenizer, tasks and items: whole
subjects of MMLU one after the other, so that as many items share their examples as in the full set. The two sides take
turns, part by part (a subject; with ITEMS 20 items at most).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

from harness.errors import UserError
from harness.ledger import Ledger
from harness.meter import Meter
from harness.models import build_start
from harness.policy import Policy, load_model, load_tokenizer
from harness.store import Store

Part = dict[str, list[int]]
PART, BATCH, WARM_UP = 20, 16, 2


class Side:
    """One of the two model interfaces: what it took, part by part, and its rows."""

    def __init__(self, lm: Any, tasks: Mapping[str, Any], shots: int, ledger: Ledger) -> None:
        self.lm, self.all, self.shots, self.ledger = lm, tasks, shots, ledger
        self.seconds: list[float] = []
        self.flops = 0.0
        self.rows: list[dict[str, Any]] = []

    def run(self, part: Part) -> None:
        """The items of a part."""
        from benchmarks.lmeval.run import rows, simple_evaluate

        began, before = time.perf_counter(), self.ledger.flops()
        found = simple_evaluate(self.lm, [self.all[name] for name in part], self.shots, part, chat=False)
        self.seconds.append(time.perf_counter() - began)
        self.flops += self.ledger.flops() - before
        self.rows += rows(found)

    def warm(self, part: Part) -> None:
        """The first items of a part, not counted."""
        self.run({name: places[:WARM_UP] for name, places in part.items()})
        self.seconds, self.flops, self.rows = [], 0.0, []

    def scores(self) -> dict[str, float]:
        """Mean of each metric."""
        names = self.rows[0]["metrics"]
        return {name: round(sum(r["metrics"][name] for r in self.rows) / len(self.rows), 6) for name in names}


def parts(sizes: Mapping[str, int], items: int, most: int = PART) -> list[Part]:
    """Tasks one after the other, in parts of at most ``most``, until ``items`` are reached; whole ones if it is 0."""
    found: list[Part] = []
    left = items or sum(sizes.values())
    for name, count in sizes.items():
        count, size = min(count, left), most if items else count
        found += [{name: list(range(start, min(start + size, count)))} for start in range(0, count, size)]
        left -= count
    return found


def compare(ours: Side, theirs: Side, asked: Sequence[Part]) -> dict[str, Any]:
    """Both sides on the same parts, the order alternating."""
    for side in (ours, theirs):
        side.warm(asked[0])
    for i, part in enumerate(asked):
        for side in (ours, theirs) if i % 2 == 0 else (theirs, ours):
            side.run(part)
    pairs = list(zip(ours.rows, theirs.rows, strict=True))
    gaps = [abs(x[0] - y[0]) for a, b in pairs for x, y in zip(a["resps"], b["resps"], strict=True)]
    seconds = sum(ours.seconds), sum(theirs.seconds)
    ratios = sorted(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))
    return {
        "items": len(pairs),
        "ours": ours.scores(),
        "lm_eval": theirs.scores(),
        "items_that_differ": sum(a["metrics"] != b["metrics"] for a, b in pairs),
        "greatest_gap": float(f"{max(gaps):.3g}"),
        "seconds_ours": round(seconds[0], 2),
        "seconds_lm_eval": round(seconds[1], 2),
        "ratio": round(seconds[1] / seconds[0], 2),
        "ratio_by_part": [round(r, 2) for r in (ratios[0], median(ratios), ratios[-1])],
        "flops_ratio": round(theirs.flops / ours.flops, 2),
    }


def measure(folder: Path, items: int = 60, model: str = "smollm2", batch: int = 1) -> list[dict[str, Any]]:
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
        ledger = Ledger()
        policy = Policy(loaded, tokenizer, "bench", meter=Meter(ledger), cache=None)  # meters the model, for both sides
        for benchmark in (MMLU5(), ARC25()):
            if not benchmark.source.paths():
                raise UserError(f"{folder} has no folder {benchmark.source.folder} with questions: name one that has")
            tasks = {task.config.task: task for task in benchmark.tasks()}
            ours = Side(PolicyLM(policy, BATCH), tasks, benchmark.shots, ledger)
            plain = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch)
            theirs = Side(plain, tasks, benchmark.shots, ledger)
            sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
            told = {"benchmark": benchmark.name, "model": model, "shots": benchmark.shots, "lm_eval_batch": batch}
            found.append(told | compare(ours, theirs, parts(sizes, items)))
    return found


def main(arguments: Sequence[str]) -> None:
    """The command."""
    if not arguments:
        sys.exit("python -m harness.bench.lm_eval_speed DATA_DIR [ITEMS] [MODEL] [BATCH]")
    folder, items, model, batch = [*arguments, *["", "60", "smollm2", "1"][len(arguments) :]]
    try:
        for line in measure(Path(folder), int(items), model, int(batch)):
            print(json.dumps(line))
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
