"""``new-recipe``: a recipe with comments, ready to run; ``schema``: what editors need to complete and check one."""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from harness.cli.terminal import say, say_json
from harness.errors import UserError
from harness.store.json_files import write_text
from harness.store.storage import unwritable

SCHEMA = "recipe.schema.json"
WITHOUT_SCHEMA = "Editors check a recipe by its schema: sail-bench new-recipe --schema writes it beside one."


def write_recipe(name: str, folder: Path, *, schema: bool = False) -> Path:
    """Write a recipe with comments.

    Args:
        name: of the comparison, or of its file.
        folder: gets the file.
        schema: whether the recipe names the schema as :data:`SCHEMA` in the same folder.

    Raises:
        UserError: the name is no name, the file exists or cannot be written.
    """
    import re

    from harness.recipe.load import builtin_recipes
    from harness.recipe.recipe import NAME

    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if not re.fullmatch(NAME, stem) or len(stem) > 100:
        raise UserError(
            f"{name[:60]!r} is no name: use up to 100 letters, digits, '.', '_' and '-', and begin with a letter or a "
            "digit; --into names a folder"
        )
    if stem in builtin_recipes():
        raise UserError(f"{stem} is the name of a recipe that comes with the package: choose another")
    file = folder / f"{stem}.yaml"
    source = (files("harness.cli") / "templates" / "recipe.yaml.txt").read_text(encoding="utf-8")
    comment = f"yaml-language-server: $schema={SCHEMA}" if schema else WITHOUT_SCHEMA
    text = Template(source).substitute(name=json.dumps(stem), file=file, schema=comment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except FileExistsError:
        raise UserError(f"{file} exists: choose another name or remove it") from None
    except OSError as error:
        with suppress(OSError):
            file.unlink()  # what there is of it is no recipe
        raise unwritable(file, error, "choose another folder with --into") from None
    return file


@click.command("new-recipe")
@click.argument("name", default="my-comparison")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Folder that gets the file.")
@click.option("--schema", "with_schema", is_flag=True, help="Write the JSON Schema beside it, for editors.")
def new_recipe(name: str, into: Path, with_schema: bool) -> None:
    """Write a recipe with comments, NAME.yaml, which runs as it stands."""
    file = write_recipe(name, into, schema=with_schema)
    say(f"wrote {file}")
    if with_schema:
        write_schema(into / SCHEMA)
    say(f"Next: sail-bench plan {file}")


def write_schema(file: Path) -> None:
    """Write the JSON Schema of recipes into a file.

    Raises:
        UserError: it cannot be written.
    """
    from harness.recipe.schema import recipe_schema

    try:
        write_text(file, json.dumps(recipe_schema(), indent=1) + "\n")
    except OSError as error:
        raise unwritable(file, error, "give another file with --out") from None
    say(f"wrote {file}")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="File that gets it; the standard output otherwise.")
def schema(out: Path | None) -> None:
    """Print the JSON Schema of recipes, by which editors complete and check them.

    A recipe names it in a comment: # yaml-language-server: $schema=recipe.schema.json
    """
    if out is not None:
        write_schema(out)
        return
    from harness.recipe.schema import recipe_schema

    say_json(recipe_schema())
