"""A whole comparison that vLLM samples, on a small model; needs vLLM (nox -s vllm), skipped elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kit.command import SMALL, Cli, kill_when, write_tiny
from kit.served_model import VLLM_OPTIONS, save_served_model
from safetensors.torch import load_file

from harness.score.results import read_result

pytest.importorskip("vllm", reason="vLLM is not installed: python -m nox -s vllm")
pytestmark = pytest.mark.slow

METHODS = ("start", "dpo", "sail-pr", "iterative-dpo")


def write_recipe(folder: Path, **changes: Any) -> None:
    engine = {"name": "vllm", "options": VLLM_OPTIONS}
    settings = SMALL | {"model": str(save_served_model(folder / "model")), "engine": engine, "methods": list(METHODS)}
    options = {"method_options": {"sail-pr": {"share": 1.0}}}
    write_tiny(folder / "served.yaml", **settings | options | changes)


def policies(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {
        p.parts[-3]: load_file(p) for p in folder.glob(".sail-bench/stages/train-*/policy/adapter_model.safetensors")
    }


def test_a_comparison_whose_answers_are_all_sampled_by_the_engine(cli_process: Cli, tmp_path: Path) -> None:
    """Pairs, search, rollouts, rounds and evaluation; then the same after kill -9 in the rollouts of SAIL-PR."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        write_recipe(folder)
    done = cli_process("compare", "served.yaml", cwd=whole, timeout=1500)
    assert done.returncode == 0, done.stderr
    results = {m: read_result(whole / f"results/local/served/pairs-16/{m}/seed-0.json") for m in METHODS}
    assert results["sail-pr"].ledger["phases"]["generate"]["generated"] > 0
    assert results["sail-pr"].ledger["phases"]["check"]["forward_flops"] > 0
    log = (whole / ".sail-bench/logs/served-pairs-16-sail-pr-seed-0.log").read_text()
    assert log.count("nats a token off transformers") >= 5  # four steps, and the trained policy

    compare = ["compare", "served.yaml", "--methods", "sail-pr,start"]
    checkpoint = ".sail-bench/work/train-*/checkpoints/checkpoint-*/ledger.json"
    kill_when(cut, compare, lambda: any(cut.glob(checkpoint)), seconds=900)
    done = cli_process(*compare, cwd=cut, timeout=900)
    assert done.returncode == 0, done.stderr
    expected, again = policies(whole), policies(cut)
    assert again.keys() <= expected.keys() and len(again) == 1
    for key, weights in again.items():
        for name, value in weights.items():
            torch.testing.assert_close(value, expected[key][name], rtol=0, atol=1e-5)
    resumed = read_result(cut / "results/local/served/pairs-16/sail-pr/seed-0.json")
    for name in ("gold_reward", "kl"):
        values = [r.benchmark("preference").metric(name).value for r in (resumed, results["sail-pr"])]  # type: ignore[union-attr]
        assert values[0] == pytest.approx(values[1], abs=1e-4), name
