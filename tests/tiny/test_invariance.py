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


def train_twice(tiny: Path, out: Path, count: int, **changes: Any) -> Run:
    """The same on two processes (gloo)."""
    out.mkdir()
    settings = json.dumps(EPOCHS | changes | {"use_cpu": True, "ddp_backend": "gloo"})
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*launcher, str(ROOT / "tests" / "ddp_worker.py"), str(tiny), str(out), settings, str(count)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "losses.json").read_text()), torch.load(out / "w.pt")


def assert_same(one: Run, two: Run, start: dict[str, torch.Tensor]) -> None:
    """Loss per step to 5e-5, final weights to 1e-4 of how far they moved."""
    assert two[0] == pytest.approx(one[0], rel=0, abs=5e-5)
    moved = sum(float((one[1][n] - start[n]).pow(2).sum()) for n in start) ** 0.5
    apart = sum(float((one[1][n] - two[1][n]).pow(2).sum()) for n in start) ** 0.5
    assert moved > 0
    assert apart < 1e-4 * moved


@pytest.fixture(scope="module")
def start(tiny_dir: Path) -> dict[str, torch.Tensor]:
    from harness.answer.load import load_model

    return {n: p.detach().clone() for n, p in load_model(tiny_dir).named_parameters()}


@pytest.mark.parametrize("count", [16, 19], ids=["divides", "ragged"])
@pytest.mark.parametrize("route", sorted(ROUTES))
def test_layouts(
    route: str,
    count: int,
    tiny_dir: Path,
    load: Callable[[], Any],
    tokenizer: Any,
    tmp_path: Path,
    start: dict[str, torch.Tensor],
) -> None:
    """8x1, 4x2 and 2x4 in one process, 4x1 in two."""

    def layout(size: int, accumulation: int) -> dict[str, Any]:
        return ROUTES[route] | {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}

    first = train_here(load, tokenizer, tmp_path / "8x1", count, **layout(8, 1))
    assert len(first[0]) == 2 * -(-count // 8)
    for size, accumulation in ((4, 2), (2, 4)):
        again = train_here(load, tokenizer, tmp_path / f"{size}", count, **layout(size, accumulation))
        assert_same(first, again, start)
    assert_same(first, train_twice(tiny_dir, tmp_path / "two", count, **layout(4, 1)), start)
