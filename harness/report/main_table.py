"""The first table of a page, and the legend under it."""

from __future__ import annotations

from harness.report.board import Board
from harness.report.legend_words import uneven_marks, words_of
from harness.report.markdown import code, markdown_table, plain
from harness.report.ranking import Ranking, Row, Score, time_of
from harness.report.spent import TimeUnit
from harness.report.text import format_interval, format_number, power_text, time_text
from harness.score.verdicts import Verdict

MARKS = {Verdict.BETTER: "**▲**", Verdict.WORSE: "**▼**", Verdict.NO_DIFFERENCE: "·"}
LONGEST_ERROR = 120
"""Characters of the reason for which a run failed; the whole of it stands below."""


def device_time(board: Board, unit: TimeUnit) -> str:
    """How the time of a run is called: of a GPU if any of the page's runs had one."""
    on_gpu = any(r.environment.get("gpu") for r in board.finished)
    return f"GPU-{unit.name}" if on_gpu else f"{unit.name} on CPU"


def main_table(board: Board, ranking: Ranking) -> str:
    """The table: a row a method, the controls under a rule of their own."""
    headings = [column.heading for column in ranking.columns] or ["score"]
    header = ["method", *headings, device_time(board, time_of(ranking)), "FLOPs", "labels", "KL"]
    width = len(header)
    rows = [_cells(row, ranking) for row in ranking.methods]
    if ranking.controls:
        rows.append(["*controls*", *[""] * (width - 1)])
        rows += [_cells(row, ranking) for row in ranking.controls]
    if board.methods and ranking.columns:
        sizes = [format_number(board.detectable(c, board.reference), c.metric.unit) for c in ranking.columns]
        rows.append(["*smallest difference that could show*", *sizes, *[""] * 4])
    return markdown_table(header, rows)


def _cells(row: Row, ranking: Ranking) -> list[str]:
    name = code(row.method) + (" †" if row.is_stale and not all(r.is_stale for r in ranking.rows) else "")
    name += " ‡" if _untuned(row) and not _all_untuned(ranking) else ""
    if row.seeds + row.failed > 1:
        name += f" ({row.seeds} of {row.seeds + row.failed} seeds)" if row.failed else f" ({row.seeds} seeds)"
    units = [column.metric.unit for column in ranking.columns]
    scores = [_score(score, unit) for score, unit in zip(row.scores, units, strict=True)]
    if not row.seeds:
        why = plain(row.error)
        short = why if len(why) <= LONGEST_ERROR else why[:LONGEST_ERROR].rstrip("\\") + " ..."
        scores = [f"**failed**: {short}", *scores[1:]]
    costs = ["", "", ""]
    if row.costs:
        flops = "not counted" if row.costs.flops is None else power_text(row.costs.flops)
        time = time_text(3600 * row.costs.hours / time_of(ranking).seconds)
        costs = [time, flops, f"{row.costs.labels:,.0f}"]
    kl = format_number(row.kl.interval.value, "nats") if row.kl else ""
    return [name, *(scores or [""]), *costs, kl]


def _score(score: Score, unit: str) -> str:
    if score.cell is None:
        return "" if score.missing == "failed" else score.missing
    text = format_interval(score.cell.interval, unit)
    if score.cell.n_valid < score.cell.n_total:
        text += f" ({score.cell.n_valid}/{score.cell.n_total})"
    return f"{text} {MARKS[score.verdict]}" if score.verdict in MARKS else text


def _untuned(row: Row) -> bool:
    return row.tuning is not None and not row.tuning.tuned


def _all_untuned(ranking: Ranking) -> bool:
    trained = [row for row in ranking.methods if row.tuning is not None]
    return len(trained) > 1 and all(map(_untuned, trained))


def legend(board: Board, ranking: Ranking) -> str:
    """What the marks, columns and words of the table mean."""
    reference = code(board.reference)
    time = device_time(board, time_of(ranking))
    sentences = [
        f"▲ better, ▼ worse than {reference} on the same prompts (corrected for the number of comparisons); · no "
        "difference shown. Brackets: 95% intervals. Last row: the true difference to "
        f"{reference} that would show with power 80%, the median over rows. {time[0].upper()}{time[1:]}, FLOPs and "
        "labels: of one run with the stored pairs it used; search and evaluation stand under *Cost*. KL: to the start "
        "policy, nats an answer.",
        uneven_marks(board, ranking),
    ]
    if any(row.is_stale for row in ranking.rows) and not all(row.is_stale for row in ranking.rows):
        sentences.append("† stale: made by an earlier version of SAIL-bench.")
    untuned = "the search had one value, or kept one at the edge of what was tried (*Search* has which)"
    if _all_untuned(ranking):
        sentences.append(f"**No method is tuned**: {untuned}.")
    elif any(map(_untuned, ranking.methods)):
        sentences.append(f"‡ not tuned: {untuned}.")
    if any(score.missing == "stale" for row in ranking.rows for score in row.scores):
        sentences.append("*Stale* cells were measured under an older protocol: their values stand further below.")
    return "\n\n".join(filter(None, [" ".join(filter(None, sentences)), words_of(ranking.columns)]))
