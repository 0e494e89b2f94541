"""The rule of a page's verdict on which method to choose under its budget, where the statistics carry a choice.

Between methods that the intervals do not separate, cost decides only where one took less time than the next by more
than a tenth. It never names a method whose difference to the reference lies wholly on the worse side of 0, or that is
shown to be worse than the reference in any headline.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.markdown import code
from harness.report.spent import SAME_COST
from harness.report.summary_facts import NAMED, Facts, listed
from harness.report.summary_words import duration, sorted_by_verdict


def choice(facts: Facts) -> str:
    """Which to choose by what can be spent, where the intervals carry it."""
    text = _choice(facts)
    return f"for {facts.limit}, {text}" if text else ""


def _choice(facts: Facts) -> str:
    if facts.column is None or not facts.trained:
        return ""
    helped = _helped(facts)
    if not helped:
        return "none is shown to be worth its cost over `start`, which costs nothing"
    reference = facts.reference
    compared = {} if reference == "start" else facts.from_reference or {}
    better, worse, _ = sorted_by_verdict([m for m in helped if m != reference], compared)
    if better:
        return _better_choice(facts, better, reference in helped)
    left = [m for m in helped if m not in worse]
    return _only(facts, left[0]) if len(left) == 1 else _by_cost(facts, left)


def _by_cost(facts: Facts, methods: Sequence[str]) -> str:
    """Where the intervals do not separate some methods: the cheapest of those with no sign that they are worse."""
    among = "the methods that beat `start`" if facts.from_start is not None else "the trained methods"
    undecided = f"the intervals do not separate {among}"
    doubtful = [m for m in methods if _is_doubtful(facts, m)]
    left = [m for m in methods if m not in doubtful]
    out = _left_out(facts, doubtful)
    if len(left) == 1:
        return f"{undecided}; {code(left[0])} is the safe choice{out}"
    cheapest = _cheapest(facts, left)
    if not cheapest:
        return f"{undecided}{out}"
    if len(cheapest) == 1:
        return f"{undecided}, so cost may decide: {code(cheapest[0])} took the least time{out}"
    if len(cheapest) == len(methods):
        return f"{undecided}, and neither does cost: they took about the same"
    return f"{undecided}, and neither does cost: {_named(cheapest)} took the least time, within 10% of each other{out}"


def _left_out(facts: Facts, doubtful: Sequence[str]) -> str:
    """Which methods cost does not recommend, and why."""
    elsewhere = [m for m in doubtful if any(m in headline.worse for headline in facts.elsewhere)]
    before = [m for m in doubtful if m not in elsewhere]
    reference = code(facts.reference)
    parts = []
    if before:
        side = "below" if facts.column is None or facts.column.metric.better > 0 else "above"
        parts.append(f"{_named(before)}, whose difference to {reference} has an interval wholly {side} 0")
    if elsewhere:
        parts.append(f"{_named(elsewhere)}, worse than {reference} in another headline")
    return f" (left out: {'; '.join(parts)})" if parts else ""


def _named(methods: Sequence[str]) -> str:
    return f"{len(methods)} methods" if len(methods) > NAMED else listed([code(m) for m in methods])


def _is_doubtful(facts: Facts, method: str) -> bool:
    """Whether the interval of a method's difference to the reference lies wholly on the worse side of 0, or it is shown
    to be worse in a headline."""
    if any(method in headline.worse for headline in facts.elsewhere):
        return True
    if facts.column is None or facts.from_reference is None or method not in facts.from_reference:
        return False
    interval = facts.from_reference[method].interval
    return interval.high < 0 if facts.column.metric.better > 0 else interval.low > 0


def _only(facts: Facts, method: str) -> str:
    """The one method that is left, and why the others are not."""
    others = [m for m in facts.trained if m != method]
    if not others:
        return ""
    worse = sorted_by_verdict(others, facts.from_reference or {}).worse if method == facts.reference else []
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
        return sorted_by_verdict(facts.trained, facts.from_start).better
    worse = sorted_by_verdict(facts.trained, facts.from_reference or {}).worse
    return [m for m in facts.trained if m not in worse]


def _better_choice(facts: Facts, better: Sequence[str], reference_helped: bool) -> str:
    """Where some methods are shown to be better than the reference: the cheapest of them, of those that cost about the
    same the best; or the reference for less. One that is worse in another headline comes last."""
    reference, costs = facts.reference, facts.costs
    sound = [m for m in better if not _is_doubtful(facts, m)] or list(better)
    cheapest = _cheapest(facts, sound)
    chosen = next((m for m in sound if m in cheapest), sound[0])
    if chosen not in costs or reference not in costs:
        return f"choose {code(chosen)}"
    dear, cheap = costs[chosen].hours, costs[reference].hours
    if dear <= SAME_COST * cheap:
        return f"choose {code(chosen)}, which is better and costs no more than {code(reference)}"
    if not reference_helped:
        return f"choose {code(chosen)}"
    return f"choose {code(chosen)} if you can spend {duration(dear)}, {code(reference)} if only {duration(cheap)}"


def _cheapest(facts: Facts, methods: Sequence[str]) -> list[str]:
    """Methods that took the fewest hours, or about so many, the cheapest first; none where hours are not recorded."""
    costs = facts.costs
    if not methods or any(m not in costs for m in methods):
        return []
    order = sorted(methods, key=lambda m: costs[m].hours)
    return [m for m in order if costs[m].hours <= SAME_COST * costs[order[0]].hours]
