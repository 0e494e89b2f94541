"""The foot of a page names the recipe that made it: a built-in one, or a file of the same name."""

from __future__ import annotations

from pathlib import Path

from kit.results import run_result

from harness.recipe.load import builtin_recipes, load_recipe
from harness.report.recipe_file import made_by


def test_the_command_names_the_recipe_that_the_results_are_of(tmp_path: Path) -> None:
    folder, own = tmp_path / "results" / "tiny" / "b", tmp_path / "results" / "tiny.yaml"
    folder.mkdir(parents=True)
    recipe = load_recipe("tiny")
    run = run_result("dpo", [], recipe="tiny", description=recipe.description)
    budget = f"--budget {run.budget['name']}"
    nameless = f"`sail-bench compare FILE {budget}`, where FILE is that of the recipe `tiny`"
    assert made_by([run], folder) == made_by([run], None) == f"`sail-bench compare tiny {budget}`"
    for other in (
        run.model_copy(update={"description": "other"}),
        run.model_copy(update={"method": "no-method"}),
        run.model_copy(update={"seed": recipe.seeds}),
    ):
        assert made_by([run, other], folder) == nameless or other.description == "other"
    mine = run.model_copy(update={"description": "Mine."})
    assert made_by([mine], folder) == nameless
    text = builtin_recipes()["tiny"].read_text(encoding="utf-8")
    own.write_text(text[: text.index("description:")] + "description: Mine.\nmethods: [start, dpo]\n")
    assert made_by([mine], folder) == f"`sail-bench compare results/tiny.yaml {budget}`"
    assert made_by([run], folder) == f"`sail-bench compare tiny {budget}`", "one of the same name stays built in"
    own.write_text("name: [\n")
    assert made_by([mine], folder) == nameless, "a file that cannot be read is no reason to fail"
