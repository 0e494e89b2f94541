"""The facts that the rules behind a page's verdict read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.board import Board, Column
from harness.report.costs import amount
from harness.report.markdown import code
from harness.report.ranking import Costs, Ranking, Row
from harness.report.trust import lottery_of
from harness.score.seed_lottery import SeedLottery
from harness.score.verdicts import Difference, Verdict


@dataclass(frozen=True)
class Elsewhere:
    """A headline but the first: its title, who judged it ("" if nobody did), and who is shown to be ``better`` or
    ``worse`` there than the reference, ``start`` among them."""

    title: str
    judge: str
    better: tuple[str, ...]
    worse: tuple[str, ...]


NAMED = 4
"""So many methods are named at most; of more it is said how many."""


@dataclass(frozen=True)
class Facts:
    """What the rules read.

    Attributes:
        column: the headline; None if nothing can be ranked.
        judge: who judged it; "" if nobody did.
        reference: the row that the others are compared with.
        rows: by method, of the first table.
        trained: trained methods with a value in the headline, controls left out, from the best to the worst.
        from_start: differences to ``start``; None if it has no value.
        from_reference: differences to the reference; None if it has no value.
        elsewhere: the headlines after the first.
        lottery: what one seed would have said of the best method; None if nothing can be ranked.
        detectable: the smallest difference to the reference (to ``start`` where there is none) that could show.
        axis: what the budget matches; ``limit`` is how much of it, in words.
        device: where the hours were spent.
        unfinished: benchmarks that a method is still to be measured on.
    """

    column: Column | None
    judge: str
    reference: str
    rows: dict[str, Row]
    trained: tuple[str, ...]
    from_start: dict[str, Difference] | None
    from_reference: dict[str, Difference] | None
    elsewhere: tuple[Elsewhere, ...]
    lottery: SeedLottery | None
    detectable: float | None
    axis: str
    limit: str
    device: str
    unfinished: dict[str, str]

    @property
    def others(self) -> list[str]:
        """Trained methods but the reference."""
        return [m for m in self.trained if m != self.reference]

    @property
    def costs(self) -> dict[str, Costs]:
        """Of the trained methods whose spending was recorded."""
        return {m: costs for m in self.trained if (costs := self.rows[m].costs) and costs.hours > 0}

    def names(self, methods: Sequence[str]) -> str:
        """Some of the trained methods in words."""
        if len(methods) > 1 and set(methods) == set(self.trained):
            return "both trained methods" if len(methods) == 2 else f"all {len(methods)} trained methods"
        if len(methods) > NAMED:
            return f"{len(methods)} of {len(self.trained)} trained methods"
        return listed([code(m) for m in methods])

    def none_of(self, methods: Sequence[str]) -> str:
        """Some of the trained methods in words, with a verb that denies: ``none of the 4 trained methods is``."""
        if len(methods) > 1 and set(methods) == set(self.trained):
            count = len(methods)
            return "neither trained method is" if count == 2 else f"none of the {count} trained methods is"
        return f"{self.names(methods)} {'is' if len(methods) == 1 else 'are'} not"


def facts_of(board: Board, ranking: Ranking) -> Facts:
    """The facts of a page."""
    column = ranking.columns[0] if ranking.columns else None
    cells = {} if column is None else {m: c for m in board.methods if (c := board.cell(m, column))}
    measured = [m for m, cell in cells.items() if cell.interval.has_value]
    if not measured:
        column = None

    def differences(other: str) -> dict[str, Difference] | None:
        return None if column is None or other not in measured else board.comparisons_with(other, column)

    budget, base = board.results[0].budget, board.reference if board.reference in measured else "start"
    return Facts(
        column=column,
        judge="" if column is None else _judge(board, column),
        reference=board.reference,
        rows={row.method: row for row in ranking.rows},
        trained=tuple(row.method for row in ranking.methods if row.method in measured),
        from_start=differences("start"),
        from_reference=differences(board.reference),
        elsewhere=tuple(_elsewhere(board, ranking, place) for place in range(1, len(ranking.columns))),
        lottery=None if column is None else lottery_of(board, column, [row.method for row in ranking.controls]),
        detectable=None if column is None else board.detectable(column, base),
        axis=budget["axis"],
        limit=amount(budget["axis"], budget["limit"]),
        device="a GPU" if any(r.environment.get("gpu") for r in board.finished) else "a CPU",
        unfinished={r.method: ", ".join(r.pending) for r in board.finished if r.pending},
    )


def _elsewhere(board: Board, ranking: Ranking, place: int) -> Elsewhere:
    """A headline after the first. Of the controls ``start`` alone is read: the others show what a score is worth."""
    column, rows = ranking.columns[place], [r for r in ranking.rows if r not in ranking.controls or r.method == "start"]
    better, worse = (
        tuple(row.method for row in rows if row.scores[place].verdict is verdict)
        for verdict in (Verdict.BETTER, Verdict.WORSE)
    )
    return Elsewhere(column.title, _judge(board, column), better, worse)


def _judge(board: Board, column: Column) -> str:
    """Who judged a column, in words."""
    benchmarks = [b for r in board.finished for b in r.benchmarks]
    of_column = [b for b in benchmarks if (b.benchmark, b.protocol_hash) == column.key[:2]]
    judge = next((b.judge for b in of_column if b.judge), None)
    if judge is None:
        return ""
    return code(judge["model"]) if judge["kind"] == "endpoint" else "the start policy itself, a weak judge"


def listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
