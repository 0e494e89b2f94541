"""Names and options of a recipe against what is installed: all that is wrong at once, and what would be of no use.

Nothing is read but the recipe and the plugins; what needs a file, a model or the network is checked later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.benchmark import Benchmark
from harness.budget.spec import named_budgets
from harness.errors import UserError, unknown
from harness.recipe.load import nowhere
from harness.recipe.recipe import Recipe
from harness.recipe.yaml_text import Place
from harness.run.configure import make_benchmark, make_method, make_oracle, own_options
from harness.run.plugins import plugins


class Findings(NamedTuple):
    """Sentences about a recipe: ``faults`` that must be corrected, and ``notes`` on what has no effect as it stands."""

    faults: list[str]
    notes: list[str]


class Wanted(NamedTuple):
    """What a command states in place of the recipe; None where it states nothing."""

    methods: Sequence[str] | None = None
    benchmarks: Sequence[str] | None = None
    budget: str | None = None


Where = Callable[[Place], str]
"""The end of a sentence about a place in a recipe."""


def check_recipe(recipe: Recipe, wanted: Wanted | None = None, where: Where = nowhere) -> Findings:
    """What is wrong with the names and options of a recipe, and what in it has no effect.

    Args:
        recipe: read, and valid by itself.
        wanted: what the command states beside it.
        where: the end of a sentence about a place, as :class:`harness.recipe.load.Reading` has it.
    """
    wanted = wanted or Wanted()
    faults = [*_budget(recipe, wanted), *_rows(recipe, wanted, where), *_oracles(recipe, where)]
    faults += [*_benchmarks(recipe, wanted, where), *_search(recipe, wanted)]
    faults += [*_reference(recipe, wanted, where), *_unused_options(recipe)]
    return Findings(list(dict.fromkeys(faults)), list(_unused_rows(recipe, wanted)))


def _attempt(make: Callable[[], Any], where: str = "") -> Iterator[str]:
    """The sentences of the error that making something raises.

    Args:
        make: makes it.
        where: their end.
    """
    try:
        make()
    except UserError as error:
        yield from (_with_place(sentence, where) for sentence in error.sentences)


def _with_place(sentence: str, where: str) -> str:
    return f"{sentence.removesuffix('.')}{where}" if where else sentence


def _place_of_row(recipe: Recipe, name: str) -> Place:
    """Where a recipe says what a row is; the empty place if it does not name it."""
    if name in recipe.variants:
        return ("variants", name)
    if name in recipe.method_options and name in plugins("methods"):
        return ("method_options", name)
    return ("methods", recipe.methods.index(name)) if name in recipe.methods else ()


def _budget(recipe: Recipe, wanted: Wanted) -> Iterator[str]:
    offered = named_budgets() | recipe.budgets
    if wanted.budget is not None and wanted.budget not in offered:
        yield str(unknown("budget", wanted.budget, offered))


def _rows(recipe: Recipe, wanted: Wanted, where: Where) -> Iterator[str]:
    """Methods, variants and endpoints. A row that the command leaves out may be of a plugin that is not here."""
    for kind, rows in (("variant", recipe.variants), ("endpoint", recipe.endpoints)):
        for name in rows:
            if name in plugins("methods"):
                yield f"The {kind} {name!r} has the name of an installed method: choose another in the recipe"
            if kind == "endpoint" and name in recipe.variants:
                yield f"{name!r} is the name of a variant and of an endpoint: choose another for one of them"
    for name in dict.fromkeys([*(wanted.methods or recipe.methods), *recipe.variants]):
        place = _place_of_row(recipe, name)
        yield from _attempt(lambda name=name: make_method(recipe, name), where(place))  # type: ignore[misc]


def _oracles(recipe: Recipe, where: Where) -> Iterator[str]:
    specs = {"oracle": recipe.oracle, "eval_oracle": recipe.eval_oracle}
    for key, spec in specs.items():
        if spec is not None:
            yield from _attempt(lambda spec=spec: make_oracle(spec), where((key,)))  # type: ignore[misc]


def _benchmarks(recipe: Recipe, wanted: Wanted, where: Where) -> Iterator[str]:
    names = list(dict.fromkeys([*recipe.benchmarks, *(wanted.benchmarks or ())]))
    configured, faults = dict[str, Benchmark](), list[str]()
    for name in names:
        try:
            configured[name] = make_benchmark(recipe, name)
        except UserError as error:
            place: Place = ("benchmarks", name) if name in recipe.benchmarks else ()
            faults += [_with_place(sentence, where(place)) for sentence in error.sentences]
    yield from faults
    judged = [name for name, benchmark in configured.items() if benchmark.judged_by == "endpoint"]
    for name in judged if recipe.judge == "local" else []:
        yield f"The benchmark {name} needs a judge behind an endpoint: set judge: {{model: NAME}}"
    if faults:
        return
    listed = ", ".join(names)
    if recipe.judge != "local" and not judged:
        yield (
            f"judge: {recipe.judge.model} would judge nothing, since none of benchmarks ({listed}) asks a judge behind "
            "an endpoint (mini sets are judged by the start policy): leave judge out, or add an official set such as "
            "mt_bench_official"
        )
    if recipe.eval_oracle is not None and not any("task" in benchmark.needs for benchmark in configured.values()):
        yield (
            f"eval_oracle: {recipe.eval_oracle.name} would rate nothing, since none of benchmarks ({listed}) asks an "
            "oracle: leave it out, or add preference"
        )


def _search(recipe: Recipe, wanted: Wanted) -> Iterator[str]:
    """Grids of the search: of rows that there are, of options that these have."""
    grids, rows = recipe.tune.grids, [*recipe.methods, *(wanted.methods or ())]
    if grids and recipe.tune.trials is None:
        yield "tune.grids has no effect without tune.trials: set tune.trials to the points to try, or leave it out"
    for name, grid in grids.items():
        if name not in rows:
            yield str(unknown("row in tune.grids:", name, rows))
            continue
        fixed = own_options(recipe, name)
        for option, values in grid.items():
            if option in fixed:
                yield f"tune.grids.{name}.{option} has no effect, since the recipe sets {option}: leave one of them out"
            for value in values:
                yield from _attempt(lambda n=name, o={option: value}: make_method(recipe, n, o))  # type: ignore[misc]


def _reference(recipe: Recipe, wanted: Wanted, where: Where) -> Iterator[str]:
    """The row that the others are compared with is among the rows."""
    rows = [*recipe.methods, *(wanted.methods or ())]
    if "reference" not in recipe.model_fields_set or recipe.reference in rows:
        return
    installed = {*plugins("methods"), *recipe.variants, *recipe.endpoints}
    if recipe.reference not in installed:
        yield _with_place(str(unknown("reference", recipe.reference, rows)), where(("reference",)))
    elif not _compares_answers(recipe):
        yield (
            f"reference: {recipe.reference} is not one of methods, so no row would be compared with it: add it to "
            f"methods, or name one of {', '.join(recipe.methods)}"
        )


def _compares_answers(recipe: Recipe) -> bool:
    """Whether a pairwise oracle evaluates: then the reference is trained and answers without being a row."""
    try:
        return make_oracle(recipe.eval_oracle or recipe.oracle).pairwise
    except UserError:
        return False


def _unused_options(recipe: Recipe) -> Iterator[str]:
    """Settings that nothing would read."""
    for name in recipe.method_options:
        if name in recipe.variants:
            yield f"method_options.{name} has no effect on a variant: move its options to variants.{name}.options"
        elif name in recipe.endpoints:
            yield f"method_options.{name} has no effect on an endpoint: set its options in endpoints.{name}"
    if recipe.engine.name == "transformers" and recipe.engine.options:
        yield "engine.options has no effect with transformers: leave it out, or set engine.name to vllm"


def _unused_rows(recipe: Recipe, wanted: Wanted) -> Iterator[str]:
    """Rows that are described and not run, and rows that are named twice."""
    for kind, rows in (("variants", recipe.variants), ("endpoints", recipe.endpoints)):
        unused = [name for name in rows if name not in recipe.methods]
        if unused and wanted.methods is None:
            verb, them = ("are", "them") if len(unused) > 1 else ("is", "it")
            yield (
                f"{', '.join(unused)} of {kind} {verb} not run, since methods does not name {them}: add "
                f"{them} there, or give --methods"
            )
    twice = [name for name, count in Counter(recipe.methods).items() if count > 1]
    if twice:
        yield f"methods names {', '.join(twice)} more than once: once is enough"
