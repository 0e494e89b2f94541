"""The figures of a judge's card, from its verdicts on pairs with known preferences. Pure; needs no model.

The better answer of a pair is called *chosen*. ``forward`` is the probability of slot A with the chosen answer in A,
``backward`` with the chosen answer in B; a judge that answers in text gives 0, 0.5 (a tie) or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.score.judge_cards import CardSection, JudgeCard
from harness.score.metrics import evaluate, metric
from harness.score.results import Columns, Metric
from harness.store.json_files import digest

GROUPS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "items": lambda row: True,
    "unequal": lambda row: row["length_difference"] != 0,
    "longer": lambda row: row["length_difference"] > 0,
    "shorter": lambda row: row["length_difference"] < 0,
}

BOTH, SINGLE = "both orders averaged", "single calls"

METRICS = (
    metric("agreement", f"agreement, {BOTH}", "%", 1, "percent", "agree", primary=True),
    metric("single_agreement", f"agreement, {SINGLE}", "%", 1, "percent", "single"),
    metric("first_slot", f"first slot named, {SINGLE}", "%", 0, "percent", "first_slot"),
    metric("first_probability", "mean probability of the first slot", "%", 0, "percent", "first_probability"),
    metric("same_slot", "same slot in both orders", "%", -1, "percent", "same_slot"),
    metric("same_winner", "same winner in both orders", "%", 1, "percent", "same_winner"),
    metric("same_again", "same verdict when asked again", "%", 1, "percent", "same_again"),
    metric("longer", f"verdicts for the longer answer, {BOTH}", "%", 0, "percent", "longer", group="unequal"),
    metric("known_longer", "known preferences for the longer answer", "%", 0, "percent", "known", group="unequal"),
    metric("length", "length at equal label", "log-odds for one sd", 0, "length_coefficient", "agree"),
    metric("agreement_longer", "agreement where the longer is better", "%", 1, "percent", "agree", group="longer"),
    metric("agreement_shorter", "agreement where the shorter is better", "%", 1, "percent", "agree", group="shorter"),
    metric("mass", "probability of saying A or B at all", "%", 0, "percent", "mass"),
)


def repeated_order(i: int) -> str:
    """The order in which pair ``i`` is asked again: both orders take turns."""
    return "backward" if i % 2 else "forward"


def slot_named(p: float) -> int:
    """The slot that a probability of slot A names: 1 for A, -1 for B, 0 for a tie."""
    return (p > 0.5) - (p < 0.5)


def figures(items: Columns) -> list[Metric]:
    """All figures of a card with their intervals over pairs; those that were not measured are left out.

    Args:
        items: columns ``id``, ``forward``, ``backward``, ``again`` (the order of :func:`repeated_order`, asked again),
            ``mass`` (None: not asked, or unreadable), ``length_chosen`` and ``length_rejected`` (characters).
    """
    rows = [_derived(dict(zip(items, values, strict=True))) for values in zip(*items.values(), strict=True)]
    groups = {name: _columns([row for row in rows if keep(row)]) for name, keep in GROUPS.items()}
    answers = [p for name in ("forward", "backward") for p in items[name] if p is not None]
    left_out = {
        "same_again": all(v is None for v in items["again"]),
        "mass": all(v is None for v in items["mass"]),
        "first_probability": all(p in (0, 0.5, 1) for p in answers),  # no probabilities but answers in text
    }
    return [evaluate(m, groups) for m in METRICS if not left_out.get(m.name)]


def _derived(row: dict[str, Any]) -> dict[str, Any]:
    """The per-pair values of which the figures are means; None where a call that they need is unreadable."""
    forward, backward, again = row["forward"], row["backward"], row["again"]
    difference = row["length_chosen"] - row["length_rejected"]
    values: dict[str, Any] = dict.fromkeys(
        ("agree", "single", "first_slot", "first_probability", "same_slot", "same_winner", "longer", "same_again")
    )
    values |= {"id": row["id"], "mass": row["mass"], "length_difference": difference, "known": float(difference > 0)}
    if forward is not None and backward is not None:
        a, b = slot_named(forward), slot_named(backward)
        agree = 0.5 + slot_named((forward + 1 - backward) / 2) / 2
        values |= {
            "agree": agree,
            "single": 0.5 + (a - b) / 4,
            "first_slot": 0.5 + (a + b) / 4,
            "first_probability": (forward + backward) / 2,
            "same_slot": float(a == b != 0),
            "same_winner": float(a == -b),
            "longer": agree if difference > 0 else 1 - agree,
        }
    first_time = row[repeated_order(row["id"])]
    if again is not None and first_time is not None:
        values["same_again"] = float(slot_named(again) == slot_named(first_time))
    return values


def _columns(rows: Sequence[dict[str, Any]]) -> Columns:
    names = ("id", "length_difference", *{m.estimator.column for m in METRICS})
    return {name: [row[name] for row in rows] for name in names}


def card_section(
    data: dict[str, Any], protocol: dict[str, Any], items: Columns, usage: dict[str, Any], command: str, date: str
) -> CardSection:
    """A card's part on one set of pairs, asked in one way: its id is the hash of both.

    Args:
        data: JSON record of the pairs: ``file``, ``sha256``, ``pairs`` (hash of those used), ``used``, ``equal``.
        protocol: JSON record of how the judge was asked.
        items: columns of :func:`figures`.
        usage: JSON record of calls, tokens, cost and seconds.
        command: as the page prints it, without folders and addresses.
        date: of the measurement, ISO 8601.
    """
    key = digest([data["pairs"], protocol])
    return CardSection(
        id=key, data=data, protocol=protocol, command=command, date=date,
        metrics=figures(items), items=items, usage=usage,
    )  # fmt: skip


def with_section(card: JudgeCard | None, judge: dict[str, Any], new: CardSection) -> JudgeCard:
    """The card with a section added or replaced, the largest set first. Where all answers came from the cache, the
    date and the speed of the first time stay.

    Args:
        card: the card so far; None if there is none.
        judge: the judge's identity, a JSON record.
        new: the section; it replaces the one with its id.
    """
    old = {s.id: s for s in card.sections} if card else {}
    before = old.get(new.id)
    if before and not new.usage["timed"]:
        timing = {k: before.usage[k] for k in ("timed", "seconds", "cores")}
        new = new.model_copy(update={"date": before.date, "usage": new.usage | timing})
    sections = sorted((old | {new.id: new}).values(), key=lambda s: (-s.data["used"], s.id))
    return JudgeCard(key=digest(judge), judge=judge, sections=sections)
