"""Runs side by side that each start vLLM, and the memory of the GPUs that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.command import Cli, tiny_recipe

from harness.budget.machines import machine_named
from harness.recipe.recipe import Recipe
from harness.run.outline import crowded_engines

SHARE = "engine.options.gpu_memory_utilization"
REFUSED = "--workers 3 puts 3 runs on one GPU, and each takes 40% of its memory for vLLM"


@pytest.mark.parametrize(
    ("options", "gpus", "workers", "fix"),
    [
        ({}, 1, 1, ""),
        ({}, 1, 2, ""),
        ({}, 1, 3, f"give --workers 2, or set {SHARE} to 0.3 or less"),
        ({}, 4, 8, ""),
        ({}, 4, 9, f"give --workers 8, or set {SHARE} to 0.3 or less"),
        ({"gpu_memory_utilization": 0.5}, 2, 3, f"give --workers 2, or set {SHARE} to 0.46 or less"),
        ({"gpu_memory_utilization": 0.95}, 1, 1, ""),
    ],
)
def test_shares_on_one_gpu(options: dict[str, Any], gpus: int, workers: int, fix: str) -> None:
    """vLLM takes 0.4 of a GPU unless the recipe says otherwise, and 8% of one are nobody's."""
    recipe = Recipe.model_validate(tiny_recipe() | {"engine": {"name": "vllm", "options": options}})
    problem = crowded_engines(recipe, machine_named(f"h100x{gpus}", 2), workers)
    assert (problem.fix if problem else "") == fix
    assert crowded_engines(recipe, machine_named("cpu", 2), workers) is None
    assert crowded_engines(Recipe.model_validate(tiny_recipe()), machine_named(f"h100x{gpus}", 2), workers) is None


def test_plan_and_compare_refuse_them(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare` on a machine that says it has a GPU; nothing is written."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe() | {"engine": "vllm"}))
    shown = cli("plan", path, "--machine", "h100", "--workers", "3", cwd=tmp_path)
    assert shown.returncode == 2 and REFUSED in shown.stderr
    monkeypatch.setattr("harness.run.target.target_machine", lambda name: machine_named("h100", 2))
    shown = cli("compare", path, "--workers", "3", "--no-preflight", cwd=tmp_path)
    assert shown.returncode == 2 and REFUSED in shown.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["mine.yaml"]
