"""The recipe reference: every key of a recipe, from the models that validate it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import yaml
from pydantic import BaseModel

from docsite.meanings import markdown, parts
from docsite.tables import key_table, table
from harness.budget.ledger import AXES
from harness.budget.spec import named_budgets
from harness.recipe.load import builtin_recipes
from harness.recipe.recipe import Recipe
from harness.recipe.train import EXTRA, OPTIMISERS, SCHEDULES

HEAD = """# Recipe reference

A recipe is a YAML file that states one comparison. This page is made from the models that validate it, so it has every
key. An unknown key is an error that names the nearest one. `sail-bench plan RECIPE` checks a recipe and runs nothing.
Older recipes may say `dtype`, which is called `precision` now.

Options of methods (`method_options`, `variants`) are on [Methods](methods.md), options of `benchmarks` on
[Benchmarks](benchmarks.md), and options of `oracle` and `eval_oracle` on [Oracles](oracles.md).
"""


_LISTED = {"OPTIMISERS": "optimisers", "SCHEDULES": "schedules", "EXTRA": "further-training-arguments"}
"""Names that docstrings refer to, by the heading under which this page lists what they hold."""


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every model inside a recipe, by the path of its key, outer ones first; the recipe itself has the path ``""``."""
    waiting: list[tuple[str, type[BaseModel]]] = [("", Recipe)]
    while waiting:
        path, model = waiting.pop(0)
        yield path, model
        for name, info in model.model_fields.items():
            waiting += parts(info.annotation, f"{path}.{name}".lstrip("."))


def recipe_page() -> str:
    """The page as Markdown."""
    every = list(sections())
    text = [HEAD]
    for path, model in every:
        inner = {
            name: "#" + _anchor(next(iter(parts(info.annotation, f"{path}.{name}".lstrip("."))))[0])
            for name, info in model.model_fields.items()
            if any(parts(info.annotation, name))
        }
        title = f"## `{path}` {{ #{_anchor(path)} }}" if path else "## The top level"
        text += [title, _introduction(model), key_table(model, inner)]
    page = "\n\n".join(text)
    for constant, heading in _LISTED.items():
        page = page.replace(f"`{constant}`", f"[these](#{heading})")
    return "\n\n".join([page, *_names()]) + "\n"


def _anchor(path: str) -> str:
    return "key-" + "".join(c if c.isalnum() else "-" for c in path.lower()).strip("-")


def _introduction(model: type[BaseModel]) -> str:
    """The docstring up to its list of attributes."""
    return markdown(inspect.cleandoc(model.__doc__ or "").partition("Attributes:")[0])


def _names() -> list[str]:
    budgets = [(f"`{n}`", f"`{b.axis}`", f"{b.limit:g}", b.summary) for n, b in named_budgets().items()]
    described = {
        name: yaml.safe_load(path.read_text(encoding="utf-8"))["description"]
        for name, path in builtin_recipes().items()
    }
    return [
        "## Named budgets",
        "A recipe may name one of these in `budget:` without defining it.",
        table(("name", "axis", "limit", "summary"), budgets),
        "## Axes of a budget",
        table(("axis", "what counts"), [(f"`{axis}`", what) for axis, what in AXES.items()]),
        "## Built-in recipes",
        table(("name", "description"), [(f"`{name}`", " ".join(text.split())) for name, text in described.items()]),
        "## Optimisers",
        "Names that `train.optim` takes, those of transformers: " + _codes(OPTIMISERS),
        "## Schedules",
        "Names that `train.lr_scheduler` takes: " + _codes(SCHEDULES),
        "## Further training arguments",
        "Keys that `train.extra` takes, those of TRL's `DPOConfig`: " + _codes(EXTRA),
    ]


def _codes(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) + "."
