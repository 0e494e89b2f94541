"""Plugins by entry point: methods, oracles and benchmarks. Built-ins register through the same groups.

A plugin that fails to import is listed with its error and never breaks the others. ``SAIL_BENCH_PLUGINS`` (a comma
separated list of distribution names; may be empty) limits third-party plugins to those named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.benchmark import Benchmark
from harness.errors import UserError, unknown
from harness.methods.base import Method
from harness.methods.endpoint import EndpointConfig, Remote
from harness.oracles.base import Oracle
from harness.recipe.recipe import OracleSpec, Recipe
from harness.run import plugins as registry


def own_options(recipe: Recipe, name: str) -> dict[str, Any]:
    """The options that a recipe sets for a method or variant."""
    variant = recipe.variants.get(name)
    return recipe.method_options.get(name, {}) if variant is None else variant.options


def make_method(recipe: Recipe, name: str, more: Mapping[str, Any] | None = None) -> Method:
    """The method, or named variant of one, of a recipe, configured; ``more``: options of a trial.

    Raises:
        UserError: no such method or variant, or an option that it does not have.
    """
    if name in recipe.endpoints:
        return Remote(EndpointConfig(**recipe.endpoints[name].model_dump()))
    variant = recipe.variants.get(name)
    options = own_options(recipe, name) | dict(more or {})
    what = f"method {name}" if variant is None else f"variant {name} of method {variant.method}"
    known = {*registry.plugins("methods"), *recipe.variants, *recipe.endpoints}
    if variant is None and name not in known:
        raise unknown("method", name, known)
    factory = registry.load("methods", name if variant is None else variant.method)
    method: Method = _configured(factory, "Config", options, what)
    return method


def make_benchmark(recipe: Recipe, name: str) -> Benchmark:
    """The benchmark of a recipe, configured; ``family:member`` for one of a family.

    Raises:
        UserError: no such benchmark, or an option that it does not have.
    """
    options = recipe.benchmarks.get(name) or {}
    family, _, member = name.partition(":")
    factory = registry.load("benchmarks", family)
    factory = factory.member(member) if member else factory
    benchmark: Benchmark = _configured(factory, "Options", options, f"benchmark {name}")
    return benchmark


def make_oracle(spec: OracleSpec) -> Oracle:
    """An oracle, configured.

    Raises:
        UserError: no such oracle, or an option that it does not have.
    """
    oracle: Oracle = _configured(registry.load("oracles", spec.name), "Options", spec.options, f"oracle {spec.name}")
    return oracle


def _configured(factory: Any, schema: str, options: dict[str, Any], what: str) -> Any:
    from pydantic import ValidationError

    try:
        return factory(getattr(factory, schema).model_validate(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"Option {key!r} of {what}: {first['msg']}") from None


OURS = "sail-bench"

GROUPS = ("methods", "oracles", "benchmarks")


@dataclass(frozen=True)
class Plugin:
    """A registered name. ``origin`` is the distribution it comes from."""

    kind: str
    name: str
    origin: str
    version: str
    entry: EntryPoint
    clash: tuple[str, ...] = ()

    def load(self) -> Any:
        """The class. Whatever its import raises, and a name that two plugins claim, is told as one sentence."""
        if self.clash and self.origin != OURS:
            raise UserError(
                f"The {self.kind[:-1]} {self.name!r} is claimed by {self.origin} and {', '.join(self.clash)}: choose "
                f"one with SAIL_BENCH_PLUGINS={self.origin}"
            )
        try:
            return self.entry.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"The {self.kind[:-1]} {self.name!r} of {self.origin} fails to import ({reason})"
            ) from error


def plugins(kind: str) -> dict[str, Plugin]:
    """Registered plugins of a kind by name. Our own win a clash of names; ``clash`` names who else claims it."""
    allowed = os.environ.get("SAIL_BENCH_PLUGINS")
    chosen = None if allowed is None else {OURS, *(name.strip() for name in allowed.split(","))}
    found: dict[str, Plugin] = {}
    for entry in entry_points(group=f"harness.{kind}"):
        origin = entry.dist.name if entry.dist else "unknown"
        version = entry.dist.version if entry.dist else "?"
        if chosen is not None and origin not in chosen:
            continue
        plugin = Plugin(kind, entry.name, origin, version, entry)
        other = found.get(entry.name)
        if other is not None and other.origin != origin:
            first, second = (other, plugin) if other.origin == OURS or plugin.origin != OURS else (plugin, other)
            plugin = replace(first, clash=(*first.clash, second.origin))
        found[entry.name] = plugin
    return dict(sorted(found.items()))


def load(kind: str, name: str) -> Any:
    """The class registered under a name.

    Raises:
        UserError: no such name (with the nearest), or the plugin does not import.
    """
    known = plugins(kind)
    if name not in known:
        raise unknown(kind[:-1], name, known)
    return known[name].load()
