"""What the words in the headings of a page mean, and why one row has a mark where another has none."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.board import Board, Column
from harness.report.markdown import code
from harness.report.ranking import Ranking
from harness.report.text import format_interval, format_number
from harness.score.verdicts import Difference, Verdict

GOLD = "gold reward is what the evaluation oracle gives, the mean over answers to prompts that no method trained on"
MET = "share met is the part of a prompt's checkable constraints that its answer meets"
AREA = "area under gold reward is its mean over the course of training; not in the verdict"
MINI = "mini is a small set written for this project, not the real benchmark"
VERSION = "v1, v2 are versions of a benchmark's protocol"
LC, SC = "LC is length-controlled", "SC is style-controlled"
LABELS = "labels are oracle calls, those that made the stored pairs included, which may be several a pair"


def words_of(columns: Sequence[Column]) -> str:
    """A line that explains the words in the headings of some columns, and the labels; "" without columns."""
    titles = {word for column in columns for word in column.metric.title.split()}
    every = [
        (GOLD, any(c.metric.name == "gold_reward" for c in columns)),
        (MET, any(c.metric.unit == "share met" for c in columns)),
        (AREA, any(c.benchmark == "curve" for c in columns)),
        (MINI, any(c.label == "mini" for c in columns)),
        (VERSION, any(c.version is not None for c in columns)),
        (LC, "LC" in titles),
        (SC, "SC" in titles),
        (LABELS, bool(columns)),
    ]
    texts = [text for text, is_there in every if is_there]
    return f"Words: {'; '.join(texts)}." if texts else ""


def uneven_marks(board: Board, ranking: Ranking) -> str:
    """Why a larger difference in the headline has no mark where a smaller one has; "" unless that is so."""
    if not ranking.columns:
        return ""
    column = ranking.columns[0]
    family = board.comparisons_with(board.reference, column).values()
    loud = [d for d in family if d.verdict in (Verdict.BETTER, Verdict.WORSE)]
    pairs = [(q, d) for d in loud for q in family if q.verdict is Verdict.NO_DIFFERENCE and _wider(q, d)]
    if not pairs:
        return ""
    quiet, marked = min(pairs, key=lambda pair: (abs(pair[1].interval.value), -abs(pair[0].interval.value)))
    unit, several = column.metric.unit, any(row.seeds > 1 for row in ranking.methods)
    values = [format_number(d.interval.value, unit, sign=True) for d in (marked, quiet)]
    spans = [format_interval(d.interval, unit, sign=True) for d in (quiet, marked)]
    return (
        f"A mark needs a difference that is large for its own spread: {code(marked.model)} ({values[0]}) has one and "
        f"{code(quiet.model)} ({values[1]}) has none, since the latter varies more over "
        f"{'prompts and seeds' if several else 'prompts'} ({spans[0]} against {spans[1]})."
    )


def _wider(quiet: Difference, marked: Difference) -> bool:
    """Whether a difference without a mark is the larger one, in the same direction, and has the wider interval."""
    a, b = quiet.interval, marked.interval
    return a.value * b.value > 0 and abs(a.value) > abs(b.value) and a.high - a.low > b.high - b.low
