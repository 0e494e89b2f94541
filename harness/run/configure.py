"""Methods, benchmarks and oracles as a recipe configures them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.benchmark import Benchmark
from harness.errors import errors_of, unknown
from harness.methods.base import Method
from harness.methods.endpoint import EndpointConfig, Remote
from harness.oracles.base import Oracle
from harness.recipe.recipe import OracleSpec, Recipe
from harness.run.plugin_check import answer_of, checked_benchmark, checked_method
from harness.run.plugins import OF_PLUGIN, load, plugins


def own_options(recipe: Recipe, name: str) -> dict[str, Any]:
    """The options that a recipe sets for a method or variant."""
    variant = recipe.variants.get(name)
    return recipe.method_options.get(name, {}) if variant is None else variant.options


def make_method(recipe: Recipe, name: str, trial_options: Mapping[str, Any] | None = None) -> Method:
    """A method of a recipe, configured.

    Args:
        recipe: holds the options of methods, variants and endpoints.
        name: of an installed method, of a variant, or of an endpoint.
        trial_options: options of a trial of the search; they go before the recipe's.

    Raises:
        UserError: no such method or variant, or an option that it does not have.
    """
    if name in recipe.endpoints:
        return Remote(EndpointConfig(**recipe.endpoints[name].model_dump()))
    variant = recipe.variants.get(name)
    options = own_options(recipe, name) | dict(trial_options or {})
    described = f"method {name}" if variant is None else f"variant {name} of method {variant.method}"
    names = {*plugins("methods"), *recipe.variants, *recipe.endpoints}
    if variant is None and name not in names:
        raise unknown("method", name, names, OF_PLUGIN)
    factory = load("methods", name if variant is None else variant.method)
    method: Method = _configured(factory, "Config", options, described)
    return checked_method(method, described)


def make_benchmark(recipe: Recipe, name: str) -> Benchmark:
    """The benchmark of a recipe, configured; ``family:member`` for one of a family.

    Raises:
        UserError: no such benchmark, or an option that it does not have.
    """
    options = recipe.benchmarks.get(name) or {}
    family, _, member = name.partition(":")
    factory = load("benchmarks", family)
    factory = factory.member(member) if member else factory
    benchmark: Benchmark = _configured(factory, "Options", options, f"benchmark {name}")
    return checked_benchmark(benchmark, f"benchmark {name}")


def make_oracle(spec: OracleSpec) -> Oracle:
    """An oracle, configured.

    Raises:
        UserError: no such oracle, or an option that it does not have.
    """
    oracle: Oracle = _configured(load("oracles", spec.name), "Options", spec.options, f"oracle {spec.name}")
    return oracle


def _configured(factory: Any, schema: str, options: dict[str, Any], described: str) -> Any:
    from pydantic import ValidationError

    from harness.recipe.faults import option_sentence, option_sentences, truths_for_numbers

    model = getattr(factory, schema)
    try:
        validated = model.model_validate(options)
    except ValidationError as error:
        raise errors_of(option_sentences(error, model, options, described)) from None
    if faults := list(truths_for_numbers(options, validated)):
        raise errors_of([option_sentence(fault, described) for fault in faults])
    return answer_of(
        described, "__init__", lambda: factory(validated), lambda built: isinstance(built, factory), "one of its kind"
    )
