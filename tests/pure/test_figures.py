"""Figures and tables of pages and papers: no text over another, no interval cut off, numbers that a check compares."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from kit.command import run_here
from kit.results import PEOPLE, run_result
from matplotlib.backends.backend_agg import FigureCanvasAgg

from harness.report import figure_files
from harness.report.board import Board
from harness.report.drawing import SETTINGS, draw, page_picture, pictures_of
from harness.report.drawing_parts import inside_of
from harness.report.figure_files import stale_figures, write_figures
from harness.report.figure_types import Figure, Forest, Lines, Mark, Scatter, Span, Strips, figure_key, record
from harness.report.figures import figures_of, page_figures, score_against_cost
from harness.report.leaderboard import stale_files, write_leaderboard
from harness.report.paper_table import csv_table, csv_text, latex_table, latex_text
from harness.report.point_names import apart
from harness.score.metrics import evaluate, metric
from harness.score.results import BenchmarkResult, RunResult, read_results, result_path, write_result

HOSTILE = ["$x_1$", "_hidden", "<script>alert(1)</script>", "a\x1b[31mb\u202e", "x" * 60, "50% & more | \\alpha"]


def benchmark(name: str, title: str, unit: str, values: np.ndarray) -> BenchmarkResult:
    items: dict[str, Any] = {"items": {"id": list(range(PEOPLE)), "v": values.tolist(), "kl": np.abs(values).tolist()}}
    metrics = [metric("gold_reward", title, unit, 1, "mean", "v", primary=True)]
    metrics += [metric("kl", "KL to start", "nats/answer", 0, "mean", "kl")] if name == "preference" else []
    return BenchmarkResult(
        benchmark=name, title=title, label="mini", protocol={}, protocol_hash=name, judge=None,
        metrics=[evaluate(m, items) for m in metrics], items=items,
    )  # fmt: skip


def curve(values: np.ndarray) -> BenchmarkResult:
    """Rewards at two shares of the budget."""
    items: dict[str, Any] = {"items": {"id": list(range(PEOPLE))}}
    for share in ("0.5", "1"):
        items["items"][f"reward_{share}"] = (float(share) * values).tolist()
    metrics = [metric(f"reward_{share}", "reward", "share met", 1, "mean", f"reward_{share}") for share in ("0.5", "1")]
    return BenchmarkResult(
        benchmark="curve", title="Curve", label="mini", protocol={}, protocol_hash="curve", judge=None,
        metrics=[evaluate(m, items) for m in metrics], items=items,
    )  # fmt: skip


def rows(names: list[str], spread: float, seeds: int = 1, **budget: Any) -> list[RunResult]:
    """Methods on four benchmarks and on the way there; costs between 1 and ``spread`` times 1e12 FLOPs.

    Args:
        names: methods but ``start``, the reference first.
        spread: the highest cost in FLOPs by the lowest.
        seeds: of each method but ``start``.
        budget: what differs from 96 pairs.
    """
    rng, made = np.random.default_rng(7), []
    units = [("preference", "gold reward", "share met"), ("b", "A benchmark with a long title, official", "win %")]
    units += [("c", "MT-Bench", "rating 1-10"), ("d", "MMLU", "acc %")]
    matched = {"name": "b", "axis": "pairs", "limit": 96} | budget
    for place, seed, name in [(p, s, n) for p, n in enumerate(["start", *names]) for s in range(seeds if p else 1)]:
        scored = [benchmark(n, t, u, rng.normal(0.05 * place, 0.5, PEOPLE)) for n, t, u in units]
        scored.append(curve(rng.normal(0.05 * place, 0.5, PEOPLE)))
        flops = {"forward_flops": 1e12 * spread ** (place / len(names)), "seconds": 100.0 * place + seed}
        ledger = {"phases": {"train": flops} if place else {}, "peak_memory_bytes": 1}
        rate = 1e-3 if place else None
        made.append(
            run_result(name, scored, seed, reference=names[0], ledger=ledger, learning_rate=rate, budget=matched)
        )
    return made


def with_costs(made: list[RunResult], **spent: float) -> list[RunResult]:
    """The same runs, each trained one with that spending."""
    ledger = {"phases": {"train": spent}, "peak_memory_bytes": 1}
    return [run.model_copy(update={"ledger": ledger}) if run.learning_rate else run for run in made]


CASES = {
    "two, one cost": (["dpo", "sail-pr"], 1.0, 1),
    "twenty, four decades": ([f"method-{i}" for i in range(20)], 1e4, 1),
    "fourteen, three seeds": ([f"a-method-{i}" for i in range(14)], 3.0, 3),
    "names that would act": (["dpo", "方法", *HOSTILE], 20.0, 2),
}


@pytest.fixture(params=CASES, scope="module")
def board(request: pytest.FixtureRequest) -> Board:
    return Board(rows(*CASES[request.param]))


def texts(canvas: Any) -> list[Any]:
    """Every text that is drawn, of ticks only those within the limits."""
    shown = [*canvas.texts]  # the title of all and the line below it among them
    shown += [text for legend in canvas.legends for text in legend.get_texts()]
    for axes in canvas.axes:
        if not axes.axison:
            continue
        shown += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            shown.append(axis.get_offset_text())
            shown += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            shown += [t.label1 for t in axis.get_minor_ticks() if low <= t.get_loc() <= high]
    return [t for t in shown if t is not None and t.get_visible() and t.get_text().strip()]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_no_text_lies_over_another_or_off_the_page(board: Board) -> None:
    with matplotlib.rc_context(SETTINGS):
        for figure in figures_of(board):
            canvas = draw(figure)
            FigureCanvasAgg(canvas).draw()
            page = canvas.bbox
            boxes = [(t.get_text(), t.get_window_extent()) for t in texts(canvas)]
            assert len(boxes) >= 8
            assert min(box.height for _, box in boxes) > 3
            for text, box in boxes:
                assert box.x0 >= page.x0 - 1 and box.y0 >= page.y0 - 1, (figure.name, text)
                assert box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, (figure.name, text)
            for (one, a), (other, b) in combinations(boxes, 2):
                across = min(a.x1, b.x1) - max(a.x0, b.x0)
                down = min(a.y1, b.y1) - max(a.y0, b.y0)
                assert across <= 0.5 or down <= 0.5, (figure.name, one, other)


def inside(span: Any, limits: tuple[float, float]) -> bool:
    return min(limits) <= span.low <= span.value <= span.high <= max(limits)


def spans_of(figure: Figure) -> Iterator[tuple[int, str, Span]]:
    """Every value of a figure with its interval: number of the axes, axis, span."""
    match figure:
        case Scatter():
            yield from ((0, "y", mark.y) for mark in (*figure.marks, *figure.levels))
            yield from ((0, "x", mark.x) for mark in figure.marks)
        case Forest():
            yield from (
                (place, "x", row.span) for place, panel in enumerate(figure.panels) for row in panel.differences
            )
        case Lines():
            yield from ((0, "y", span) for line in figure.lines for _, span in line.points)
        case Strips():
            yield from ((0, "x", strip.mean) for strip in figure.strips)
            yield from ((0, "x", Span(value, value, value)) for strip in figure.strips for value in strip.values)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_axes_hold_every_interval(board: Board) -> None:
    with matplotlib.rc_context(SETTINGS):
        for figure in figures_of(board):
            axes = draw(figure).axes
            for place, axis, span in spans_of(figure):
                assert inside(span, getattr(axes[place], f"get_{axis}lim")()), (figure.name, axis, span)
            if isinstance(figure, Lines):  # rows are moved apart
                low, high = axes[0].get_xlim()
                assert all(low < x < high for line in axes[0].lines for x in line.get_xdata() if x == x)


def test_rows_differ_without_colour() -> None:
    """In grey print, neighbours in colour have another shape."""
    from harness.report.drawing_parts import COLOURS, SHAPES, colour_of, shape_of, style_of

    assert len({(colour_of(look), shape_of(look)) for look in range(70)}) == 70
    assert len({(colour_of(look), style_of(look)) for look in range(28)}) == 28
    assert len(set(COLOURS)) == len(COLOURS)
    assert len(set(SHAPES)) == len(SHAPES)


def test_points_at_one_place_stand_side_by_side_with_their_names() -> None:
    span = Span(0.5, 0.4, 0.6)
    marks = (
        *(Mark(name, look, span, span) for look, name in enumerate(("a", "b", "c"))),
        Mark("d", 3, span, Span(2, 1, 3)),
    )
    figure = Scatter("cost", "t", "x", "y", "n.", marks, better=1)
    with matplotlib.rc_context(SETTINGS):
        canvas = draw(figure)
        shifts = apart(canvas.axes[0], marks)
    assert shifts == [-7.0, 0.0, 7.0, 0.0]
    assert {text.get_text() for text in canvas.axes[0].texts} == {"a", "b", "c", "d"}
    assert "side by side" in canvas.get_supxlabel()
    assert inside_of(0)["color"] != inside_of(7)["markerfacecolor"] == "white", "the second round is hollow"


def test_figures_hold_the_boards_numbers() -> None:
    board = Board(rows(["dpo", "sail-pr"], 4.0))
    cost, kl, over_budget, differences = figures_of(board)
    assert isinstance(cost, Scatter) and isinstance(differences, Forest) and isinstance(kl, Scatter)
    assert page_figures(board) == [cost, kl, over_budget]
    column = board.columns(primary=True)[0]
    cell = board.cell("dpo", column)
    assert cell is not None
    marks = {mark.name: mark for mark in cost.marks}
    assert marks["dpo"].y == (cell.interval.value, cell.interval.low, cell.interval.high)
    assert [marks[name].x.value for name in ("dpo", "sail-pr")] == pytest.approx([2e12, 4e12])
    assert [level.name for level in cost.levels] == ["start"]
    assert {mark.name: mark.look for mark in kl.marks} == {"start": 0} | {m.name: m.look for m in cost.marks}
    assert {row.name for row in differences.panels[0].differences} == {"start", "sail-pr"}
    assert len(differences.panels) == 4
    timed = score_against_cost(board, cost="hours")
    assert timed is not None
    assert timed.x_title == "minutes of a run on a CPU"
    assert sorted(m.x.value for m in timed.marks) == pytest.approx([100 / 60, 200 / 60])


@pytest.mark.parametrize(
    ("spent", "matched", "title"),
    [
        ({"forward_flops": 1e12, "seconds": 90.0}, {}, "seconds of a run on a CPU"),  # all spent as many FLOPs
        ({"forward_flops": 1e12, "seconds": 8000.0}, {"axis": "seconds"}, "FLOPs of a run"),
        ({"seconds": 8000.0}, {}, "hours of a run on a CPU"),
        ({"forward_flops": 1e12}, {"axis": "flops"}, "FLOPs of a run"),  # no time was recorded
    ],
)
def test_the_cost_is_one_that_tells_methods_apart(spent: dict[str, float], matched: dict[str, str], title: str) -> None:
    cost = score_against_cost(Board(with_costs(rows(["dpo", "sail-pr"], 4.0, **matched), **spent)))
    assert cost is not None
    assert cost.x_title == title


def test_where_flops_are_matched_time_is_the_cost() -> None:
    for axis, title in (("flops", "minutes of a run on a CPU"), ("pairs", "FLOPs of a run")):
        cost = score_against_cost(Board(rows(["dpo", "sail-pr"], 4.0, axis=axis)))
        assert cost is not None
        assert cost.x_title == title


def test_rows_without_the_cost_are_counted() -> None:
    made = rows(["dpo", "sail-pr"], 4.0)
    board = Board([made[0], made[1], *with_costs(made[2:], seconds=10.0)])
    flops = score_against_cost(board, cost="flops")
    assert flops is not None
    assert [mark.name for mark in flops.marks] == ["dpo"]
    assert flops.note.endswith(" Rows left out, as their FLOPs were not recorded: 1.")


def test_lines_and_strips_hold_the_boards_numbers() -> None:
    board = Board(rows(["dpo", "sail-pr"], 4.0, seeds=2))
    lines, strips = page_figures(board)[2:]
    assert isinstance(lines, Lines) and isinstance(strips, Strips)
    middle, end = board.columns(benchmark="curve")
    dpo, start = (next(line for line in lines.lines if line.name == name) for name in ("dpo", "start"))
    cells = [board.cell(m, c) for m, c in (("start", end), ("dpo", middle), ("dpo", end))]
    values = [cell.interval.value for cell in cells if cell]
    assert [(share, span.value) for share, span in dpo.points] == [(0.0, values[0]), (0.5, values[1]), (1.0, values[2])]
    assert dpo.points[0][1].low == values[0] > start.points[0][1].low, "the start's interval stands on its own line"
    gold = board.cell("dpo", board.columns(primary=True)[0])
    strip = next(strip for strip in strips.strips if strip.name == "dpo")
    assert gold is not None
    assert strip.values == tuple(gold.values)
    assert len(strip.values) == 2
    assert [s.mean.value for s in strips.strips] == sorted((s.mean.value for s in strips.strips), reverse=True)
    assert [figure.name for figure in page_figures(Board(rows(["dpo"], 4.0)))] == ["cost", "reward-kl", "curve"]


def test_pictures_of_a_page_are_small_opaque_and_named(board: Board) -> None:
    for figure in page_figures(board):
        picture = page_picture(figure)
        tree = ET.fromstring(picture)
        assert len(picture.encode()) < 60_000
        assert (tree.get("role"), tree.get("aria-label"), tree.get("width")) == ("img", figure.title, "800")
        width, height = (float(part) for part in str(tree.get("viewBox")).split()[2:])
        assert float(str(tree.get("height"))) / 800 == pytest.approx(height / width, rel=0.01)
        assert str(tree[0].tag).endswith("title") and tree[0].text == figure.title
        background = next(element for element in tree.iter() if str(element.tag).endswith("path"))
        assert background.get("style") == "fill: #ffffff"
        corners = f"M 0 {height:g} L {width:g} {height:g} L {width:g} 0 L 0 0 z"
        assert " ".join(str(background.get("d")).split()) == corners
        assert "<dc:date>" not in picture
        text = "".join(tree.itertext())
        assert all(method in text for method in board.methods if method.isprintable() and len(method) < 30)


def test_a_picture_is_drawn_only_where_its_numbers_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, drawn = tmp_path / "demo" / "pairs-96", list[str]()
    for run in rows(["dpo", "sail-pr"], 4.0):
        write_result(result_path(tmp_path, "demo", "pairs-96", run.method, 0), run)

    def draw_it(figure: Figure) -> str:
        drawn.append(figure.name)
        return page_picture(figure)

    monkeypatch.setattr(figure_files, "page_picture", draw_it)
    assert set(write_leaderboard(folder)) == {
        "LEADERBOARD.md", "summary.json", "cost.svg", "reward-kl.svg", "curve.svg",
    }  # fmt: skip
    assert drawn == ["cost", "reward-kl", "curve"]
    cost = folder / "cost.svg"
    other = cost.read_text().partition(figure_files.SEAL)[0].replace("</svg>", "<!-- of another matplotlib --></svg>")
    for text in (other, figure_files._sealed(other)):  # of a version before pictures were sealed, and since
        cost.write_text(text)
        assert stale_files(folder) == []
    write_leaderboard(folder)
    assert drawn == ["cost", "reward-kl", "curve"]
    for run in with_costs(read_results(folder), forward_flops=3e12, seconds=9.0):
        write_result(result_path(tmp_path, "demo", "pairs-96", run.method, 0), run)
    (folder / "curve.svg").unlink()
    assert {"cost.svg", "curve.svg"} == {name for name in stale_files(folder) if name.endswith(".svg")}
    write_leaderboard(folder)
    assert drawn[3:] == ["cost", "curve"]
    assert stale_files(folder) == []


def test_pictures_carry_the_hash_of_their_numbers_and_are_stable() -> None:
    figure = figures_of(Board(rows(["dpo", "sail-pr"], 4.0)))[0]
    assert page_picture(figure) == page_picture(figure)
    made, again = pictures_of(figure), pictures_of(figure)
    assert set(made) == {"svg", "png", "pdf"}
    for form, content in made.items():
        assert figure_key(figure).encode() in content
        assert content == again[form]
    assert json.loads(json.dumps(record(figure))) == record(figure)


def test_check_finds_what_is_stale(tmp_path: Path) -> None:
    board = Board(rows(["dpo", "sail-pr"], 4.0))
    assert len(write_figures(board, tmp_path)) == 18
    assert stale_figures(board, tmp_path) == []
    (tmp_path / "cost.svg").write_bytes((tmp_path / "cost.svg").read_bytes() + b"\n<!-- other bytes -->")
    assert stale_figures(board, tmp_path) == []
    numbers = json.loads((tmp_path / "cost.json").read_text())
    numbers["marks"][0]["y"][0] += 0.001
    (tmp_path / "cost.json").write_text(json.dumps(numbers))
    (tmp_path / "reward-kl.pdf").unlink()
    (tmp_path / "scores.csv").write_text("method\n")
    other = figures_of(Board(rows(["dpo", "sail-pp"], 4.0)))[-1]
    (tmp_path / "differences.png").write_bytes(pictures_of(other, ["png"])["png"])
    assert [sentence.removeprefix(f"{tmp_path}/") for sentence in stale_figures(board, tmp_path)] == [
        "cost.json: marks[0].y[0] differs from the results",
        "reward-kl.pdf is not there",
        "differences.png was made from other numbers",
        "scores.csv differs from the results",
    ]


def test_latex_is_escaped() -> None:
    assert latex_text("50% & #1_a ~ ^ {x} $y$ \\z") == (
        r"50\% \& \#1\_a \textasciitilde{} \textasciicircum{} \{x\} \$y\$ \textbackslash{}z"
    )
    table = latex_table(Board(rows(["dpo", *HOSTILE], 2.0)))
    body = re.sub(r"\\[%&#_{}$\\]|\\text\w+\{\}|\\scriptsize|\$[-^{}+]+\$", "", table.split(r"\midrule")[1])
    assert not re.search(r"[%#_$^~\\\x1b\u202e]", body.split(r"\bottomrule")[0])
    for line in table.split(r"\midrule")[1].splitlines()[1:-2]:
        assert len(re.findall(r"(?<!\\)&", line)) == 4


def test_csv_reads_back() -> None:
    board = Board(rows(["dpo", *HOSTILE], 2.0))
    read = list(csv.DictReader(io.StringIO(csv_table(board))))
    assert len(read) == 8
    cell = board.cell("dpo", board.columns(primary=True)[1])
    assert cell is not None
    assert float(read[1]["b.gold_reward_low"]) == pytest.approx(cell.interval.low, rel=1e-5)
    assert csv_text("=HYPERLINK(1)") == "'=HYPERLINK(1)"
    assert csv_text("dpo") == "dpo"


def test_the_command(tmp_path: Path) -> None:
    for run in rows(["dpo", "sail-pr"], 4.0):
        run.benchmarks = run.benchmarks[:1]
        write_result(result_path(tmp_path / "results", "demo", "pairs-96", run.method, 0), run)
    arguments = ("figures", "demo", "--results", tmp_path / "results", "--out", tmp_path / "out")
    assert run_here(*arguments, "--check").returncode == 1
    assert run_here(*arguments).returncode == 0
    assert run_here(*arguments, "--check").returncode == 0
    board = Board(read_results(tmp_path / "results" / "demo" / "pairs-96"))
    assert stale_figures(board, tmp_path / "out" / "demo" / "pairs-96") == []
