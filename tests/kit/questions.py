"""Question files of our own for the tasks of lm-eval, and what their tests ask with."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from benchmarks.lmeval import AnyTask, LMEval
from harness.answer.policy import Policy
from harness.benchmark import EvalContext
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.judge.local import LocalJudge
from harness.oracles.constraints import ConstraintOracle
from harness.oracles.metered import MeteredOracle
from harness.store.row_cache import RowCache

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
SUBJECTS = ("anatomy", "virology", "world_religions")


class Writer:
    """Text of random words, by a seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)

    def __call__(self, low: int, high: int) -> str:
        return " ".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(low, high)))


def policy(model: Any, tokenizer: Any, cache: RowCache | None = None) -> Policy:
    return Policy(model, tokenizer, "p", meter=Meter(Ledger()), cache=cache)


def context(policy: Policy) -> EvalContext:
    return EvalContext(policy, policy, LocalJudge(policy), MeteredOracle(ConstraintOracle(), Ledger()), [], [], 5)


def write_data(folder: Path) -> Path:
    say = Writer()

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")

    def mmlu(subject: str, count: int) -> list[dict[str, Any]]:
        return [
            {
                "subject": subject,
                "question": f" {say(2, 9)}?\u2028",
                "choices": [say(1, 3) for _ in "ABCD"],
                "answer": i % 4,
            }
            for i in range(count)
        ]

    def arc(count: int) -> list[dict[str, Any]]:
        rows = []
        for i in range(count):
            choices = [say(1, 4) for _ in range(3 + i % 3)]
            rows.append({"id": None, "question": say(3, 9), "choices": choices, "answer": i % 3})
        return rows

    write("mmlu/test.jsonl", [r for i, s in enumerate(SUBJECTS) for r in mmlu(s, 4 + 3 * i)])
    write("mmlu/dev.jsonl", [r for s in SUBJECTS for r in mmlu(s, 5)])
    write("arc_challenge/train.jsonl", arc(30))
    write("arc_challenge/test.jsonl", arc(4))
    return folder


def write_splits(folder: Path, task: str, splits: dict[str, list[dict[str, Any]]]) -> None:
    for split, rows in splits.items():
        path = folder / "lm_eval" / task / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def any_task(name: str, **options: Any) -> LMEval:
    kind = AnyTask.member(name)
    return kind(kind.Options.model_validate(options))  # type: ignore[return-value]
