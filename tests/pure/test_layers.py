"""The layers of the project: imports go down, never round; modules stay short; test files do not import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

# from low to high: sail/ and benchmarks/ are packages, the others are rooms or modules of harness/
LAYERS = (
    "sail", "errors", "store", "budget", "recipe", "answer", "oracles", "pairs", "score", "judge", "train", "methods",
    "benchmark", "report", "run", "benchmarks", "cli",
)  # fmt: skip
PACKAGES = ("sail", "harness", "benchmarks")
LONGEST_MODULE = 400  # lines


def modules(root: Path) -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    paths = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported_names(path: Path, name: str) -> Iterator[str]:
    """Dotted names that a module imports anywhere: at its top, in a function, or for type checking alone."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imports(root: Path) -> dict[str, set[str]]:
    """The modules of the packages that each module imports. A name that is no module counts as the module it is in."""
    paths = modules(root)
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        graph[name] = set()
        for target in imported_names(path, name):
            while target and target not in paths:
                target = target.rpartition(".")[0]
            graph[name] |= {target} - {name, ""}
    return graph


def layer(module: str) -> str:
    """The layer of a module; the package ``harness`` itself has none, nor has what ``python -m harness`` runs."""
    package, _, rest = module.removesuffix("harness.__main__").partition(".")
    return rest.partition(".")[0] if package == "harness" else package


def upward_imports(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports of a module in a higher layer."""
    rank = {name: place for place, name in enumerate(LAYERS)}
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if layer(target) and rank[layer(target)] > rank.get(layer(module), -1)
    ]


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first of which comes again at the end; empty if none do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_module_is_in_a_layer() -> None:
    assert {layer(module) for module in modules(ROOT)} - {""} == set(LAYERS)


def test_imports_go_down_the_layers() -> None:
    assert upward_imports(imports(ROOT)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(imports(ROOT)) == []


def test_reports_read_result_files_only() -> None:
    """Of what lies below them they import what result files are made of, the sentences about files that cannot be
    written, and nothing that runs or trains. The page ``report.html`` also reads rows and manifests of stages, as the
    JSON files that they are."""
    allowed = (
        *("harness.report", "harness.score", "harness.budget.ledger", "harness.errors"),
        *("harness.store.json_files", "harness.store.versions", "harness.store.sealed", "harness.store.notices"),
        *("harness.store.stage_files", "harness.store.foreign_text", "harness.store.storage"),
    )
    targets = {(module, t) for module, ts in imports(ROOT).items() if layer(module) == "report" for t in ts}
    assert targets
    assert {pair for pair in targets if not pair[1].startswith(allowed)} == set()


@pytest.mark.parametrize(
    ("statement", "target"),
    [
        ("import harness.run.plan\n", "harness.run.plan"),
        ("from harness.run import plan\n", "harness.run.plan"),
        ("from harness.run.plan import Plan\n", "harness.run.plan"),
        ("from harness.run import Plan\n", "harness.run"),
        ("from ..run.plan import Plan\n", "harness.run.plan"),
        ("from .. import run\n", "harness.run"),
        ("def later():\n    from harness.run.plan import Plan\n", "harness.run.plan"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import harness.run.plan as p\n", "harness.run.plan"),
    ],
)
def test_an_import_from_above_is_found(statement: str, target: str, tmp_path: Path) -> None:
    """In a small tree of our own: the violation alone is reported, in whatever form it is written."""
    sources = {
        "sail/__init__.py": "",
        "harness/__init__.py": "",
        "harness/errors.py": "import sail\nimport json\n",
        "harness/store/__init__.py": "",
        "harness/store/files.py": f"from harness.errors import UserError\n{statement}",
        "harness/run/__init__.py": "from harness.store import files\n",
        "harness/run/plan.py": "from harness.store.files import read\nfrom harness.errors import UserError\n",
        "benchmarks/__init__.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = imports(tmp_path)
    assert upward_imports(graph) == [f"harness.store.files imports {target}"]
    assert set(circle(graph)) == {"harness.store.files", target}
    (tmp_path / "harness/store/files.py").write_text("from harness.errors import UserError\n")
    assert upward_imports(imports(tmp_path)) == circle(imports(tmp_path)) == []


def test_no_module_is_long() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules(ROOT).items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_test_files_do_not_import_each_other() -> None:
    """What several need is in ``kit`` or ``conftest``."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    stems = {path.stem for path in files if path.stem.startswith("test_")}
    assert len(stems) > 30
    assert [
        f"{path.name} imports {target}"
        for path in files
        for target in imported_names(path, path.stem)
        if stems & set(target.split("."))
    ] == []


def test_no_test_file_is_long() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}
