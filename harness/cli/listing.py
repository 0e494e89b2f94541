"""``sail-bench methods``, ``benchmarks``, ``oracles`` and ``budgets``: what is installed and can be named."""

from __future__ import annotations

import click

from harness.errors import UserError


def _listing(kind: str, schema: str) -> None:
    from harness.run.plugins import OURS, plugins

    for name, plugin in plugins(kind).items():
        origin = click.style(f"({plugin.origin} {plugin.version})", dim=True)
        try:
            loaded = plugin.load()
            lines = [f"{click.style(name, bold=True)}  {loaded.summary} {origin}"]
            fields = getattr(loaded, schema).model_fields
            defaults = ", ".join(f"{k} {'required' if f.is_required() else f.default}" for k, f in fields.items())
            facts = [getattr(loaded, "paper", ""), f"settings: {defaults}" if defaults else ""]
            grid = "; ".join(f"{k} {', '.join(map(str, v))}" for k, v in getattr(loaded, "grid", {}).items())
            facts.append(f"searched with tune.trials: {grid}" if grid else "")
            facts.append(f"published: {loaded.published}" if getattr(loaded, "published", "") else "")
            lines += [f"    {fact}" for fact in facts if fact]
        except (UserError, AttributeError) as error:
            lines = [f"{click.style(name, bold=True)}  BROKEN: {error} {origin}"]
        if plugin.clash and plugin.origin == OURS:
            lines.append(
                f"    the name is also claimed by {', '.join(plugin.clash)}, which is left aside: rename it there"
            )
        click.echo("\n".join(lines))


@click.command()
def methods() -> None:
    """List methods: name, what it is, origin, paper, settings with their defaults, published settings."""
    _listing("methods", "Config")


@click.command()
def benchmarks() -> None:
    """List benchmarks."""
    _listing("benchmarks", "Options")


@click.command()
def oracles() -> None:
    """List oracles."""
    _listing("oracles", "Options")


@click.command()
@click.argument("recipe", required=False)
def budgets(recipe: str | None) -> None:
    """List the named budgets, and those of RECIPE."""
    from harness.budget.ledger import AXES
    from harness.budget.spec import named_budgets
    from harness.recipe.load import load_recipe

    own = load_recipe(recipe).budgets if recipe else {}
    for name, spec in (named_budgets() | own).items():
        caps = "".join(f", at most {limit:g} {axis}" for axis, limit in spec.caps.items())
        origin = f" ({recipe})" if name in own else ""
        click.echo(f"{click.style(name, bold=True)}  {spec.axis} {spec.limit:g}{caps}, version {spec.version}{origin}")
        if spec.summary:
            click.echo(f"    {spec.summary}")
    click.echo("\nAxes:")
    for axis, what in AXES.items():
        click.echo(f"  {axis}: {what}")
