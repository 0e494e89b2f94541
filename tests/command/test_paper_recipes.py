"""The paper-scale recipes: what they say, and each executed line by line on a random model of its architecture."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kit.command import Cli
from kit.judge_server import Behaviour, Server
from kit.paper_recipes import (
    ARCHITECTURES,
    LOCAL,
    changed_keys,
    flat,
    judge,
    published,
    shrunk,
    write_model,
    write_official,
    write_pairs,
)

from harness.recipe.load import builtin_recipes, load_recipe
from harness.score.results import read_result

PAPER = sorted(ARCHITECTURES)


def test_they_state_the_published_settings() -> None:
    """Those of the official code (arXiv 2406.15567): one record for all models."""
    assert {name for name in builtin_recipes() if name not in ("tiny", "smollm2")} == {
        *PAPER,
        *(name + LOCAL for name in PAPER),
    }
    for name in PAPER:
        recipe = load_recipe(name)
        train, options = recipe.train, recipe.method_options
        assert train.batch_size * train.gradient_accumulation == 32 and train.beta == 0.1
        assert (train.optim, train.lr_scheduler, train.warmup) == ("rmsprop", "linear", 150)
        assert train.lora is not None and (train.lora.r, train.lora.alpha, train.lora.layers) == (64, 16, 0)
        assert recipe.tune.learning_rates == [1e-5] and recipe.precision == "bf16"
        assert (train.max_length, recipe.data.max_new_tokens) == (2048, 1024)
        assert recipe.data.imported and recipe.data.max_prompt_length == 1024
        assert {k: (v["share"], v["coefficient"]) for k, v in options.items()} == {
            "sail-dp": (0.4, 0.2),
            "sail-pp": (0.3, 0.2),
            "sail-pr": (0.3, 0.3),
        }
        budget = recipe.budgets[recipe.budget]
        assert (budget.axis, budget.limit) == (
            "steps",
            {"one-pass": 1907, "five-passes": 5 * 8000 // 32}[recipe.budget],
        )


@pytest.mark.parametrize("name", PAPER)
def test_the_local_judge_is_all_that_differs(name: str) -> None:
    one, other = flat(published(name)), flat(published(name + LOCAL))
    differing = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    assert differing == {
        "name",
        "description",
        *(f"judge.{key}" for key in ("model", "base_url", "timeout", "price_in", "price_out")),
    }


@pytest.mark.parametrize("name", PAPER)
def test_the_plan_needs_neither_network_nor_weights(name: str, cli: Cli, tmp_path: Path) -> None:
    began = time.process_time()
    shown = cli("plan", name, "--machine", "h100x1", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for line in (
        r"hours +\d",
        r"memory +\d.* GiB",
        r"disk +\d.* GB",
        r"judge calls +9,825",
        r"money +USD \d",
        "Assumed: ",
    ):
        assert re.search(line, shown.stdout), line
    assert time.process_time() - began < 5


def run_shrunk(name: str, folder: Path, server: Server, cli: Cli, *arguments: str) -> Path:
    """Execute a recipe on a random model of its architecture; returns the folder of its results."""
    reward = str(write_model(folder / "reward", "LlamaForSequenceClassification"))
    addresses = write_pairs(folder, name) | {
        "model": str(write_model(folder / "model", ARCHITECTURES[name.removesuffix(LOCAL)])),
        "judge.base_url": f"http://127.0.0.1:{server.server_port}/v1",
        "oracle.options.model": reward,
        "eval_oracle.options.model": reward,
    }
    recipe = shrunk(name, addresses)
    changed_keys(name, recipe)
    (folder / "shrunk.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    official = write_official(folder / "official")
    done = cli("compare", "shrunk.yaml", "--data-dir", official, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "results" / "local" / name / recipe["budget"]


def check_results(folder: Path, methods: list[str], benchmarks: list[str]) -> None:
    for method in methods:
        result = read_result(folder / method / "seed-0.json")
        assert result.status == "ok", result.error
        assert [b.benchmark for b in result.benchmarks] == benchmarks
        assert all(b.metrics for b in result.benchmarks)
        if method != "start":
            assert result.ledger["phases"]["train"]["steps"] == 3
            assert result.ledger["phases"]["train"]["pairs"] == 12


def test_a_shrunk_recipe_runs(tmp_path: Path, serve: Callable[[Behaviour], Server], cli: Cli) -> None:
    """One method of the smallest, without the sets of lm-eval; all of them run at night."""
    name, benchmarks = PAPER[1], ["preference", "mt_bench_official", "alpaca_eval_2", "arena_hard_v0.1"]
    results = run_shrunk(name, tmp_path, serve(judge), cli, "--methods", "dpo", "--benchmarks", ",".join(benchmarks))
    check_results(results, ["dpo"], benchmarks)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*PAPER, *(name + LOCAL for name in PAPER)])
def test_every_shrunk_recipe_runs(name: str, tmp_path: Path, serve: Callable[[Behaviour], Server], cli: Cli) -> None:
    pytest.importorskip("lm_eval")
    results = run_shrunk(name, tmp_path, serve(judge), cli)
    check_results(results, published(name)["methods"], list(published(name)["benchmarks"]))
    assert (results / "LEADERBOARD.md").is_file()


def test_more_than_a_size_is_seen() -> None:
    """The check of the shrunk recipes itself."""
    recipe = shrunk(PAPER[0], {})
    assert "train.beta" not in changed_keys(PAPER[0], recipe)
    for key, value in (("train.beta", 0.2), ("methods", ["dpo"]), ("train.optim", "adamw_torch")):
        changed = shrunk(PAPER[0], {key: value})
        with pytest.raises(AssertionError, match=f"{key} is no size"):
            changed_keys(PAPER[0], changed)
    with pytest.raises(AssertionError, match="has grown"):
        changed_keys(PAPER[0], shrunk(PAPER[0], {"train.max_length": 4096}))
