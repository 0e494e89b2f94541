"""``sail-bench methods``, ``benchmarks``, ``oracles`` and ``budgets``: what is installed and can be named."""

from __future__ import annotations

from typing import Any

import click

from harness.cli.options import json_option
from harness.cli.terminal import Styled, say, say_json
from harness.errors import UserError, reason_of
from harness.store.foreign_text import error_text, one_line


def _entries(kind: str, schema: str) -> list[dict[str, Any]]:
    """What there is to say of each plugin of a kind, by name; a broken one has ``error`` in place of the rest.

    Args:
        kind: one of the groups of plugins.
        schema: name of the class of its options.
    """
    from harness.run.plugins import OURS, plugins

    entries = []
    for name, plugin in plugins(kind).items():
        entry: dict[str, Any] = {"name": name, "origin": plugin.origin, "version": plugin.version}
        try:
            loaded = plugin.load()
            fields = getattr(loaded, schema).model_fields
            required = [key for key, field in fields.items() if field.is_required()]
            defaults = {
                key: field.get_default(call_default_factory=True)
                for key, field in fields.items()
                if key not in required
            }
            entry |= {"summary": loaded.summary, "required": required, "defaults": defaults}
            facts = {key: getattr(loaded, key, None) for key in ("paper", "published", "grid")}
            entry |= {key: value for key, value in facts.items() if value}
        except UserError as error:
            entry["error"] = error_text(error)
        except Exception as error:  # noqa: BLE001 - a plugin's default may raise anything
            entry["error"] = f"its options cannot be listed ({reason_of(error)})"
        if plugin.clash and plugin.origin == OURS:
            entry["also_claimed_by"] = list(plugin.clash)
        entries.append(entry)
    return entries


def _listing(kind: str, schema: str, as_json: bool) -> None:
    entries = _entries(kind, schema)
    if as_json:
        say_json(entries)
        return
    for entry in entries:
        name = Styled(entry["name"], bold=True)
        origin = Styled(f"({entry['origin']} {entry['version']})", dim=True)
        if "error" in entry:
            say(name, f"  BROKEN: {entry['error']} ", origin)
        else:
            settings = [f"{key} required" for key in entry["required"]]
            settings += [f"{key} {value}" for key, value in entry["defaults"].items()]
            grid = "; ".join(f"{k} {', '.join(map(str, v))}" for k, v in entry.get("grid", {}).items())
            facts = [
                entry.get("paper", ""),
                f"settings: {', '.join(settings)}" if settings else "",
                f"searched with tune.trials: {grid}" if grid else "",
                f"published: {entry['published']}" if "published" in entry else "",
            ]
            say(name, f"  {one_line(entry['summary'])} ", origin)
            for fact in filter(None, facts):
                say(f"    {one_line(fact)}")
        if "also_claimed_by" in entry:
            others = ", ".join(entry["also_claimed_by"])
            say(f"    the name is also claimed by {one_line(others)}, which is left aside: rename it there")


@click.command()
@json_option
def methods(as_json: bool) -> None:
    """List methods: name, what it is, origin, paper, settings with their defaults, published settings."""
    _listing("methods", "Config", as_json)


@click.command()
@json_option
def benchmarks(as_json: bool) -> None:
    """List benchmarks."""
    _listing("benchmarks", "Options", as_json)


@click.command()
@json_option
def oracles(as_json: bool) -> None:
    """List oracles."""
    _listing("oracles", "Options", as_json)


@click.command()
@click.argument("recipe", required=False)
@json_option
def budgets(recipe: str | None, as_json: bool) -> None:
    """List the named budgets, and those of RECIPE."""
    from harness.budget.ledger import AXES
    from harness.budget.spec import named_budgets
    from harness.recipe.load import load_recipe

    own = load_recipe(recipe).budgets if recipe else {}
    offered = named_budgets() | own
    if as_json:
        listed = [{"name": name, "own": name in own} | spec.model_dump(mode="json") for name, spec in offered.items()]
        say_json({"budgets": listed, "axes": dict(AXES)})
        return
    for name, spec in offered.items():
        caps = "".join(f", at most {limit:g} {axis}" for axis, limit in spec.caps.items())
        origin = f" ({recipe})" if name in own else ""
        say(Styled(name, bold=True), f"  {spec.axis} {spec.limit:g}{caps}, version {spec.version}{origin}")
        if spec.summary:
            say(f"    {one_line(spec.summary)}")
    say("\nAxes:")
    for axis, what in AXES.items():
        say(f"  {axis}: {what}")
