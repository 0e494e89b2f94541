"""``new-method``: a package with a method, its test and its entry point, ready to install beside SAIL-bench."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from harness.cli.terminal import say
from harness.errors import UserError
from harness.store.storage import unwritable

FILES = {"pyproject.toml": "pyproject.toml.txt", "README.md": "README.md.txt"}


def write_skeleton(name: str, folder: Path) -> list[Path]:
    """Write the package of a new method into ``folder / name``.

    Returns:
        the files written.

    Raises:
        UserError: the name is no name, or taken; the folder exists, or cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UserError(
            f"{name!r} is no name for a method: use lower case letters, digits and hyphens, such as 'my-dpo'"
        )
    from harness.run.plugins import plugins

    if name in plugins("methods"):
        raise UserError(f"A method {name!r} is installed already: choose another name")
    target, module = folder / name, name.replace("-", "_")
    if target.exists():
        raise UserError(f"{target} exists: choose another name or remove it")
    words = {"name": name, "module": module, "cls": "".join(part.capitalize() for part in name.split("-"))}
    sources = FILES | {f"{module}.py": "module.py.txt", f"tests/test_{module}.py": "test.py.txt"}
    written = []
    try:
        for path, source in sources.items():
            text = (files("harness.cli") / "templates" / "method" / source).read_text(encoding="utf-8")
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), encoding="utf-8", newline="\n")
            written.append(file)
    except OSError as error:
        raise unwritable(target, error, "go to another folder") from None
    return written


@click.command("new-method")
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Folder that gets the package.")
def new_method(name: str, into: Path) -> None:
    """Write the package of a new method NAME: its loss, its test, its entry point."""
    for file in write_skeleton(name, into):
        say(f"wrote {file}")
    say(f"Next: cd {into / name} && python -m pip install -e '.[test]' && python -m pytest")
