"""The section of a leaderboard page on costs: spending on every axis of a budget, by purpose, and in money."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from harness.budget.ledger import AXES, FLOPS
from harness.report.board import Board
from harness.report.markdown import code, markdown_table, plain
from harness.report.spent import mean_spent, spent_on
from harness.report.text import power_text
from harness.score.results import RunResult

SpendingOf = Callable[[RunResult], float]
TITLES = {"flops": "FLOPs"}


def amount(axis: str, value: float) -> str:
    """A spending with its unit: ``64 pairs``, ``2·10¹³ FLOPs``."""
    return f"{_number(axis, value)} {_title(axis)}"


def _title(axis: str) -> str:
    return TITLES.get(axis, axis.replace("_", " "))


def _number(axis: str, value: float, sign: str = "") -> str:
    return power_text(value, sign=sign == "+") if axis == "flops" else f"{value:{sign},.0f}"


def budget_line(budget: dict[str, Any]) -> str:
    """What the matched axis means, its caps, and whether the stored pairs are free."""
    caps = "".join(f", capped at {amount(axis, limit)}" for axis, limit in budget.get("caps", {}).items())
    line = f"**Budget** `{budget['name']}`, version {budget.get('version', 1)}: {AXES[budget['axis']]}{caps}."
    if budget.get("free_data"):
        line += " The recipe declares the stored pairs **free**: they count towards no axis."
    return line


def _sum(quantities: Sequence[str], *phases: str, search: bool = False) -> SpendingOf:
    """Reads the sum of some quantities of some phases from a run's ledger, or from that of its search."""

    def read(run: RunResult) -> float:
        spent = (run.tuning_ledger if search else run.ledger).get("phases", {})
        return float(sum(spent.get(phase, {}).get(q, 0) for phase in phases for q in quantities))

    return read


def _money(run: RunResult) -> float:
    """Everything a run cost with its share of the search: device time, labels, verdicts."""
    prices, total = run.prices, 0.0
    for spent in (run.ledger.get("phases", {}), run.tuning_ledger.get("phases", {})):
        seconds = sum(row.get("seconds", 0) for phase, row in spent.items() if phase != "wall")
        total += seconds / 3600 * prices.get("device_hour", 0)
        total += sum(spent.get(p, {}).get("calls", 0) for p in ("data", "oracle")) * prices.get("oracle_call", 0)
        total += spent.get("judge", {}).get("calls", 0) * prices.get("judge_call", 0)
    return total


UNDECIDED = "labels without a verdict"
POWER = "power"
"""The format of FLOPs: two digits and the power of ten."""


class Detail(NamedTuple):
    """A row of the detailed table: its title, how to read it from a run, and the format of the number, or ``POWER``."""

    title: str
    read: SpendingOf
    form: str


DETAILS = (
    Detail("stored pairs used", _sum(["pairs"], "data"), ",.0f"),
    Detail("FLOPs: stored pairs", _sum(FLOPS, "data"), POWER),
    Detail("FLOPs: train forward", _sum(["forward_flops"], "train"), POWER),
    Detail("FLOPs: train backward", _sum(["backward_flops"], "train"), POWER),
    Detail("FLOPs: recomputed in the backward (in no budget)", _sum(["recomputed_flops"], "train"), POWER),
    Detail("FLOPs: reference", _sum(FLOPS, "reference"), POWER),
    Detail("FLOPs: sampling, prefill", _sum(["prefill_flops"], "generate"), POWER),
    Detail("FLOPs: sampling, decode", _sum(["decode_flops"], "generate"), POWER),
    Detail("FLOPs: oracle", _sum(FLOPS, "oracle"), POWER),
    Detail("reference tokens", _sum(["tokens"], "reference"), ",.0f"),
    Detail("seconds: stored pairs", _sum(["seconds"], "data"), ",.0f"),
    Detail("seconds: loading", _sum(["seconds"], "setup"), ",.0f"),
    Detail("seconds: training", _sum(["seconds"], "train"), ",.0f"),
    Detail("seconds: reference", _sum(["seconds"], "reference"), ",.0f"),
    Detail("seconds: sampling", _sum(["seconds"], "generate"), ",.0f"),
    Detail("seconds: oracle", _sum(["seconds"], "oracle"), ",.0f"),
    Detail("wall seconds of training", _sum(["seconds"], "wall"), ",.0f"),
    Detail("search: FLOPs", _sum(FLOPS, "train", "reference", "generate", "eval", search=True), POWER),
    Detail("search: trained tokens", _sum(["tokens"], "train", search=True), ",.0f"),
    Detail("search: generated tokens", _sum(["generated"], "generate", "eval", search=True), ",.0f"),
    Detail("search: oracle calls", _sum(["calls"], "oracle", search=True), ",.0f"),
    Detail("search: seconds", _sum(["seconds"], "train", "reference", "generate", "eval", search=True), ",.0f"),
    Detail("evaluation seconds", _sum(["seconds"], "eval"), ",.0f"),
    Detail(UNDECIDED, _sum(["undecided"], "data", "oracle"), ",.0f"),
    Detail("judge calls", _sum(["calls"], "judge"), ",.0f"),
    Detail("judge seconds", _sum(["seconds"], "judge"), ",.0f"),
    Detail("peak memory GiB", lambda run: float(run.ledger["peak_memory_bytes"]) / 2**30, ".1f"),
    Detail("peak GPU memory GiB", lambda run: float(run.ledger.get("peak_device_bytes", 0)) / 2**30, ".1f"),
)


def costs_section(board: Board) -> str:
    """What each method spent, the mean over its seeds."""
    if not board.methods:
        return ""
    matched = board.results[0].budget["axis"]
    axes = [a for a in AXES if a == matched or any(spent_on(r, a) for r in board.finished)]
    header = ["method", *[f"**{_title(a)}** (matched)" if a == matched else _title(a) for a in axes]]
    rows = []
    for method in board.methods:
        runs = board.runs_of(method)
        row = [_number(axis, mean_spent(runs, axis)) for axis in axes]
        rows.append([code(method), *row, _overshoot(runs, matched), _ended_by(runs, matched)])
    paragraphs = [
        markdown_table([*header, "over (+) or under (−) the limit", "ended by"], rows),
        "Mean over seeds, from the ledger. A run stops at the first step boundary at or beyond the limit; it never "
        "buys half a step. The stored pairs are paid for by whoever uses them, at their first use: the answers sampled "
        "for them, and the labels of all of those. FLOPs are counted from the shapes that passed through the model. "
        "Seconds are of one machine and include waiting. *Ended by itself*: no whole step was left to buy, a pass over "
        "the pairs spent nothing on the matched axis, or the method stopped early.",
        _details(board),
    ]
    if any(run.ledger["phases"].get("data") and "bought" not in run.ledger for run in board.finished):
        paragraphs.append(
            "These results are of an earlier version, which charged the sampling of all stored pairs, the held-out "
            "ones included, to every method, and counted no FLOPs."
        )
    return "\n\n".join(paragraphs)


def _overshoot(runs: Sequence[RunResult], axis: str) -> str:
    """How far the run that missed the limit most was from it."""
    trained = [r for r in runs if r.learning_rate is not None]
    if not trained:
        return ""
    most = max(trained, key=lambda r: abs(r.overshoot))
    share = 100 * most.overshoot / most.budget["limit"]
    return f"{_number(axis, most.overshoot, '+')} ({share:+.1f}%)".replace("-", "−")


def _ended_by(runs: Sequence[RunResult], axis: str) -> str:
    """What ended the runs: the matched limit, a cap on another axis, or the runs themselves."""
    trained = [r for r in runs if r.learning_rate is not None]
    reasons = sorted({r.stopped_by or (axis if r.overshoot >= 0 else "") for r in trained})
    words = {axis: "the limit", "": "itself"}
    return ", ".join(words.get(reason, f"**cap on {reason}**") for reason in reasons)


def _undecided_by_reason(board: Board) -> list[Detail]:
    """Rows of the labels without a verdict for each reason that an oracle gave."""
    phases = [run.ledger["phases"].get(phase, {}) for run in board.finished for phase in ("data", "oracle")]
    quantities = sorted({q for spent in phases for q in spent if q.startswith("undecided: ")})
    reasons = {q: plain(q.split(": ", 1)[1]) for q in quantities}
    return [Detail(f"{UNDECIDED}: {why}", _sum([q], "data", "oracle"), ",.0f") for q, why in reasons.items()]


def _formatted(value: float, form: str) -> str:
    return power_text(value, 2) if form == POWER else f"{value:{form}}"


def _details(board: Board) -> str:
    shown = [d for d in DETAILS if any(d.read(r) for r in board.finished)]
    priced = next((r.prices for r in board.finished if r.prices), None)
    if priced:
        shown.append(Detail(f"money, {plain(priced['currency'])}", _money, ",.4f"))
    at = next((i for i, d in enumerate(shown, start=1) if d.title == UNDECIDED), 0)
    shown[at:at] = _undecided_by_reason(board)
    rows = []
    for title, read, form in shown:
        values = [[read(r) for r in board.runs_of(method)] for method in board.methods]
        rows.append([title, *[_formatted(sum(v) / len(v), form) if any(v) else "" for v in values]])
    note = (
        "*Search*: the trials not kept, and scoring all trials. The start policy's answers in evaluation are charged "
        "to the first row of the comparison. Time between two forwards belongs to the first of them; *wall* seconds "
        "hold whatever a method did that no meter sees."
    )
    if priced:
        prices = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in priced.items() if k != "currency" and v)
        note += f" Money: {prices} ({plain(priced['currency'])}); training, search, evaluation and judge together."
    return "### Where it went\n\n" + markdown_table(["", *[code(m) for m in board.methods]], rows) + "\n\n" + note
