"""Names and options of a recipe against what is installed: all that is wrong, and what has no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from kit.command import tiny_recipe

from harness.errors import UserError
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe
from harness.recipe.search import points
from harness.run.recipe_check import Findings, Wanted, check_recipe

RECIPES = [*builtin_recipes(), *map(str, sorted([*ROOT.glob("examples/*.yaml"), *ROOT.glob("results/**/*.yaml")]))]


def findings(wanted: Wanted | None = None, **changes: Any) -> Findings:
    return check_recipe(Recipe.model_validate(tiny_recipe(**changes)), wanted)


@pytest.mark.parametrize("name", RECIPES, ids=lambda name: Path(name).stem)
def test_our_own_recipes_have_nothing_to_note(name: str) -> None:
    assert check_recipe(load_recipe(name)) == ([], [])


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"judge": {"model": "gpt-4"}}, "judge: gpt-4 would judge nothing, since none of benchmarks (preference,"),
        (
            {"benchmarks": {"mmlu": {}}, "eval_oracle": {"name": "llm_judge", "options": {"model": "m"}}},
            "eval_oracle: llm_judge would rate nothing, since none of benchmarks (mmlu) asks an oracle",
        ),
        ({"benchmarks": {"mt_bench_official": {}}}, "The benchmark mt_bench_official needs a judge behind an endpoint"),
        ({"reference": "strongg"}, "Unknown reference 'strongg'"),
        ({"reference": "simpo"}, "reference: simpo is not one of methods"),
        ({"methods": ["dppo"]}, "Unknown method 'dppo': did you mean 'dpo'?"),
        ({"variants": {"v": {"method": "dpp"}}}, "Unknown method 'dpp'"),
        ({"oracle": "constrants"}, "Unknown oracle 'constrants': did you mean 'constraints'?"),
        ({"oracle": "reward_model"}, "Option 'model' of oracle reward_model: it is missing: add it"),
        ({"benchmarks": {"preferense": {}}}, "Unknown benchmark 'preferense': did you mean 'preference'?"),
        (
            {"benchmarks": {"mmlu": {"limt": 1}}},
            "Option 'limt' of benchmark mmlu: there is no such option: did",
        ),
        ({"benchmarks": {"mmlu": {"limit": True}}}, "Option 'limit' of benchmark mmlu: YAML reads this as true"),
        ({"method_options": {"sail-pr": {"share": 2}}}, "Option 'share' of method sail-pr: 2 is out of range"),
        ({"engine": {"options": {"dtype": "half"}}}, "engine.options has no effect with transformers"),
        (
            {"tune": {"learning_rates": [1e-3], "grids": {"sail-pr": {"share": [0.2]}}}},
            "tune.grids has no effect without tune.trials",
        ),
        (
            {"tune": {"learning_rates": [1e-3], "trials": 1, "grids": {"sail-pq": {"share": [0.2]}}}},
            "Unknown row in tune.grids: 'sail-pq': did you mean 'sail-p",
        ),
        (
            {"tune": {"learning_rates": [1e-3], "trials": 1, "grids": {"sail-pr": {"shar": [0.2]}}}},
            "Option 'shar' of method sail-pr",
        ),
        (
            {
                "tune": {"learning_rates": [1e-3], "trials": 1, "grids": {"sail-pr": {"share": [0.2]}}},
                "method_options": {"sail-pr": {"share": 0.1}},
            },
            "tune.grids.sail-pr.share has no effect, since the recipe sets share",
        ),
        (
            {"variants": {"v": {"method": "dpo"}}, "methods": ["v"], "method_options": {"v": {"beta": 1}}},
            "method_options.v has no effect on a variant: move its options to variants.v.options",
        ),
        (
            {"endpoints": {"e": {"model": "m"}}, "methods": ["e"], "method_options": {"e": {"beta": 1}}},
            "method_options.e has no effect on an endpoint",
        ),
        ({"endpoints": {"dpo": {"model": "m"}}}, "The endpoint 'dpo' has the name of an installed method"),
    ],
)
def test_what_nothing_would_use_is_refused(changes: dict[str, Any], start: str) -> None:
    checked = findings(**changes)
    assert len(checked.faults) == 1, checked.faults
    assert checked.faults[0].startswith(start)


def test_all_names_that_are_wrong_are_named() -> None:
    checked = findings(
        Wanted(["dppo", "sail-p"], ["mtbench"], "pairs-17"), benchmarks={"mmlu": {"limt": 1}, "arc": {}}, oracle="x"
    )
    words = ("'dppo'", "'sail-p'", "'mtbench'", "'pairs-17'", "'limt'", "'arc'", "Unknown oracle 'x'")
    assert len(checked.faults) == len(words)
    for word in words:
        assert sum(word in fault for fault in checked.faults) == 1, word


def test_rows_that_are_not_run_are_noted() -> None:
    variants = {"v": {"method": "dpo"}, "w": {"method": "ipo"}}
    checked = findings(variants=variants)
    assert checked.faults == []
    assert checked.notes == [
        "v, w of variants are not run, since methods does not name them: add them there, or give --methods"
    ]
    assert findings(Wanted(["v"]), variants=variants).notes == []
    assert findings(methods=["dpo", "dpo"]).notes == ["methods names dpo more than once: once is enough"]


def test_a_judge_that_a_flag_needs_is_used() -> None:
    """Also a reference that a flag adds, and one that a pairwise oracle has trained for itself."""
    assert findings(Wanted(benchmarks=["mt_bench_official"]), judge={"model": "m"}).faults == []
    assert findings(Wanted(methods=["simpo"]), reference="simpo").faults == []
    judge = {"name": "llm_judge", "options": {"model": "m"}}
    assert findings(eval_oracle=judge, reference="simpo").faults == []


def test_a_search_of_too_many_points_is_refused_at_once() -> None:
    grid = {f"option{i}": list(range(10)) for i in range(12)}
    recipe = Recipe.model_validate(tiny_recipe(tune={"learning_rates": [1e-3], "trials": 2}))
    with pytest.raises(UserError, match="1,000,000,000,000 points for dpo, 1,000 at most"):
        points(recipe.tune, "dpo", grid, {})
    assert len(points(recipe.tune, "dpo", {"a": list(range(1000))}, {})) == 2
