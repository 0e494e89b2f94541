"""Pictures and tables for papers: no text over another, no interval cut off, numbers that a check can compare."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from kit.command import run_here
from kit.results import PEOPLE, run_result
from matplotlib.backends.backend_agg import FigureCanvasAgg

from harness.report.board import Board
from harness.report.drawing import SETTINGS, draw, pictures_of
from harness.report.figure_files import stale_figures, write_figures
from harness.report.figures import Forest, Scatter, figure_key, figures_of, record, score_against_cost
from harness.report.paper_table import csv_table, csv_text, latex_table, latex_text
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


def rows(names: list[str], spread: float) -> list[RunResult]:
    """Methods on four benchmarks; costs between 1 and ``spread`` times 1e12 FLOPs."""
    rng, made = np.random.default_rng(7), []
    units = [("preference", "gold reward", "share met"), ("b", "A benchmark with a long title, official", "win %")]
    units += [("c", "MT-Bench", "rating 1-10"), ("d", "MMLU", "acc %")]
    for place, name in enumerate(["start", *names]):
        scored = [benchmark(n, t, u, rng.normal(0.05 * place, 0.5, PEOPLE)) for n, t, u in units]
        flops = {"forward_flops": 1e12 * spread ** (place / len(names)), "seconds": 100.0 * place}
        ledger = {"phases": {"train": flops}, "peak_memory_bytes": 1}
        trained = {} if name == "start" else {"learning_rate": 1e-3, "ledger": ledger}
        made.append(run_result(name, scored, reference=names[0], **trained))
    return made


CASES = {
    "two, one cost": (["dpo", "sail-pr"], 1.0),
    "twenty, four decades": ([f"method-{i}" for i in range(20)], 1e4),
    "names that would act": (["dpo", *HOSTILE], 20.0),
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


def test_no_text_lies_over_another_or_off_the_page(board: Board) -> None:
    with matplotlib.rc_context(SETTINGS):
        for figure in figures_of(board):
            canvas = draw(figure)
            FigureCanvasAgg(canvas).draw()
            page = canvas.bbox
            boxes = [(t.get_text(), t.get_window_extent()) for t in texts(canvas)]
            assert len(boxes) > 8
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


def test_axes_hold_every_interval(board: Board) -> None:
    with matplotlib.rc_context(SETTINGS):
        for figure in figures_of(board):
            axes = draw(figure).axes
            if isinstance(figure, Scatter):
                marks = [*figure.marks, *([figure.level] if figure.level else [])]
                assert all(inside(mark.y, axes[0].get_ylim()) for mark in marks)
                assert all(inside(mark.x, axes[0].get_xlim()) for mark in figure.marks)
            else:
                for place, panel in enumerate(figure.panels):
                    assert all(inside(row.span, axes[place].get_xlim()) for row in panel.differences)


def test_rows_differ_without_colour() -> None:
    """In grey print, neighbours in colour have another shape."""
    from harness.report.drawing import COLOURS, SHAPES

    assert len({(i % len(COLOURS), i % len(SHAPES)) for i in range(70)}) == 70
    assert len(set(SHAPES)) == len(SHAPES)


def test_figures_hold_the_boards_numbers() -> None:
    board = Board(rows(["dpo", "sail-pr"], 4.0))
    cost, differences, kl = figures_of(board)
    assert isinstance(cost, Scatter) and isinstance(differences, Forest) and isinstance(kl, Scatter)
    column = board.columns(primary=True)[0]
    cell = board.cell("dpo", column)
    assert cell is not None
    assert cost.marks[0].y == (cell.interval.value, cell.interval.low, cell.interval.high)
    assert [m.x.value for m in cost.marks] == pytest.approx([2e12, 4e12])
    assert cost.level is not None
    assert cost.level.name == "start"
    assert {row.name for row in differences.panels[0].differences} == {"start", "sail-pr"}
    assert len(differences.panels) == 4
    hours = score_against_cost(board, cost="hours")
    assert hours is not None
    assert [m.x.value for m in hours.marks] == pytest.approx([100 / 3600, 200 / 3600])


def test_pictures_carry_the_hash_of_their_numbers_and_are_stable() -> None:
    figure = figures_of(Board(rows(["dpo", "sail-pr"], 4.0)))[0]
    made, again = pictures_of(figure), pictures_of(figure)
    assert set(made) == {"svg", "png", "pdf"}
    for form, content in made.items():
        assert figure_key(figure).encode() in content
        assert content == again[form]
    assert json.loads(json.dumps(record(figure))) == record(figure)


def test_check_finds_what_is_stale(tmp_path: Path) -> None:
    board = Board(rows(["dpo", "sail-pr"], 4.0))
    assert len(write_figures(board, tmp_path)) == 14
    assert stale_figures(board, tmp_path) == []
    (tmp_path / "score-cost.svg").write_bytes((tmp_path / "score-cost.svg").read_bytes() + b"\n<!-- other bytes -->")
    assert stale_figures(board, tmp_path) == []
    numbers = json.loads((tmp_path / "score-cost.json").read_text())
    numbers["marks"][0]["y"][0] += 0.001
    (tmp_path / "score-cost.json").write_text(json.dumps(numbers))
    (tmp_path / "reward-kl.pdf").unlink()
    (tmp_path / "scores.csv").write_text("method\n")
    other = figures_of(Board(rows(["dpo", "sail-pp"], 4.0)))[1]
    (tmp_path / "differences.png").write_bytes(pictures_of(other)["png"])
    assert [sentence.removeprefix(f"{tmp_path}/") for sentence in stale_figures(board, tmp_path)] == [
        "score-cost.json: marks[0].y[0] differs from the results",
        "differences.png was made from other numbers",
        "reward-kl.pdf is not there",
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
