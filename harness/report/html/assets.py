"""JavaScript and style of the libraries that the page is built on, read from the installed packages.

Vega, Vega-Lite and Vega-Embed draw the charts (``vl-convert-python`` carries them); DataTables makes the tables
(``itables`` carries it). Nothing of theirs is copied into this project.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module, metadata
from importlib.resources import files
from typing import NamedTuple

from harness.errors import UserError, install

_EXPORT = re.compile(r"export\s*\{([^}]*)\}\s*;?")
_DEFAULT = re.compile(r"([\w$]+)\s+as\s+default\b")
PARTS = (
    "dom.js",
    "theme.js",
    "charts.js",
    "board.js",
    "budget.js",
    "details.js",
    "training.js",
    "samples.js",
    "main.js",
)


class Library(NamedTuple):
    """A library of the page: its names, the package that carries it, that package's version, and its script."""

    title: str
    package: str
    version: str
    script: str


class Assets(NamedTuple):
    """All that the page needs beside its data: libraries, the style sheets, the page's own script and its frame."""

    tables: Library
    charts: Library
    style: str
    script: str
    frame: str


@cache
def read_assets() -> Assets:
    """Read them, once for all reports of a command.

    Raises:
        UserError: a package is missing or carries something else than expected.
    """
    tables = _package_file("itables", "html/dt_bundle.js")
    table_style = _package_file("itables", "html/dt_bundle.css")
    own = files("harness.report.html") / "static"
    script = "\n".join((own / name).read_text(encoding="utf-8") for name in PARTS)
    style = table_style + "\n" + (own / "style.css").read_text(encoding="utf-8")
    return Assets(
        Library("DataTables", "itables", _version("itables"), as_global(tables, "DataTable")),
        Library("Vega, Vega-Lite, Vega-Embed", "vl-convert-python", _version("vl-convert-python"), _charts()),
        style,
        script,
        (own / "frame.html").read_text(encoding="utf-8"),
    )


def as_global(module: str, name: str) -> str:
    """A JavaScript module that puts its default export on the window instead of exporting it.

    Args:
        module: text of a bundle with one ``export {... as default}``.
        name: of the property of the window.

    Raises:
        UserError: there is no such export.
    """
    exported = list(_EXPORT.finditer(module))
    default = _DEFAULT.search(exported[-1][1]) if exported else None
    if default is None:
        raise UserError(
            "The installed itables carries a table library in another form than this version knows: "
            "run python -m pip install -c constraints.txt '.[report]'"
        )
    end = exported[-1]
    return f"{module[: end.start()]};globalThis.{name}={default[1]};{module[end.end() :]}"


def _missing(package: str) -> UserError:
    return UserError(f"The report needs {package}, which is not installed: run {install('report')}")


def _charts() -> str:
    try:
        bundle: str = import_module("vl_convert").javascript_bundle()
    except ImportError:
        raise _missing("vl-convert-python") from None
    return bundle


def _package_file(package: str, name: str) -> str:
    try:
        return (files(package) / name).read_text(encoding="utf-8")
    except (ModuleNotFoundError, FileNotFoundError):
        raise _missing(package) from None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise _missing(package) from None
