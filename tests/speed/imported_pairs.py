"""CPU time and peak memory of planning on generated pairs, and of a run process on them.

    python -m tests.speed.imported_pairs 2000 20000

Pairs have UltraFeedback's schema and answers of 100 to 400 words. In the run process the forward passes for the
reference log-probabilities are left out: on the tiny model they would take minutes and no memory.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECIPE = """
name: speed
model: tiny
data: {task: preferences, train: train.jsonl, test: test.jsonl, tune_prompts: 16, eval_prompts: 32,
       heldout_prompts: 32, too_long: cut}
budgets: {few: {axis: pairs, limit: 32}}
budget: few
train: {batch_size: 4, lora: {r: 4, alpha: 8}}
tune: {learning_rates: [1.0e-3]}
methods: [start, dpo]
benchmarks: {mmlu: {}}
"""


def text(draw: random.Random, least: int, most: int) -> str:
    return " ".join(f"w{draw.randrange(50_000)}" for _ in range(draw.randint(least, most)))


def ultrafeedback_row(draw: random.Random, number: int) -> dict[str, Any]:
    prompt = text(draw, 5, 10)
    sides = {
        side: [{"role": "user", "content": prompt}, {"role": "assistant", "content": text(draw, 100, 400)}]
        for side in ("chosen", "rejected")
    }
    scores = {"score_chosen": draw.uniform(5, 10), "score_rejected": draw.uniform(1, 5)}
    return {"prompt": prompt, "prompt_id": str(number), **sides, "messages": sides["chosen"], **scores}


def write_rows(folder: Path, rows: int) -> None:
    draw = random.Random(0)
    for name, count in (("train", rows), ("test", 1000)):
        with (folder / f"{name}.jsonl").open("w") as handle:
            handle.writelines(json.dumps(ultrafeedback_row(draw, number)) + "\n" for number in range(count))
    (folder / "speed.yaml").write_text(RECIPE)


def used() -> str:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return f"{spent.ru_utime + spent.ru_stime:5.1f} s of CPU, peak {spent.ru_maxrss / 1024:5.0f} MiB"


def plan() -> None:
    from harness.recipe.load import load_recipe
    from harness.run.plan import make_runs
    from harness.store.stages import Store

    recipe = load_recipe("speed.yaml")
    make_runs(recipe, recipe.budget, recipe.methods, 1, list(recipe.benchmarks), Store(Path("store")))


def run() -> None:
    import harness.run.preload  # noqa: F401
    from harness.answer.policy import Policy
    from harness.recipe.load import load_recipe
    from harness.run.plan import make_run
    from harness.run.run import Run
    from harness.store.stages import Store

    print(f"  run process, imports        {used()}", flush=True)
    Policy.token_logps = lambda self, rows, *sizes: [[-1.0] * len(answer) for _, answer in rows]  # type: ignore[method-assign]
    recipe = load_recipe("speed.yaml")
    Run(make_run(recipe, recipe.budget, "dpo", 0, [], Store(Path("store"))), lambda kind, value: None).work()
    print(f"  run process, pairs and DPO  {used()}", flush=True)


def main() -> None:
    if sys.argv[1] in ("first", "again"):
        plan()
        print(f"  planning, {sys.argv[1]:<18}{used()}", flush=True)
    elif sys.argv[1] == "run":
        run()
    else:
        for rows in map(int, sys.argv[1:]):
            print(f"{rows} rows", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                write_rows(Path(folder), rows)
                for part in ("first", "again", "run"):
                    command = [sys.executable, str(Path(__file__).resolve()), part]
                    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
