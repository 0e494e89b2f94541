"""The rules behind a page's verdict: each reads :class:`.Facts` and returns a part of a sentence, "" for nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist

from harness.report.markdown import code
from harness.report.spent import SAME_COST
from harness.report.summary_facts import NAMED, Facts, listed
from harness.report.text import format_interval, format_number
from harness.score.bootstrap import POWER_FACTOR
from harness.score.verdicts import Difference, Verdict

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
    better, worse, same = _sorted(facts.trained, facts.from_start)
    parts = []
    if better:
        parts.append(f"{facts.names(better)} {_verb(better, 'beats', 'beat')} `start`")
    if worse:
        parts.append(f"{facts.names(worse)} {_verb(worse, 'is', 'are')} worse than `start`")
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
    better, worse, same = _sorted(facts.others, facts.from_reference)
    parts = [
        f"{facts.names(methods)} {_verb(methods, 'is', 'are')} {word} than {reference}{_by(facts, methods)}"
        for methods, word in ((better, "better"), (worse, "worse"))
        if methods
    ]
    if same and not parts and len(same) > 1:
        return f"none of the others is shown to differ from {reference}"
    if same:
        none = f"none of the other {len(same)} is" if len(same) > NAMED else facts.none_of(same)
        parts.append(f"{none} shown to differ from {reference}")
    return listed(parts)


def _by(facts: Facts, methods: Sequence[str]) -> str:
    """How large the difference is, where it is that of one method."""
    if len(methods) > 1 or facts.from_reference is None or facts.column is None:
        return ""
    interval = facts.from_reference[methods[0]].interval
    return f" ({format_interval(interval, facts.column.metric.unit, sign=True)})"


def detectable(facts: Facts) -> str:
    """How small a difference would have been seen."""
    if facts.column is None or not (facts.others if facts.from_reference is not None else facts.trained):
        return ""
    size, unit = facts.detectable, facts.column.metric.unit
    if size is None:
        return "how small a difference would have shown is not known"
    scale = 100.0 if unit == "share met" else 1.0 if "%" in unit else None
    if scale is None:
        return f"a true difference of {format_number(size, unit)} would have shown with a chance of 80%"
    chance = 100 * NormalDist().cdf(USUAL / (scale * size / POWER_FACTOR) - NormalDist().inv_cdf(0.975))
    text = f"a true difference of {size * scale:.1f} points would have shown with a chance of 80%"
    return f"{text}, one of {USUAL:g} points with {min(chance, 99):.0f}%"


def seeds(facts: Facts) -> str:
    """What the seeds can say."""
    counts = sorted({facts.rows[m].seeds for m in facts.trained})
    if not counts:
        return ""
    if counts == [1]:
        return f"one seed{' each' if len(facts.trained) > 1 else ''} cannot say what another seed would give"
    if counts[0] == 1:
        return f"the intervals hold up to {counts[-1]} seeds, but a row with one says nothing of another seed"
    spread = f"the intervals hold the spread over {'-'.join(map(str, counts[:: max(1, len(counts) - 1)]))} seeds"
    if facts.lottery is None or facts.lottery.chance is None:
        return spread
    best, chance = code(facts.lottery.winner), facts.lottery.text
    return f"{spread}; with a chance of {chance} a single one would name another best method than {best}"


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
        parts.append(f"{_span(flops, lambda value: f'{value:.2g}')} FLOPs")
    return f"matched on {facts.limit}, a run took {listed(parts)}" if parts else ""


def choice(facts: Facts) -> str:
    """Which to choose by what can be spent, where the intervals carry it."""
    if facts.column is None or not facts.trained:
        return ""
    helped = _helped(facts)
    if not helped:
        return "none is shown to be worth its cost over `start`, which costs nothing"
    reference = facts.reference
    compared = {} if reference == "start" else facts.from_reference or {}
    better, worse, _ = _sorted([m for m in helped if m != reference], compared)
    if better:
        return _better_choice(facts, better, reference in helped)
    left = [m for m in helped if m not in worse]
    if len(left) == 1:
        return _only(facts, left[0])
    among = "between them" if len(left) == len(facts.trained) else "between those that are shown to help"
    cheapest = _cheapest(facts, left)
    if not cheapest:
        return f"the intervals carry no choice {among}"
    if len(cheapest) == len(left):
        return f"the intervals carry no choice {among}, and neither does cost: they took about the same"
    return f"the intervals carry no choice {among}, so cost may decide: {facts.names(cheapest)} took least"


def _only(facts: Facts, method: str) -> str:
    """The one method that is left, and why the others are not."""
    others = [m for m in facts.trained if m != method]
    if not others:
        return ""
    worse = _sorted(others, facts.from_reference or {})[1] if method == facts.reference else []
    if len(worse) == len(others):
        why = "the others are shown to be worse"
    elif worse:
        why = "the others are shown to be worse, or not shown to beat `start`"
    else:
        why = "it alone is shown to beat `start`"
    return f"choose {code(method)}: {why}"


def _helped(facts: Facts) -> list[str]:
    """Trained methods that are shown to beat ``start``; where it has no score, all that are not shown worse than the
    reference."""
    if facts.from_start is not None:
        return _sorted(facts.trained, facts.from_start)[0]
    return [m for m in facts.trained if m not in _sorted(facts.trained, facts.from_reference or {})[1]]


def _better_choice(facts: Facts, better: Sequence[str], reference_helped: bool) -> str:
    """Where some methods are shown to be better than the reference: the cheapest of them, or the reference for less."""
    reference, costs = facts.reference, facts.costs
    chosen = (_cheapest(facts, better) or better)[0]
    if chosen not in costs or reference not in costs:
        return f"choose {code(chosen)}"
    dear, cheap = costs[chosen].hours, costs[reference].hours
    if dear <= SAME_COST * cheap:
        return f"choose {code(chosen)}, which is better and costs no more than {code(reference)}"
    if not reference_helped:
        return f"choose {code(chosen)}"
    return f"choose {code(chosen)} if you can spend {duration(dear)}, {code(reference)} if only {duration(cheap)}"


def failed(facts: Facts) -> str:
    """Which rows failed, or some of their seeds."""
    whole = [m for m, row in facts.rows.items() if row.failed and not row.seeds]
    part = [m for m, row in facts.rows.items() if row.failed and row.seeds]
    texts = []
    if whole:
        texts.append(f"{_counted(whole)} failed")
    if part:
        texts.append(f"some seeds of {_counted(part)} failed")
    return listed(texts)


def pending(facts: Facts) -> str:
    """Which rows are still to be measured."""
    rows = list(facts.unfinished)
    return f"{_counted(rows)} {_verb(rows, 'is', 'are')} not measured on all benchmarks yet" if rows else ""


def stale(facts: Facts) -> str:
    """Which rows an earlier version of the code made."""
    rows = [m for m, row in facts.rows.items() if row.is_stale]
    if not rows:
        return ""
    named = "all rows are" if len(rows) == len(facts.rows) else f"{_counted(rows)} {_verb(rows, 'is', 'are')}"
    return f"**stale**: {named} of an earlier version of SAIL-bench"


def duration(hours: float) -> str:
    """Hours in words, in the largest unit of which there is one: ``40 seconds``, ``4.7 minutes``, ``3.2 hours``."""
    unit, value = "hour", hours
    for smaller in ("minute", "second"):
        if round(value, 9) < 1:
            unit, value = smaller, 60 * value
    digits = 3 if unit == "hour" else 2
    number = f"{value:,.0f}" if value >= 100 else f"{value:.{digits}g}"
    return f"{number} {unit}{'' if number == '1' else 's'}"


def _sorted(methods: Sequence[str], differences: dict[str, Difference]) -> tuple[list[str], list[str], list[str]]:
    """Methods that are better, worse, and not shown to differ; those that cannot be compared are among the last."""
    verdicts = {m: differences[m].verdict if m in differences else None for m in methods}
    better = [m for m in methods if verdicts[m] is Verdict.BETTER]
    worse = [m for m in methods if verdicts[m] is Verdict.WORSE]
    return better, worse, [m for m in methods if m not in better and m not in worse]


def _cheapest(facts: Facts, methods: Sequence[str]) -> list[str]:
    """Methods that took the fewest hours, or about so many, the cheapest first; none where hours are not recorded."""
    costs = facts.costs
    if not methods or any(m not in costs for m in methods):
        return []
    order = sorted(methods, key=lambda m: costs[m].hours)
    return [m for m in order if costs[m].hours <= SAME_COST * costs[order[0]].hours]


def _span(values: dict[str, float], form: Callable[[float], str]) -> str:
    """From the lowest to the highest, with whose they are; one value where they are about the same."""
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[high] <= SAME_COST * values[low]:
        about = "about " if len(values) > 1 else ""
        return f"{about}{form(sum(values.values()) / len(values))}"
    return f"{form(values[low])} ({code(low)}) to {form(values[high])} ({code(high)})"


def _counted(methods: Sequence[str]) -> str:
    return f"{len(methods)} rows" if len(methods) > NAMED else listed([code(m) for m in methods])


def _verb(methods: Sequence[str], one: str, many: str) -> str:
    return one if len(methods) == 1 else many
