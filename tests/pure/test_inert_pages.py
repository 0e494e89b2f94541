"""Foreign text on a page, in its pictures, in the terminal and in marked sections does nothing there."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.results import PEOPLE, preference_result, run_result
from markdown_it import MarkdownIt
from rich.console import Console

from harness.report.board import Board
from harness.report.drawing import page_picture
from harness.report.figures import page_figures
from harness.report.leaderboard import render_pages
from harness.report.markdown import code, markdown_table, page, plain
from harness.report.terminal import print_scores, score_table
from harness.score.results import RunResult, read_results, result_path, write_result
from harness.store.foreign_text import inert

PLANTED = (
    "a|b <script>alert(1)</script> \x1b[31mred \u202eder\u202c ![x](http://tracker/x.png) `code` [a](javascript:x)"
    "\n| n |"
)
TAGS = "a h1 h2 h3 p ul li strong em code table thead tbody tr th td img details summary"
ACTIVE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def planted() -> list[RunResult]:
    """A name, a reason, a summary, a description, a subject, a currency, options and a judge that try it."""
    rng = np.random.default_rng(1)
    judge = {"kind": "endpoint", "model": PLANTED, "endpoint": "e"}
    scored = preference_result(rng.random(PEOPLE), rng.random(PEOPLE))
    scored = scored.model_copy(
        update={"judge": judge, "snapshots": [PLANTED], "fault": PLANTED, "unanswered": 1}
        | {"invalid": {"gold_reward": {PLANTED: 1}}}
    )
    scored.items["items"]["subject"] = [PLANTED] * PEOPLE
    shared: dict[str, Any] = {"description": PLANTED, "prices": {"currency": PLANTED, "device_hour": 1.0}}
    rows: dict[str, dict[str, Any]] = {
        "start": {},
        "dpo": {},
        PLANTED: {"method_summary": PLANTED, "method_options": {"o": PLANTED}},
    }
    rates = {name: None if name == "start" else 0.1 for name in rows}
    results = [run_result(name, [scored], learning_rate=rates[name], **shared, **rows[name]) for name in rows]
    return [*results, run_result("broken", [], status="failed", error=PLANTED, method_origin=PLANTED, **shared)]


@pytest.mark.parametrize("name", ["LEADERBOARD.md", "SUBJECTS.md"])
def test_a_page_renders_as_text_alone(name: str) -> None:
    """By CommonMark with tables, all HTML let through: no tag but the page's own, no image or link from outside."""
    text = render_pages(planted())[name]
    assert not ACTIVE.search(text)
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "alert(1)" in html
    assert set(re.findall(r"<(\w+)", html)) <= set(TAGS.split(" "))
    assert "<script" not in html
    assert not re.findall(r"<img[^>]*http", html)
    assert set(re.findall(r"<a [^>]*", html)) <= {'<a href="SUBJECTS.md"'}, "but for the page's own link"
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().split("\n")}) == 1


def test_pictures_and_json_hold_it_as_text() -> None:
    files = render_pages(planted())
    figures = page_figures(Board(planted()))
    assert [figure.name for figure in figures] == ["cost", "reward-kl"]
    for figure in figures:
        picture = page_picture(figure)
        elements = list(ET.fromstring(picture).iter())
        assert "script" in "".join(text for element in elements for text in element.itertext())
        assert not {element.tag.split("}")[1] for element in elements} & {"script", "a", "image", "foreignObject"}
        for element in elements:
            assert all(value.startswith("#") for key, value in element.attrib.items() if key.endswith("href"))
            assert not any(key.startswith("on") for key in element.attrib)
        assert not ACTIVE.search(picture)
    rows = json.loads(files["summary.json"])["rows"]
    assert PLANTED in {row["method"] for row in rows}
    assert not ACTIVE.search(files["summary.json"]), "JSON escapes what acts"


def test_the_terminal_prints_it_as_text(tmp_path: Path) -> None:
    for place, result in enumerate(planted()):
        write_result(result_path(tmp_path, "demo", "pairs-96", f"m{place}", 0), result)
    out = StringIO()
    table = score_table(read_results(tmp_path / "demo" / "pairs-96"))
    print_scores(table, Console(file=out, force_terminal=False, width=400))
    text = out.getvalue()
    assert "script" in text
    assert not ACTIVE.search(text)
    assert text.strip().split("\n")[-1].startswith("broken failed")


@pytest.mark.parametrize("text", ["a`b", "a<b", "", "a\\b", "`"])
def test_code_that_is_none_becomes_plain(text: str) -> None:
    assert "`" not in re.sub(r"\\`", "", code(text))


def test_the_parts() -> None:
    assert code("sail-pr") == "`sail-pr`"
    assert plain("a [b](c)\n\n`d`") == "a \\[b\\](c) \\`d\\`"
    assert inert("a\x1b[0m\u2066b\tc\r\nd") == "a�[0m�b c\nd"
    assert markdown_table(["a|b"], [["c\\|d\ne"], ["\\\\|"]]) == "| a\\|b |\n| --- |\n| c\\|d e |\n| \\\\\\| |"
    assert page(["", "a <b>"]) == "a &lt;b>\n"
