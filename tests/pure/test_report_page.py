"""report.html as a file: what it embeds, what it refuses, and that foreign text stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit.report_files import ESCAPES, HANDLER, HOSTILE, METHODS, write_comparison

from harness.cli import main
from harness.errors import UserError
from harness.report.board import Board
from harness.report.html import assets as assets_module
from harness.report.html.assets import Assets, Library, as_global
from harness.report.html.page import render
from harness.report.html.payload import visible
from harness.report.html.stored import Stored
from harness.score.results import read_results

STATIC = Path(assets_module.__file__).parent / "static"
SMALL = Assets(
    Library("T", "itables", "1", "globalThis.DataTable=1"),
    Library("C", "vl-convert-python", "1", "globalThis.vegaEmbed=1"),
    "p {}",
    "void 0",
    (STATIC / "frame.html").read_text(),
)


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = (dict(attrs).get("id") or f"code-{len(self.scripts)}") if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._script = ""


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(comparison: Path) -> str:
    return render(Board(read_results(comparison)), Stored(comparison.parents[2] / "store"), comparison, SMALL)


def test_foreign_text_is_data_alone(page: str) -> None:
    elements = Elements(page)
    assert [tag for tag, _ in elements.tags].count("script") == 6  # the data, two sample sets, three scripts
    assert "img" not in {tag for tag, _ in elements.tags}
    assert HOSTILE not in page
    assert not re.search("[\x00-\x08\x0b\x1b\u202a-\u202e\u2066-\u2069]", page)
    data = json.loads(elements.scripts["report"])
    assert [m["name"] for m in data["methods"]] == ["start", "dpo", *sorted(METHODS[2:])]
    assert any(HANDLER in judge["name"] for judge in data["judges"])
    samples = json.loads(zlib.decompress(base64.b64decode(elements.scripts["samples-0"])))
    assert HOSTILE in samples["items"][0]["prompt"][0]
    assert visible(ESCAPES) in samples["answers"]["dpo"][0]["text"][0]


def test_the_policy_names_the_scripts_and_forbids_requests(page: str) -> None:
    elements = Elements(page)
    policy = next(a["content"] for tag, a in elements.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    code = [text for name, text in elements.scripts.items() if name.startswith("code-")]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code}
    assert hashes == set(re.findall(r"'sha256-([^']+)'", policy))
    attributes = {name for _, attrs in elements.tags for name in attrs}
    assert not {"src", "onclick", "onerror", "onload"} & attributes


def test_a_script_that_ends_its_element_early_is_escaped(comparison: Path) -> None:
    hostile = SMALL._replace(script="const x = '</script><b>';")
    text = render(Board(read_results(comparison)), Stored(comparison), comparison, hostile)
    assert "b" not in {tag for tag, _ in Elements(text).tags}


def test_the_default_export_of_a_bundle_becomes_a_global() -> None:
    bundle = "var a=1,b=2;export{a as Other,b as default};\n/* licence */"
    assert as_global(bundle, "Table") == "var a=1,b=2;;globalThis.Table=b;\n/* licence */"
    with pytest.raises(UserError, match=r"\[report\]"):
        as_global("var a=1;export{a as Other};", "Table")


@pytest.mark.parametrize("missing", ["vl_convert", "itables"])
def test_a_missing_package_is_named_with_the_extra(
    missing: str, comparison: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets_module.read_assets.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    done = CliRunner().invoke(main, ["report", str(comparison)])
    assert done.exit_code == 2
    assert "pip install '.[report]'" in done.output


def test_the_command_writes_one_file_and_refuses_what_it_cannot(comparison: Path, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    pytest.importorskip("itables", reason="the extra report is not installed")
    out, store = tmp_path / "r.html", comparison.parents[2] / "store"
    done = CliRunner().invoke(main, ["report", str(comparison.parents[1]), "--out", str(out), "--store", str(store)])
    assert done.exit_code == 0, done.output
    elements = Elements(out.read_text())
    assert {"report", "samples-0", "samples-1"} <= set(elements.scripts)
    assert all(len(text) > 10_000 for name, text in elements.scripts.items() if name.startswith("code-"))
    without = CliRunner().invoke(main, ["report", str(comparison), "--out", str(out), "--store", str(tmp_path / "no")])
    assert "no samples" in without.output
    empty = CliRunner().invoke(main, ["report", str(tmp_path / "no")])
    assert (empty.exit_code, "does not exist" in empty.output) == (2, True)
    refused = CliRunner().invoke(main, ["report", str(comparison), "--out", str(tmp_path)])
    assert refused.exit_code == 2
    assert "--out" in refused.output


@pytest.mark.nightly
def test_ten_thousand_samples_are_built_in_time_at_a_kilobyte_each(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, count=2500, length=2000)
    began = time.process_time()
    text = render(Board(read_results(folder)), Stored(tmp_path / "store"), folder, SMALL)
    assert time.process_time() - began < 20
    samples = Elements(text).scripts["samples-0"]
    assert len(json.loads(zlib.decompress(base64.b64decode(samples)))["items"]) * len(METHODS) == 10_000
    assert len(samples) < 10_000 * 1024
