"""``plan`` and the warning of ``compare`` where ``model:`` is an adapter: its base decides."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from harness.budget.memory import PRECISIONS
from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.recipe.recipe import Recipe
from harness.run.fitting import model_size
from harness.run.plan import make_runs
from harness.run.spending import KNOWN_CONFIGS, local_config
from harness.run.target import ThisMachine, model_config
from harness.store.settings import Settings, using
from harness.store.stages import Store

HUGE = {
    "model_type": "llama",
    "hidden_size": 2**16,
    "intermediate_size": 2**18,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 128256,
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def adapter(folder: Path, base: str) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    return folder


def recipe_of(model: Path | str) -> Recipe:
    return Recipe.model_validate(load_recipe("tiny").model_dump(mode="json") | {"model": str(model)})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/config.json").write_text(json.dumps(HUGE))
    return tmp_path / "base"


def test_the_configuration_of_an_adapter_is_that_of_its_base(tmp_path: Path, base: Path) -> None:
    one = adapter(tmp_path / "one", str(base))
    assert model_config(recipe_of(one), None).config == HUGE
    assert model_config(recipe_of(adapter(tmp_path / "two", str(one))), None).config == HUGE
    published = "Qwen/Qwen1.5-0.5B-Chat"
    assert local_config(str(adapter(tmp_path / "hub", published)), None) == KNOWN_CONFIGS[published]


def test_weights_beside_an_adapter_are_its_base(tmp_path: Path, base: Path) -> None:
    both = adapter(tmp_path / "both", str(base))
    (both / "config.json").write_text(json.dumps(HUGE | {"num_hidden_layers": 1}))
    (both / "model.safetensors").touch()
    assert local_config(str(both), None) == HUGE | {"num_hidden_layers": 1}


def test_a_finished_start_policy_needs_no_base(tmp_path: Path, base: Path) -> None:
    orphan = adapter(tmp_path / "orphan", str(tmp_path / "absent"))
    assert local_config(str(orphan), base) == HUGE
    with pytest.raises(UserError, match="does not exist: correct base_model_name_or_path"):
        local_config(str(orphan), None)


def test_the_base_of_an_adapter_is_warned_of(tmp_path: Path, base: Path) -> None:
    size = model_size(HUGE, None)
    assert size is not None and size.parameters * PRECISIONS["float32"].weight > 2**40
    with using(Settings()):
        recipe = recipe_of(adapter(tmp_path / "one", str(base)))
        runs = make_runs(recipe, recipe.budget, ["dpo"], 1, list(recipe.benchmarks), Store(tmp_path / "store"))
        warning = ThisMachine(runs).warning(1)
    assert warning is not None and "take a larger device" in warning


@pytest.mark.parametrize("model", ["org/absent", "org/absent@main", "./absent"])
def test_an_absent_model_is_a_reason(model: str, tmp_path: Path) -> None:
    read = model_config(recipe_of(model), None)
    assert read.config is None and "cannot be read from the Hub" in read.reason


def test_an_adapter_of_the_hub_has_the_configuration_of_its_base(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both in the Hub's cache, which another process reads: the libraries look for it once."""
    files = {"adapter": adapter(tmp_path / "a", "org/base") / "adapter_config.json", "base": base / "config.json"}
    for name, file in files.items():
        cached = tmp_path / f"hub/models--org--{name}"
        (cached / "snapshots/1").mkdir(parents=True)
        (cached / "snapshots/1" / file.name).write_bytes(file.read_bytes())
        (cached / "refs").mkdir()
        (cached / "refs/main").write_text("1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    code = (
        "import json; from harness.recipe.load import load_recipe; from harness.run.target import model_config; "
        "recipe = load_recipe('tiny').model_copy(update={'model': 'org/adapter'}); "
        "print(json.dumps(model_config(recipe, None).config))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(shown.stdout) == HUGE
