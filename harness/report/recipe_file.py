"""Which recipe made a page's results: a built-in one, or a file beside the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.report.markdown import code
from harness.score.results import RunResult

RESULTS = "results"
BUILT_IN = Path(__file__).parents[1] / "recipe" / "builtin"


def made_by(results: Sequence[RunResult], folder: Path | None) -> str:
    """The command that makes the results of a page, in Markdown.

    Args:
        results: all of them, at least one.
        folder: where they lie, ``<results>/<recipe>/<budget>``; None if they lie nowhere.
    """
    run = results[0]
    budget = f"--budget {run.budget['name']}"
    if any(path.stem == run.recipe and _fits(path, results) for path in BUILT_IN.glob("*.yaml")):
        return f"`sail-bench compare {run.recipe} {budget}`"
    for file in [] if folder is None else _files(folder.resolve()):
        if _fits(file, results):
            return f"`sail-bench compare {_shown(file)} {budget}`"
    return f"`sail-bench compare FILE {budget}`, where FILE is that of the recipe {code(run.recipe)}"


def _files(folder: Path) -> list[Path]:
    """Recipe files beside the results of a recipe, or among them."""
    recipe = folder.parent
    return [path for path in (recipe.with_name(f"{recipe.name}.yaml"), recipe / "recipe.yaml") if path.is_file()]


def _fits(file: Path, results: Sequence[RunResult]) -> bool:
    """Whether a recipe has the description of some results, and every method and seed that they have."""
    try:
        recipe: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    if not isinstance(recipe, dict) or recipe.get("description", "") != results[0].description:
        return False
    methods, seeds = recipe.get("methods"), recipe.get("seeds", 1)
    has_methods = isinstance(methods, list) and all(run.method in methods for run in results)
    return has_methods and isinstance(seeds, int) and all(run.seed < seeds for run in results)


def _shown(file: Path) -> str:
    """A path from the folder in which ``results`` is, the same on every machine; the name where there is none."""
    parts = file.parts
    if RESULTS not in parts[:-1]:
        return file.name
    return "/".join(parts[len(parts) - 1 - parts[::-1].index(RESULTS) :])
