"""Batch size x accumulation and the number of processes do not change what is learned (constant learning rate).

Plain SGD without clipping: it hides no factor in the gradient's scale, as AdamW does, and does not blow rounding up
where a gradient is near zero, as AdamW's first steps do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from kit.training import longest, rows, sail_trainer

ROUTES: dict[str, dict[str, Any]] = {
    "dpo": {},
    "pr": {"pr_share": 0.5},
    "pp": {"pp_share": 0.5},
    "dp": {"dp_share": 0.5},
}
COUNTS = {"divides": 16, "ragged": 19}
EPOCHS = {
    "num_train_epochs": 2,
    "max_steps": -1,
    "max_new_tokens": 5,
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "learning_rate": 2e-3,
}

pytestmark = pytest.mark.slow

Run = tuple[list[float], dict[str, torch.Tensor]]


def train_here(load: Callable[[], Any], tokenizer: Any, out: Path, count: int, **changes: Any) -> Run:
    """Losses a step and final weights of a run in this process."""
    trainer = sail_trainer(out, load, tokenizer, rows(count), preference=longest, **(EPOCHS | changes))
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, {n: p.detach() for n, p in trainer.model.named_parameters()}


def train_in_two_processes(tiny: Path, out: Path, runs: dict[str, tuple[int, dict[str, Any]]]) -> dict[str, Run]:
    """The same on two processes (gloo), all runs in one launch; ``runs``: number of pairs and settings of each."""
    both = EPOCHS | {"use_cpu": True, "ddp_backend": "gloo"}
    plan = [
        {"out": str(out / name), "count": count, "settings": both | changes} for name, (count, changes) in runs.items()
    ]
    for name in runs:
        (out / name).mkdir()
    (out / "runs.json").write_text(json.dumps(plan))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*launcher, str(ROOT / "tests" / "kit" / "ddp_worker.py"), str(tiny), str(out / "runs.json")],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        name: (json.loads((out / name / "losses.json").read_text()), torch.load(out / name / "w.pt")) for name in runs
    }


def assert_same(one: Run, two: Run, start: dict[str, torch.Tensor], case: str) -> None:
    """Loss per step to 5e-5, final weights to 1e-4 of how far they moved."""
    assert two[0] == pytest.approx(one[0], rel=0, abs=5e-5), case
    moved = sum(float((one[1][n] - start[n]).pow(2).sum()) for n in start) ** 0.5
    apart = sum(float((one[1][n] - two[1][n]).pow(2).sum()) for n in start) ** 0.5
    assert moved > 0, case
    assert apart < 1e-4 * moved, case


@pytest.fixture(scope="session")
def start(tiny_dir: Path) -> dict[str, torch.Tensor]:
    from harness.answer.load import load_model

    return {n: p.detach().clone() for n, p in load_model(tiny_dir).named_parameters()}


def layout(route: str, size: int, accumulation: int) -> dict[str, Any]:
    return ROUTES[route] | {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("route", sorted(ROUTES))
def test_batch_size_and_accumulation(
    route: str, count: int, load: Callable[[], Any], tokenizer: Any, tmp_path: Path, start: dict[str, torch.Tensor]
) -> None:
    """8x1, 4x2 and 2x4."""
    first = train_here(load, tokenizer, tmp_path / "8x1", count, **layout(route, 8, 1))
    assert len(first[0]) == 2 * -(-count // 8)
    for size, accumulation in ((4, 2), (2, 4)):
        again = train_here(load, tokenizer, tmp_path / f"{size}", count, **layout(route, size, accumulation))
        assert_same(first, again, start, f"{size}x{accumulation}")


def test_two_processes_learn_what_one_does(
    tiny_dir: Path, load: Callable[[], Any], tokenizer: Any, tmp_path: Path, start: dict[str, torch.Tensor]
) -> None:
    """4x1 in each of two processes against 8x1 in one, on every route, whether the pairs divide or not."""
    cases = {f"{route}-{name}": (route, count) for route in sorted(ROUTES) for name, count in COUNTS.items()}
    runs = {name: (count, layout(route, 4, 1)) for name, (route, count) in cases.items()}
    both = train_in_two_processes(tiny_dir, tmp_path, runs)
    for name, (route, count) in cases.items():
        alone = train_here(load, tokenizer, tmp_path / f"one-{name}", count, **layout(route, 8, 1))
        assert_same(alone, both[name], start, name)
