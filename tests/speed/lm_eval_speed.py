"""MMLU 5-shot, ARC-Challenge 0-shot and 25-shot through our forwards and through plain lm-eval, side by side.

Run: ``python -m tests.speed.lm_eval_speed DATA_DIR [--part mmlu|arc0|arc25] [--limit N] [--model M] [--batch B]``.
Without a part all three, each printed as it ends. DATA_DIR holds ``mmlu/`` and ``arc_challenge/`` (docs/knowledge.md).
Without a limit: all questions of MMLU and of ARC 0-shot, the first 100 of ARC 25-shot. B: the batch size of plain
lm-eval, which is 1 unless ``--batch`` is given (on a CPU it is slower with more); ours is the recipes' 16.

One JSON line a part: items, scores of both, greatest difference of a log-likelihood, items that differ in a metric or
in their prompt, seconds (building of prompts included), their ratio over all and by slice (least, median, greatest),
and the ratio of floating-point operations, which no busy machine moves. Same model object, tokenizer, tasks, items. The
two sides take turns, slice by slice: a subject of MMLU, 100 items of ARC 0-shot; ARC 25-shot is one slice, since its
examples are drawn item after item from one stream (so these are the prompts of ``lm_eval --limit``).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click

from harness.answer.load import load_model, load_tokenizer
from harness.answer.policy import Policy
from harness.answer.start_policy import build_start
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.store.stages import Store
from tests.speed.measure import timed

BATCH, WARM_UP = 16, 1

Slice = dict[str, list[int]]


@dataclass(frozen=True)
class Part:
    """A benchmark, how many of its items are evaluated (0: all), and how many at once (0: all)."""

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
        from benchmarks.lmeval.run import evaluate_tasks, sample_rows

        before, results = self.ledger.flops(), {}
        tasks = [self.all[name] for name in part]
        seconds = timed(lambda: results.update(evaluate_tasks(self.lm, tasks, self.shots, part, chat=False)))
        self.seconds.append(seconds)
        self.flops += self.ledger.flops() - before
        self.rows += sample_rows(results)

    def warm(self, part: Slice) -> None:
        """The first items of a slice, not counted."""
        self.run({name: places[:WARM_UP] for name, places in part.items()})
        self.seconds, self.flops, self.rows = [], 0.0, []

    def scores(self) -> dict[str, float]:
        """Mean of each metric."""
        names = self.rows[0]["metrics"]
        return {name: round(sum(r["metrics"][name] for r in self.rows) / len(self.rows), 6) for name in names}


def slices(sizes: Mapping[str, int], items: int, most: int) -> list[Slice]:
    """Tasks one after the other, in slices of one task each.

    Args:
        sizes: number of items by task.
        items: after how many to stop; 0 takes all.
        most: items of a slice; 0 for no limit.
    """
    out: list[Slice] = []
    left = items or sum(sizes.values())
    for name, count in sizes.items():
        count = min(count, left)
        step = most or max(count, 1)
        out += [{name: list(range(start, min(start + step, count)))} for start in range(0, count, step)]
        left -= count
    return out


def compare(ours: Side, theirs: Side, parts: Sequence[Slice]) -> dict[str, Any]:
    """Both sides on the same slices, the order alternating.

    Args:
        ours: this project's interface.
        theirs: lm-eval's own.
        parts: the slices.

    Returns:
        the JSON line.
    """
    for side in (ours, theirs):
        side.warm(parts[0])
    for i, part in enumerate(parts):
        for side in (ours, theirs) if i % 2 == 0 else (theirs, ours):
            side.run(part)
        took = f"{ours.seconds[-1]:.1f} s, lm-eval {theirs.seconds[-1]:.1f} s"
        print(f"{i + 1}/{len(parts)}: {took}", file=sys.stderr, flush=True)
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


class Sides(NamedTuple):
    """Both interfaces to one policy, the number of items by task, and of examples."""

    ours: Side
    theirs: Side
    sizes: dict[str, int]
    shots: int


def sides_of(part: Part, policy: Policy, batch: int = 1) -> Sides:
    """Both sides of a part on the data folder; to be called, and run, within ``quiet`` and ``seeded``.

    Args:
        part: the benchmark.
        policy: with a meter, which sees both sides.
        batch: of plain lm-eval.

    Raises:
        UserError: the folder has no questions.
    """
    from lm_eval.models.huggingface import HFLM

    import benchmarks.lmeval
    from benchmarks.lmeval.model import PolicyLM

    benchmark = getattr(benchmarks.lmeval, part.benchmark)()
    if not benchmark.source.paths():
        raise UserError(f"The data folder has no {benchmark.source.folder} with questions: name one that has")
    built = {task.config.task: task for task in benchmark.tasks()}
    plain = HFLM(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=batch)
    ours, theirs = (Side(lm, built, benchmark.shots, policy.meter.ledger) for lm in (PolicyLM(policy, BATCH), plain))
    return Sides(ours, theirs, {name: len(task.eval_docs) for name, task in built.items()}, benchmark.shots)


def side_by_side(part: Part, policy: Policy, limit: int = 0, batch: int = 1) -> dict[str, Any]:
    """A part on the data folder, for a policy whose meter sees both sides.

    Args:
        part: the benchmark.
        policy: with a meter.
        limit: first items only; 0 for the part's own number.
        batch: of plain lm-eval.

    Raises:
        UserError: the folder has no questions.
    """
    from benchmarks.lmeval.run import quiet, seeded

    with redirect_stdout(sys.stderr), quiet(), seeded():
        sides = sides_of(part, policy, batch)
        line = compare(sides.ours, sides.theirs, slices(sides.sizes, limit or part.items, part.slice))
    return {"shots": sides.shots, "lm_eval_batch": batch} | line


@click.command()
@click.argument("folder", metavar="DATA_DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--part", "parts", type=click.Choice(list(PARTS)), multiple=True, help="Again for more; absent: all.")
@click.option("--limit", type=click.IntRange(0), default=0, help="First items only.")
@click.option("--model", default="smollm2")
@click.option("--batch", type=click.IntRange(1), default=1, help="Batch size of plain lm-eval.")
def main(folder: Path, parts: tuple[str, ...], limit: int, model: str, batch: int) -> None:
    """Log-likelihoods and time of both sides, a JSON line a part."""
    from benchmarks.lmeval.tasks import lm_eval_version

    os.environ["SAIL_BENCH_DATA_DIR"] = str(folder.resolve())
    try:
        lm_eval_version()
        with tempfile.TemporaryDirectory() as scratch:
            start = build_start(model, Store(Path(scratch)))
            policy = Policy(load_model(start), load_tokenizer(start), "bench", meter=Meter(Ledger()), cache=None)
            for name in parts or PARTS:
                line = side_by_side(PARTS[name], policy, limit, batch)
                print(json.dumps({"part": name, "model": model} | line), flush=True)
    except UserError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
