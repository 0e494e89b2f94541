"""The verdict of a page in a few sentences, by rules from its statistics.

Each part of a sentence is the answer of one rule of :mod:`.summary_rules` or :mod:`.summary_choice`, named with it.
They say nothing that the intervals, corrected for the number of comparisons, do not carry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.report import summary_rules as rules
from harness.report.board import Board
from harness.report.ranking import Ranking, Row, ranking_of
from harness.report.summary_choice import choice
from harness.report.summary_facts import facts_of


@dataclass(frozen=True)
class Sentence:
    """A sentence in Markdown, and the names of the rules that gave its parts."""

    rules: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Summary:
    """The verdict of a page: ``headline`` is the title of the column it is about, "" if nothing can be ranked."""

    headline: str
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """The sentences as a Markdown list."""
        return "\n".join(f"* {sentence.text}" for sentence in self.sentences)


SENTENCES = (
    (rules.nothing_to_rank,),
    (rules.against_start,),
    (rules.against_reference, rules.elsewhere, rules.detectable, rules.seeds),
    (rules.cost, choice),
    (rules.failed, rules.pending, rules.stale),
)
"""The rules of each sentence, in the order of the page. A rule that has nothing to say leaves its part out."""


def summary_of(board: Board, ranking: Ranking | None = None) -> Summary:
    """The verdict.

    Args:
        board: all results of a page, at least one.
        ranking: its first table, if it was made before.
    """
    facts = facts_of(board, ranking or ranking_of(board))
    sentences = []
    for parts in SENTENCES:
        spoken = [(rule.__name__, text) for rule in parts if (text := rule(facts))]
        if spoken:
            joined = " ".join(f"{_capital(text)}." for _, text in spoken)
            sentences.append(Sentence(tuple(name for name, _ in spoken), joined))
    return Summary(facts.column.title if facts.column else "", tuple(sentences))


def _capital(text: str) -> str:
    """With a capital letter, unless it begins with code."""
    return re.sub(r"^(\**)(\w)", lambda begin: begin[1] + begin[2].upper(), text)


def summary_json(board: Board, ranking: Ranking, summary: Summary) -> dict[str, Any]:
    """The verdict and the first table as JSON.

    Args:
        board: all results of a page.
        ranking: its first table.
        summary: its verdict.
    """
    run = board.results[0]
    return {
        "recipe": run.recipe,
        "budget": {"name": run.budget["name"], "axis": run.budget["axis"], "limit": run.budget["limit"]},
        "reference": board.reference,
        "headline": summary.headline,
        "sentences": [{"rules": list(s.rules), "text": s.text} for s in summary.sentences],
        "columns": [
            {"benchmark": c.benchmark, "metric": c.metric.name, "title": c.title, "unit": c.metric.unit}
            | {"version": c.version, "protocol_hash": c.protocol_hash}
            | {"smallest_difference": _number(board.detectable(c, board.reference))}
            for c in ranking.columns
        ],
        "rows": [_row(row) | {"control": row in ranking.controls} for row in ranking.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    costs = row.costs
    return {
        "method": row.method,
        "seeds": row.seeds,
        "failed": row.failed,
        "error": row.error,
        "stale": row.is_stale,
        "tuning": row.tuning.text if row.tuning else None,
        "scores": [_score(row, place) for place in range(len(row.scores))],
        "hours": _number(costs.hours) if costs else None,
        "flops": _number(costs.flops) if costs else None,
        "labels": _number(costs.labels) if costs else None,
        "kl": _number(row.kl.interval.value) if row.kl else None,
    }


def _score(row: Row, place: int) -> dict[str, Any]:
    score = row.scores[place]
    if score.cell is None:
        return {"missing": score.missing}
    interval = score.cell.interval
    return {
        "value": _number(interval.value),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "n_valid": score.cell.n_valid,
        "n_total": score.cell.n_total,
        "verdict": None if score.verdict is None else str(score.verdict),
    }


def _number(value: float | None) -> float | None:
    """To six significant digits, which machines share; None where there is none."""
    return None if value is None or value != value else float(f"{value:.6g}")


def plain_sentences(summary: Summary) -> Sequence[str]:
    """The sentences without Markdown, for a terminal."""
    return [s.text.replace("**", "").replace("`", "").replace("\\", "") for s in summary.sentences]
