"""The documentation site: generated pages have everything, links lead somewhere, and the built site loads nothing."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT
from pydantic import BaseModel, Field

from docsite.api_pages import PAGES
from docsite.commands_page import commands, commands_page
from docsite.finish import faults, typeset
from docsite.links import anchor_of, place, resolved, targets, with_links
from docsite.meanings import documented, explained, keys
from docsite.plugin_pages import benchmarks_page, built_in, methods_page, oracles_page
from docsite.recipe_page import recipe_page, sections
from docsite.sources import BrokenLinkError, Sources
from harness.cli import main


def test_every_key_of_a_recipe_has_a_meaning() -> None:
    """Of the recipe, of all that is inside it, and of the options of methods, benchmarks and oracles."""
    models = [(path or "recipe", model) for path, model in sections()]
    for kind, attribute in (("methods", "Config"), ("benchmarks", "Options"), ("oracles", "Options")):
        models += [(name, getattr(cls, attribute)) for name, cls in built_in(kind)]
    missing = [f"{path}: {name}" for path, model in models for name, text in explained(model).items() if not text]
    assert not missing, "say what these keys mean in the docstring of their class"
    assert len(models) > 50


def test_the_recipe_page_has_every_key_with_type_and_default() -> None:
    page = recipe_page()
    for path, model in sections():
        assert not path or f"## `{path}` {{" in page
        assert all(f"| `{name}` |" in page for name in model.model_fields)
    assert "| `train_prompts` | integer, above 0 | **required** |" in page
    assert "| `dtype` |" not in page
    assert "| `generation_batch_size` | integer, above 0, at most 1000000 | `64` |" in page
    assert "| `precision` | `float32` or `bf16-mixed` or `bf16` | `float32` |" in page


def test_every_plugin_and_command_has_a_section() -> None:
    pages = {"methods": methods_page(), "benchmarks": benchmarks_page(), "oracles": oracles_page()}
    for kind, page in pages.items():
        assert all(f"\n## {name}\n" in page for name, _ in built_in(kind))
    assert all(f"\n### {name}\n" in (ROOT / "docs/methods.md").read_text() for name, _ in built_in("methods"))
    page = commands_page()
    for name, command in commands():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert all(option in section for parameter in command.params for option in parameter.opts if option[0] == "-")
    listed = CliRunner().invoke(main, ["--help"]).output
    assert all(name.split()[1] in listed for name, _ in commands())


def test_documented_objects_exist() -> None:
    """mkdocstrings finds them in the source, without importing it."""
    for _, _, objects in PAGES.values():
        for item in objects:
            module = ROOT / item.replace(".", "/")
            if module.with_suffix(".py").is_file() or (module / "__init__.py").is_file():
                continue
            module, name = ROOT / item.rpartition(".")[0].replace(".", "/"), item.rpartition(".")[2]
            body = ast.parse(module.with_suffix(".py").read_text(encoding="utf-8")).body
            assert name in {node.name for node in body if isinstance(node, ast.ClassDef)}, item


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe", reason="python -m nox -s docs installs it")
    from docsite.roles import as_markdown

    text = "A :class:`~a.b.Name`, ``code``, :math:`x_1`.\n\n    .. math:: a + b\n"
    assert as_markdown(text) == "A `Name`, `code`, $x_1$.\n\n    $$a + b$$\n"


def test_keys_are_read_from_models_as_people_write_them() -> None:
    class Base(BaseModel):
        """Some text. ``one``, ``two``: numbers, ``three``: a :class:`~a.b.Name`.

        Attributes:
            four: goes over
                two lines.
        """

        one: int = Field(default=1, ge=0, le=9)
        two: list[float] | None = None
        three: dict[str, bool] = {}
        four: str

    class Child(Base):
        """``one``: another meaning."""

        five: str = Field(default="", description="described")

    rows = {key.name: key for key in keys(Child)}
    assert (rows["one"].type, rows["one"].default) == ("integer, at least 0, at most 9", "1")
    assert rows["one"].meaning == "another meaning."
    assert (rows["two"].type, rows["two"].default) == ("list of number or null", "null")
    assert (rows["three"].type, rows["three"].meaning) == ("mapping of names to true or false", "a `Name`.")
    assert (rows["four"].required, rows["four"].meaning) == (True, "goes over two lines.")
    assert (rows["five"].default, rows["five"].meaning) == ('""', "described")
    assert documented("Nothing here.") == {}


def test_all_links_of_the_documentation_lead_somewhere(tmp_path: Path) -> None:
    """Files and anchors, in docs/ and in every page that these link to; then no link of a written page is dead."""
    sources = Sources()
    sources.collect()
    sources.write(tmp_path / "docs")
    written = {path.relative_to(tmp_path / "docs").as_posix(): path for path in (tmp_path / "docs").rglob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    pages = [page for group in yaml.safe_load(navigation) for page in _pages(group)]
    assert not set(pages) - written.keys()
    top = {name for name in written if "/" not in name or name.startswith("reference/")}
    assert sorted(top - set(pages)) == [], "add the page to the navigation in mkdocs.yml"
    for name, path in written.items():
        for target in targets(path.read_text(encoding="utf-8")):
            file = target.partition("#")[0]
            assert not file or (path.parent / file).exists(), (name, target)
    verdict = written["choosing.md"].read_text(encoding="utf-8").split("`sail-bench compare results/smollm2.yaml`):")[1]
    assert verdict.lstrip().startswith("* "), "the sections that are made from results are filled"


def _pages(group: object) -> list[str]:
    if isinstance(group, str):
        return [group]
    values = group.values() if isinstance(group, dict) else group if isinstance(group, list) else ()
    return [page for value in values for page in _pages(value)]


def test_a_dead_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "docs" / "a.md").write_text("# A\n\n[b](b.md) [c](../README.md#nowhere) `[d](d.md)`\n")
    sources = Sources(tmp_path, generated={})
    with pytest.raises(BrokenLinkError) as raised:
        sources.collect()
    assert "docs/a.md: b.md is no file" in str(raised.value)
    assert "docs/a.md: ../README.md#nowhere has an anchor" in str(raised.value)


def test_places_and_links(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    assert place("docs/a.md", tmp_path) == "a.md"
    assert place("harness/x.py", tmp_path) == "repository/harness/x.py.md"
    assert place("results/x.svg", tmp_path) == "repository/results/x.svg"
    assert place("examples", tmp_path) == "repository/examples/index.md"
    assert resolved("docs/a.md", "../harness/x.py#L1") == ("harness/x.py", "L1")
    text = "[a](b.md) [c](https://x.org)\n\n```\n[d](e.md)\n```\n"
    assert with_links(text, lambda target: f"to/{target}") == text.replace("](b.md", "](to/b.md")
    assert anchor_of("What's `new`: A & B? ([page](x.md))") == "whats-new-a--b-page"


def test_the_built_site_is_checked(tmp_path: Path) -> None:
    head = '<link rel="stylesheet" href="https://cdn.org/x.css"><link rel="canonical" href="https://here.org/">'
    body = '<h1 id="top"></h1><a href="b.html#no">b</a><a href="c.html">c</a><a href="#top">t</a><a href="https://x.org">x</a>'
    (tmp_path / "a.html").write_text(f"<html>{head}{body}</html>")
    (tmp_path / "b.html").write_text('<img src="p.png">')
    (tmp_path / "x.css").write_text("a { background: url('https://fonts.org/a.woff') }")
    assert sorted(faults(tmp_path)) == [
        "a.html links to b.html#no, which has no such anchor",
        "a.html links to c.html, which is not there",
        "a.html loads https://cdn.org/x.css",
        "b.html links to p.png, which is not there",
        "x.css loads from https:",
    ]


def test_formulas_become_mathml(tmp_path: Path) -> None:
    pytest.importorskip("latex2mathml", reason="python -m nox -s docs installs it")
    page = tmp_path / "a.html"
    page.write_text('<p><span class="arithmatex">\\(\\beta h &lt; 1\\)</span></p><div class="arithmatex">\\[x\\]</div>')
    assert typeset(tmp_path) == 2
    text = page.read_text()
    assert "<math" in text and "arithmatex" not in text and 'display="block"' in text
    assert "&#x0003C;" in text, "an entity of HTML is one character of the formula"


def test_citation_and_changelog_are_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
    assert f"\n## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
