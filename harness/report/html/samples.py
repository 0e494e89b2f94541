"""Samples for the browser: prompts, answers and verdicts of every run, read from the judged rows in the store.

Rows of benchmarks differ. What is read of one: ``prompt`` (a text, or one a turn), ``category`` or ``subject``; the
answer in ``text``, ``answer.text`` or ``turns``; verdicts in ``verdict``, ``ratings`` or ``games``; for a question with
options ``picked`` and ``answer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.report.board import Board
from harness.report.html.stored import Stored
from harness.score.results import BenchmarkResult, Columns, Metric
from harness.store.json_files import Row

WON_OR_LOST = ("preference", "preferred", "win", "win_reference")
RIGHT_OR_WRONG = ("correct", "correct_norm", "accuracy")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Judgment(NamedTuple):
    """What a judge said in one order or turn: which, its verdict, and its words if they were kept."""

    which: str
    verdict: str
    reason: str = ""


class Sample(NamedTuple):
    """One run's answer to one item.

    Attributes:
        id, category, prompt: of the item; ``prompt`` has one text a turn.
        answer: one text a turn.
        value: of the benchmark's headline score; None without a verdict.
        verdict: in a word.
        judgments: of the judge, by order or turn.
        tokens: of the answer; None if they were not counted.
        cut: whether it reached the longest length.
    """

    id: str
    category: str
    prompt: list[str]
    answer: list[str]
    value: float | None
    verdict: str
    judgments: list[Judgment]
    tokens: int | None
    cut: bool


class SampleSet(NamedTuple):
    """The samples of a benchmark under one protocol, by run."""

    benchmark: str
    title: str
    unit: str
    protocol: str
    runs: dict[str, list[Sample]]


def sample_sets(board: Board, stored: Stored) -> list[SampleSet]:
    """Every benchmark's samples that the store still holds; ``curve`` keeps no texts and has none."""
    sets: dict[tuple[str, str], SampleSet] = {}
    many = {m for m in board.methods if len(board.runs_of(m)) > 1}
    for method in board.methods:
        for run in board.runs_of(method):
            for scored in run.benchmarks:
                rows = stored.rows(run, scored)
                samples = _samples(rows, scored) if rows else []
                if not samples:
                    continue
                primary = _primary(scored)
                empty = SampleSet(scored.benchmark, scored.title, primary.unit, scored.protocol_hash, {})
                name = f"{method} · seed {run.seed}" if method in many else method
                sets.setdefault((scored.benchmark, scored.protocol_hash), empty).runs[name] = samples
    return list(sets.values())


def why_none(board: Board, sets: Sequence[SampleSet]) -> str:
    """Why there are no samples, or none of some runs; "" if all are there."""
    named = [run for run in board.finished if run.stages]
    if not board.finished or (sets and len(named) == len(board.finished)):
        return ""
    if not named:
        return (
            "These results are of a version that did not record where answers are stored. The same sail-bench compare "
            "command records it."
        )
    if not sets:
        return (
            "The store that holds answers and verdicts is not here: give its folder with --store. Everything else on "
            "this page comes from the result files alone."
        )
    return "Some runs are of a version that did not record where answers are stored; they are left out."


def set_json(samples: SampleSet) -> dict[str, Any]:
    """A set as the page reads it: prompts once, and for each run its answers in the order of the prompts."""
    items: dict[str, dict[str, Any]] = {}
    for run in samples.runs.values():
        for s in run:
            items.setdefault(s.id, {"id": s.id, "category": s.category, "prompt": s.prompt})
    places = {name: place for place, name in enumerate(items)}
    answers: dict[str, list[dict[str, Any] | None]] = {name: [None] * len(items) for name in samples.runs}
    for name, run in samples.runs.items():
        for s in run:
            record: dict[str, Any] = {"text": s.answer, "value": s.value, "verdict": s.verdict}
            record |= {"judgments": [j._asdict() for j in s.judgments]} if s.judgments else {}
            record |= {"tokens": s.tokens} if s.tokens is not None else {}
            answers[name][places[s.id]] = record | ({"cut": True} if s.cut else {})
    return {"items": list(items.values()), "answers": answers}


def _primary(scored: BenchmarkResult) -> Metric:
    return next((m for m in scored.metrics if m.primary), scored.metrics[0])


def _samples(rows: Sequence[Row], scored: BenchmarkResult) -> list[Sample]:
    if not scored.metrics:
        return []
    values = _values(scored)
    samples = []
    for place, row in enumerate(rows):
        answer = _answer(row)
        if not answer:
            continue
        name = str(row.get("id", row.get("question_id", row.get("index", place))))
        value, verdict = values.get(name, (None, "no verdict"))
        texts = [part["text"] for part in _answers(row)]
        tokens = [part.get("tokens") for part in _answers(row)]
        counted = [n for n in tokens if isinstance(n, int)]
        samples.append(
            Sample(
                id=name,
                category=str(row.get("category") or row.get("subject") or ""),
                prompt=_texts(row.get("prompt")),
                answer=texts or answer,
                value=value,
                verdict=verdict,
                judgments=list(_judgments(row)),
                tokens=sum(counted) if counted else None,
                cut=any(bool(part.get("truncated")) for part in _answers(row)),
            )
        )
    return samples


def _values(scored: BenchmarkResult) -> dict[str, tuple[float | None, str]]:
    """The headline value of each item, and its verdict in a word."""
    primary = _primary(scored)
    named: dict[str, tuple[float | None, str]] = {}
    groups = sorted(scored.items, key=lambda group: group != primary.estimator.group)
    for columns in (scored.items[group] for group in groups):
        for place, name in enumerate(columns["id"] if primary.estimator.column in columns else []):
            value = _number(columns[primary.estimator.column][place])
            named.setdefault(str(name), (value, _word(primary.estimator.column, value, columns, place)))
    return named


def _number(value: Any) -> float | None:
    """A value, or the mean of those of its turns; None where there is none."""
    parts = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int | float)]
    return float(sum(parts) / len(parts)) if parts else None


def _word(column: str, value: float | None, columns: Columns, place: int) -> str:
    if value is None:
        return "no verdict"
    if column in RIGHT_OR_WRONG:
        return "right" if value >= 1 else "wrong" if value <= 0 else "partly right"
    against = value if column in WON_OR_LOST else _number(columns["win"][place]) if "win" in columns else None
    if against is None:
        return "scored"
    return "win" if against > 0.5 else "loss" if against < 0.5 else "tie"


def _answers(row: Row) -> list[Row]:
    """The policy's answers in a row, one a turn."""
    turns = row.get("turns")
    if isinstance(turns, list):
        return [turn for turn in turns if isinstance(turn, dict) and "text" in turn]
    if isinstance(row.get("answer"), dict) and "text" in row["answer"]:
        return [row["answer"]]
    return [row] if isinstance(row.get("text"), str) else []


def _answer(row: Row) -> list[str]:
    texts = [str(part["text"]) for part in _answers(row)]
    if texts or not isinstance(row.get("picked"), int) or not isinstance(row.get("answer"), int):
        return texts
    options = row.get("options")

    def option(number: int) -> str:
        text = f": {options[number]}" if isinstance(options, list) and number < len(options) else ""
        return f"{LETTERS[number % 26]}{text}"

    return [f"picks {option(row['picked'])}\n(right: {option(row['answer'])})"]


def _texts(prompt: Any) -> list[str]:
    """A prompt as one text a turn."""
    if isinstance(prompt, str):
        return [prompt]
    parts = prompt if isinstance(prompt, list) else []
    return [str(p.get("content", "")) if isinstance(p, Mapping) else str(p) for p in parts]


def _judgments(row: Row) -> Iterator[Judgment]:
    verdict = row.get("verdict")
    if isinstance(verdict, Mapping) and "first" in verdict and "shown_first" in verdict:
        yield from _both_orders(verdict["first"], verdict["shown_first"])
    elif isinstance(verdict, Mapping) and "preference" in verdict:
        preference, shown = verdict["preference"], "shown first" if verdict.get("switched") else "shown second"
        text = "no verdict" if preference is None else f"preference {preference - 1:.2f} (1: this answer, 0: baseline)"
        yield Judgment(f"this answer {shown}", text, _words(verdict))
    for place, rating in enumerate(row.get("ratings") or []):
        value = rating.get("rating")
        yield Judgment(f"turn {place + 1}", "no rating" if value is None else f"rating {value:.3g}", _words(rating))
    yield from _games(row.get("games") or [])


def _both_orders(first: float | None, shown_first: float | None) -> Iterator[Judgment]:
    """The judge's probability for the answer in each order, from its mean over the orders (``first``) and the mean
    probability of whichever answer stood first."""
    if first is None or shown_first is None:
        yield Judgment("both orders", "no verdict")
        return
    yield Judgment("this answer shown first", f"{first + shown_first - 0.5:.0%} for this answer")
    yield Judgment("this answer shown second", f"{first - shown_first + 0.5:.0%} for this answer")


def _games(games: Sequence[Any]) -> Iterator[Judgment]:
    """Games of Arena-Hard (one list) or of MT-Bench (one list a turn; None where both answers were equal)."""
    if any(isinstance(game, list) or game is None for game in games):
        for turn, pair in enumerate(games, start=1):
            if pair is None:
                yield Judgment(f"turn {turn}", "equal answers, not asked")
            for order, game in zip(("first", "second"), pair or [], strict=False):
                slot = "A" if order == "first" else "B"
                verdict = game.get("verdict")
                won = {None: "no verdict", "tie": "tie", slot: "this answer wins"}.get(verdict, "the other answer wins")
                yield Judgment(f"turn {turn}, this answer shown {order}", won, _words(game))
        return
    for order, game in zip(("second", "first"), games, strict=False):
        name = "B" if order == "second" else "A"
        yield Judgment(f"this answer shown {order} (as {name})", str(game.get("label") or "no verdict"), _words(game))


def _words(record: Mapping[str, Any]) -> str:
    """What the judge wrote, and why no verdict could be read if so."""
    names = ("judgment", "said", "text", "reason", "error")
    return "\n".join(str(record[name]) for name in names if record.get(name))


def runs_json(sets: Sequence[SampleSet]) -> list[dict[str, Any]]:
    """What the page lists before a set is opened."""
    return [
        {
            "benchmark": s.benchmark,
            "title": s.title,
            "unit": "" if "%" in s.unit else s.unit,  # an item has a share of 1
            "protocol": s.protocol,
            "runs": list(s.runs),
            "count": sum(map(len, s.runs.values())),
        }
        for s in sets
    ]
