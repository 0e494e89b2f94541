"""MMLU 5-shot, ARC-Challenge 0-shot and 25-shot through our forwards and through plain lm-eval, side by side.

Run: ``python -m harness.bench.lm_eval_speed DATA_DIR [--part mmlu|arc0|arc25] [--limit N] [--model M] [--batch B]``.
Without a part all three, each printed as it ends. DATA_DIR holds ``mmlu/`` and ``arc_challenge/`` (docs/knowledge.md).
Without a limit: all questions of MMLU and of ARC 0-shot, the first 100 of ARC 25-shot. B: the batch size of plain
lm-eval, which is 1 unless told otherwise (on a CPU it is slower with more); ours is the recipes' 16.

One JSON line a part: items, scores of both, greatest difference of a log-likelihood, items that differ in a metric or in
their prompt, seconds (building of prompts included), their ratio over all and by slice (least, median, greatest), and
the ratio of floating-point operations, which no busy machine moves. Same model object, tokenizer, tasks and items. The
two sides take turns, slice by slice: a subject of MMLU, 100 items of ARC 0-shot; ARC 25-shot is one slice, since its
examples are drawn item after item from one stream (so these are the prompts of ``lm_eval --limit``).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from harness.errors import UserError
from harness.ledger import Ledger
from harness.meter import Meter
from harness.models import build_start
from harness.policy import Policy, load_model, load_tokenizer
from harness.store import Store

BATCH, WARM_UP = 16, 2
Slice = dict[str, list[int]]


@dataclass(frozen=True)
class Part:
    """A benchmark, how many of its items are asked (0: all), and how many at once (0: all)."""

    benchmark: str
    items: int
    slice: int


PARTS = {
    "mmlu": Part("MMLU5", 0, 300),
    "arc0": Part("ARC0", 0, 100),
    "arc25": Part("ARC25", 100, 0),
}


class Side:
    """One of the two model interfaces: what it took, slice by slice, and its rows."""

    def __init__(self, lm: Any, tasks: Mapping[str, Any], shots: int, ledger: Ledger) -> None:
        self.lm, self.all, self.shots, self.ledger = lm, tasks, shots, ledger
        self.seconds: list[float] = []
        self.flops = 0.0
        self.rows: list[dict[str, Any]] = []

    def run(self, part: Slice) -> None:
        """The items of a slice."""
        from benchmarks.lmeval.run import rows, simple_evaluate

        began, before = time.perf_counter(), self.ledger.flops()
        found = simple_evaluate(self.lm, [self.all[name] for name in part], self.shots, part, chat=False)
        self.seconds.append(time.perf_counter() - began)
        self.flops += self.ledger.flops() - before
        self.rows += rows(found)

    def warm(self, part: Slice) -> None:
        """The first items of a slice, not counted."""
        self.run({name: places[:WARM_UP] for name, places in part.items()})
        self.seconds, self.flops, self.rows = [], 0.0, []

    def scores(self) -> dict[str, float]:
        """Mean of each metric."""
        names = self.rows[0]["metrics"]
        return {name: round(sum(r["metrics"][name] for r in self.rows) / len(self.rows), 6) for name in names}


def slices(sizes: Mapping[str, int], items: int, most: int) -> list[Slice]:
    """Tasks one after the other, in slices of at most ``most`` of one task (0: any), until ``items`` (0: all)."""
    found: list[Slice] = []
    left = items or sum(sizes.values())
    for name, count in sizes.items():
        count = min(count, left)
        step = most or max(count, 1)
        found += [{name: list(range(start, min(start + step, count)))} for start in range(0, count, step)]
        left -= count
    return found


def compare(ours: Side, theirs: Side, asked: Sequence[Slice]) -> dict[str, Any]:
    """Both sides on the same slices, the order alternating."""
    for side in (ours, theirs):
        side.warm(asked[0])
    for i, part in enumerate(asked):
        for side in (ours, theirs) if i % 2 == 0 else (theirs, ours):
            side.run(part)
        print(
            f"{i + 1}/{len(asked)}: {ours.seconds[-1]:.1f} s, {theirs.seconds[-1]:.1f} s", file=sys.stderr, flush=True
        )
    pairs = list(zip(ours.rows, theirs.rows, strict=True))
    gaps = [abs(x[0] - y[0]) for a, b in pairs for x, y in zip(a["resps"], b["resps"], strict=True)]
    seconds = sum(ours.seconds), sum(theirs.seconds)
    ratios = sorted(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))
    return {
        "items": len(pairs),
        "ours": ours.scores(),
        "lm_eval": theirs.scores(),
        "items_that_differ": sum(a["metrics"] != b["metrics"] for a, b in pairs),
        "prompts_that_differ": sum(a["prompt_hash"] != b["prompt_hash"] for a, b in pairs),
        "greatest_gap": float(f"{max(gaps):.3g}"),
        "gaps_above_1e-4": sum(gap > 1e-4 for gap in gaps),
        "log_likelihoods": len(gaps),
        "seconds_ours": round(seconds[0], 2),
        "seconds_lm_eval": round(seconds[1], 2),
        "ratio": round(seconds[1] / seconds[0], 2),
        "ratio_by_slice": [round(r, 2) for r in (ratios[0], median(ratios), ratios[-1])],
        "flops_ratio": round(theirs.flops / ours.flops, 2),
    }


def measure(
    folder: Path, parts: Sequence[str] = tuple(PARTS), limit: int = 0, model: str = "smollm2", batch: int = 1
) -> Iterator[dict[str, Any]]:
    """One row a part, as it ends.

    Args:
        limit: first items only (0: the part's own number). batch: of plain lm-eval.

    Raises:
        UserError: the folder has no questions, or lm-eval is not installed.
    """
    from benchmarks.lmeval import tasks

    tasks.lm_eval_version()
    from lm_eval.models.huggingface import HFLM

    import benchmarks.lmeval
    from benchmarks.lmeval.model import PolicyLM
    from benchmarks.lmeval.run import quiet, seeded

    os.environ["SAIL_BENCH_DATA_DIR"] = str(folder.resolve())
    with tempfile.TemporaryDirectory() as scratch:
        start = build_start(model, Store(Path(scratch)))
        loaded, tokenizer = load_model(start), load_tokenizer(start)
        ledger = Ledger()
        policy = Policy(loaded, tokenizer, "bench", meter=Meter(ledger), cache=None)  # meters the model, for both sides
        for name in parts:
            part = PARTS[name]
            with redirect_stdout(sys.stderr), quiet(), seeded():
                benchmark = getattr(benchmarks.lmeval, part.benchmark)()
                if not benchmark.source.paths():
                    raise UserError(f"{folder} has no {benchmark.source.folder} with questions: name one that has")
                built = {task.config.task: task for task in benchmark.tasks()}
                ours = Side(PolicyLM(policy, BATCH), built, benchmark.shots, ledger)
                plain = HFLM(pretrained=loaded, tokenizer=tokenizer, batch_size=batch)
                theirs = Side(plain, built, benchmark.shots, ledger)
                sizes = {task: len(built[task].eval_docs) for task in built}
                found = compare(ours, theirs, slices(sizes, limit or part.items, part.slice))
            yield {"part": name, "model": model, "shots": benchmark.shots, "lm_eval_batch": batch} | found


@click.command()
@click.argument("folder", metavar="DATA_DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--part", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Again for more; absent: all.")
@click.option("--limit", type=click.IntRange(0), default=0, help="First items only.")
@click.option("--model", default="smollm2")
@click.option("--batch", type=click.IntRange(1), default=1, help="Batch size of plain lm-eval.")
def main(folder: Path, parts: tuple[str, ...], limit: int, model: str, batch: int) -> None:
    """Log-likelihoods and time of both sides, a JSON line a part."""
    try:
        for line in measure(folder, parts or tuple(PARTS), limit, model, batch):
            print(json.dumps(line), flush=True)
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
