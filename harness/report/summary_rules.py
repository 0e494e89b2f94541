"""The rules behind a page's verdict: each reads :class:`.Facts` and returns a part of a sentence, "" for nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

from harness.report.markdown import code
from harness.report.spent import SAME_COST
from harness.report.summary_facts import NAMED, Facts, listed
from harness.report.summary_words import counted, duration, sorted_by_verdict, verb
from harness.report.text import format_interval, format_number, power_text
from harness.score.bootstrap import POWER_FACTOR

USUAL = 5.0
"""Points: a difference for which a page says how likely it would have shown."""


def nothing_to_rank(facts: Facts) -> str:
    """Where no score can be ranked."""
    if facts.column is not None:
        return ""
    if not any(row.seeds for row in facts.rows.values()):
        return "no run has finished, so nothing can be compared yet"
    return "no score of this page ranks methods, so none is recommended"


def against_start(facts: Facts) -> str:
    """Who beats the start policy."""
    if facts.column is None:
        return ""
    on = f"on {facts.column.title}"
    if facts.judge:
        on += f" (judged by {facts.judge})"
    if not facts.trained:
        return f"{on}, no trained method has a score yet"
    if facts.from_start is None:
        return f"{on}, `start` has no score, so whether training helped is not known"
    better, worse, same = sorted_by_verdict(facts.trained, facts.from_start)
    parts = []
    if better:
        parts.append(f"{facts.names(better)} {verb(better, 'beats', 'beat')} `start`{_gains(facts, better)}")
    if worse:
        parts.append(f"{facts.names(worse)} {verb(worse, 'is', 'are')} worse than `start`")
    if same:
        parts.append(f"{facts.none_of(same)} shown to differ from `start`")
    return f"{on}, {listed(parts)}"


def against_reference(facts: Facts) -> str:
    """Whether anybody is shown to differ from the reference."""
    reference = code(facts.reference)
    if facts.column is None or not facts.trained or facts.reference == "start":
        return ""
    if facts.from_reference is None:
        return f"{reference} has no score, so no method can be compared with it"
    if not facts.others:
        return f"no other trained method has a score to compare with {reference}"
    better, worse, same = sorted_by_verdict(facts.others, facts.from_reference)
    parts = [
        f"{facts.names(methods)} {verb(methods, 'is', 'are')} {word} than {reference}{_by(facts, methods)}"
        for methods, word in ((better, "better"), (worse, "worse"))
        if methods
    ]
    if same and not parts and len(same) > 1:
        return f"none of the other {len(same)} trained methods is shown to differ from {reference}"
    if same:
        none = f"none of the other {len(same)} trained methods is" if len(same) > NAMED else facts.none_of(same)
        parts.append(f"{none} shown to differ from {reference}")
    return listed(parts)


def _gains(facts: Facts, methods: Sequence[str]) -> str:
    """By how much methods beat ``start``."""
    if facts.from_start is None or facts.column is None:
        return ""
    unit = facts.column.metric.unit
    gains = {m: abs(facts.from_start[m].interval.value) for m in methods}
    low, high = min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__)
    least, most = (format_number(gains[m], unit) for m in (low, high))
    return f" (by {least})" if least == most else f" (by {least} for {code(low)} to {most} for {code(high)})"


def _by(facts: Facts, methods: Sequence[str]) -> str:
    """How large the difference is, where it is that of one method."""
    if len(methods) > 1 or facts.from_reference is None or facts.column is None:
        return ""
    interval = facts.from_reference[methods[0]].interval
    return f" ({format_interval(interval, facts.column.metric.unit, sign=True)})"


def elsewhere(facts: Facts) -> str:
    """What the other headlines show against the reference."""
    texts = []
    for headline in facts.elsewhere:
        parts = [
            f"{facts.names(methods)} {verb(methods, 'is', 'are')} {word} than {code(facts.reference)}"
            for methods, word in ((headline.better, "better"), (headline.worse, "worse"))
            if methods
        ]
        if parts:
            judge = f" (judged by {headline.judge})" if headline.judge else ""
            texts.append(f"on {headline.title}{judge}, {listed(parts)}")
    return "; ".join(texts)


def detectable(facts: Facts) -> str:
    """How small a difference would have been seen, in the unit of the table."""
    if facts.column is None or not (facts.others if facts.from_reference is not None else facts.trained):
        return ""
    size, unit = facts.detectable, facts.column.metric.unit
    if size is None:
        return "how small a difference would have shown is not known"
    points = "%" in unit
    amount = f"{size:.1f} points" if points else format_number(size, unit)
    text = f"this comparison had an 80% chance of detecting a true difference of {amount}"
    usual = USUAL if points else USUAL / 100 if unit == "share met" else None
    if usual is None:
        return text
    chance = 100 * NormalDist().cdf(usual / (size / POWER_FACTOR) - NormalDist().inv_cdf(0.975))
    return f"{text}, and {min(chance, 99):.0f}% for {f'{usual:g} points' if points else f'{usual:g}'}"


def seeds(facts: Facts) -> str:
    """What the seeds can say."""
    counts = sorted({facts.rows[m].seeds for m in facts.trained})
    if not counts:
        return ""
    if counts == [1]:
        each = " each" if len(facts.trained) > 1 else ""
        return f"with one seed{each}, we cannot say how another seed would turn out"
    if counts[0] == 1:
        return f"the intervals include up to {counts[-1]} seeds, but a row with one says nothing of another seed"
    spread = f"the intervals include the spread over {'-'.join(map(str, counts[:: max(1, len(counts) - 1)]))} seeds"
    if facts.lottery is None or facts.lottery.chance is None:
        return spread
    best, chance = code(facts.lottery.winner), facts.lottery.text
    return f"{spread}; the chance is {chance} that with a single seed another method than {best} would have come first"


def cost(facts: Facts) -> str:
    """What a run cost."""
    costs = facts.costs
    if not costs:
        return ""
    parts = []
    if facts.axis != "seconds":
        hours = _span({m: c.hours for m, c in costs.items()}, duration)
        parts.append(f"{hours} on {facts.device}")
    flops = {m: c.flops for m, c in costs.items() if c.flops is not None}
    if facts.axis != "flops" and len(flops) == len(costs):
        parts.append(f"{_span(flops, lambda value: power_text(value, 2))} FLOPs")
    return f"matched on {facts.limit} alone, a run took {listed(parts)}" if parts else ""


def failed(facts: Facts) -> str:
    """Which rows failed, or some of their seeds."""
    whole = [m for m, row in facts.rows.items() if row.failed and not row.seeds]
    part = [m for m, row in facts.rows.items() if row.failed and row.seeds]
    texts = []
    if whole:
        texts.append(f"{counted(whole)} failed")
    if part:
        texts.append(f"some seeds of {counted(part)} failed")
    return listed(texts)


def pending(facts: Facts) -> str:
    """Which rows are still to be measured."""
    rows = list(facts.unfinished)
    return f"{counted(rows)} {verb(rows, 'is', 'are')} not measured on all benchmarks yet" if rows else ""


def stale(facts: Facts) -> str:
    """Which rows an earlier version of the code made."""
    rows = [m for m, row in facts.rows.items() if row.is_stale]
    if not rows:
        return ""
    named = "all rows are" if len(rows) == len(facts.rows) else f"{counted(rows)} {verb(rows, 'is', 'are')}"
    return f"**stale**: {named} of an earlier version of SAIL-bench"


def _span(values: dict[str, float], form: Callable[[float], str]) -> str:
    """From the lowest to the highest, with whose they are; one value where they are about the same."""
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[high] <= SAME_COST * values[low]:
        about = "about " if len(values) > 1 else ""
        return f"{about}{form(sum(values.values()) / len(values))}"
    return f"{form(values[low])} ({code(low)}) to {form(values[high])} ({code(high)})"
