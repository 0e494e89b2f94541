"""Pages of the Python interface. mkdocstrings fills them from the docstrings, without importing anything."""

from __future__ import annotations

from collections.abc import Mapping

PAGES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "sail": (
        "SAIL as a library",
        "What a TRL user imports. How to use it: [SAIL](../../sail.md).",
        ("sail.config.SAILConfig", "sail.trainer.SAILTrainer", "sail.labels.TextPreference", "sail.losses"),
    ),
    "methods": (
        "Writing a method",
        "What a method imports. The tutorial: [Add a method](../../add-a-method.md).",
        ("harness.methods.base", "harness.train.context.TrainContext", "harness.budget.forecast.Spending"),
    ),
    "oracles": (
        "Writing an oracle",
        "What an oracle imports. The tutorial: [Add an oracle](../../add-an-oracle.md).",
        ("harness.oracles.base",),
    ),
    "benchmarks": (
        "Writing a benchmark",
        "What a benchmark imports. The tutorial: [Add a benchmark](../../add-a-benchmark.md).",
        ("harness.benchmark", "harness.score.metrics", "harness.score.validity", "benchmarks.shared.asking"),
    ),
    "results": (
        "Reading results",
        "Result files as Python objects, and the statistics on them.",
        ("harness.score.results", "harness.score.bootstrap", "harness.score.pooled", "harness.score.seed_lottery"),
    ),
    "recipes": (
        "Recipes and errors",
        "Reading a recipe from Python. Its keys: [Recipe reference](../recipe.md).",
        ("harness.recipe.load", "harness.recipe.search", "harness.errors"),
    ),
}
"""Title, introduction and documented objects by the name of the page."""


def api_pages() -> dict[str, str]:
    """Every page as Markdown, by name."""
    return {
        name: f"# {title}\n\n{introduction}\n\n" + "\n\n".join(f"::: {item}" for item in objects) + "\n"
        for name, (title, introduction, objects) in PAGES.items()
    }
