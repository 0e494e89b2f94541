"""The page of a judge's card, and its table for the terminal, from the card's file alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.markdown import code, markdown_table, page
from harness.report.rich_table import rich_table
from harness.report.text import format_number
from harness.score.judge_cards import CardSection, JudgeCard
from harness.score.results import Metric

if TYPE_CHECKING:
    from rich.table import Table

COIN_FIGURES = {"agreement", "single_agreement", "agreement_longer", "agreement_shorter", "first_slot", "longer"}
SENTENCES = {
    "agreement": "It picks the known better answer; a tie counts half, a coin gets 50.",
    "single_agreement": "The same for one call in one order, averaged over the two orders.",
    "first_slot": "Position bias: single calls that name the answer shown first; 50 is none.",
    "first_probability": "The same as a mean probability.",
    "same_slot": "Pairs that position alone decides: swapping the answers does not move the verdict.",
    "same_winner": "Pairs where swapping the answers leaves the winner (or the tie) as it was.",
    "same_again": "Self-consistency: one of the two orders, asked a second time.",
    "longer": "Length bias: it picks the longer answer, right or wrong; pairs of equal length left out.",
    "known_longer": "For comparison: what the known preferences do.",
    "length": "Length bias at the same known label: logistic coefficient of the length difference; 0 is none.",
    "agreement_longer": "Agreement where length is on the right side.",
    "agreement_shorter": "Agreement where a judge of length alone would be wrong.",
    "mass": "How often it means to answer at all.",
}


def figure_text(metric: Metric) -> str:
    """Value and interval; no brackets where resampling the pairs changes nothing."""
    if metric.value is None:
        return "n/a"
    value = format_number(metric.value, metric.unit)
    if metric.low is None or metric.high is None or metric.low == metric.high:
        return f"{value} (no spread)"
    return f"{value} [{format_number(metric.low, metric.unit)}, {format_number(metric.high, metric.unit)}]"


def figure_sentence(metric: Metric) -> str:
    """What a figure means, and on which side of its neutral value its interval lies."""
    text = SENTENCES[metric.name]
    neutral = 50.0 if metric.name in COIN_FIGURES else 0.0 if metric.name == "length" else None
    if neutral is None or metric.low is None or metric.high is None:
        return text
    side = f"above {neutral:g}" if metric.low > neutral else f"below {neutral:g}" if metric.high < neutral else ""
    return f"{text} **{side or f'no difference from {neutral:g} shown'}**"


def card_page(card: JudgeCard) -> str:
    """The Markdown page."""
    local = card.judge["kind"] != "endpoint"
    paragraphs = [f"# Judge card: {code(card.judge['model'])}", _identity(card), _warning(local)]
    paragraphs += [_section(s) for s in card.sections]
    paragraphs.append(
        "Intervals: 95%, bootstrap over pairs (1,000 resamples, the logistic fit repeated in each). A single call "
        "names the slot that it gives over half; with both orders averaged, the answer with over half wins. *n*: "
        "pairs whose calls can be read, of the pairs that the figure is about. More: `docs/judge-card.md`."
    )
    return page(paragraphs)


def _identity(card: JudgeCard) -> str:
    judge = card.judge
    if judge["kind"] == "endpoint":
        return f"**Judge** `{card.key}`: {code(judge['model'])} behind an endpoint (`{judge['endpoint']}`)."
    return f"**Judge** `{card.key}`: {judge['kind']} by {code(judge['model'])}, orders: {judge['orders']}."


def _warning(local: bool) -> str:
    if local:
        return (
            "**Not comparable with GPT-4 judged scores.** A weak judge, the start policy itself; what it says compares "
            "with nothing but itself. It is deterministic, so self-consistency is not measured."
        )
    return (
        "Asked with this project's own question, not with the prompts of the official benchmarks: bias and agreement "
        "may differ there."
    )


def _section(section: CardSection) -> str:
    data = section.data
    passed = f"; {data['equal']} without a preference passed over" if data["equal"] else ""
    head = (
        f"Pairs: the first {data['used']} usable ones of `{data['file']}` (sha256 `{data['sha256'][:16]}`{passed}), "
        f"hash of the pairs used `{data['pairs']}`. Measured on {section.date} by `{section.command}`. "
        + _how_asked(section.protocol)
    )
    rows = [
        [m.title, m.unit, figure_text(m), f"{m.n_valid} / {m.n_total}", figure_sentence(m)] for m in section.metrics
    ]
    table = markdown_table(["figure", "unit", "value [95%]", "n", "in words"], rows)
    return f"## {data['file']}, {data['used']} pairs\n\n{head}\n\n{table}\n\n{usage_text(section)}"


def _how_asked(protocol: dict[str, Any]) -> str:
    if "temperature" not in protocol:
        return "Both orders of each pair, answers A and B compared by log-probability."
    how = "its text"
    if protocol["verdict"] == "logprobs":
        how += ", or from log-probabilities where the first token is the whole label"
    return (
        f"Both orders of each pair and one of them again, temperature {protocol['temperature']:g}, at most "
        f"{protocol['max_tokens']} tokens; the verdict from {how}."
    )


def usage_text(section: CardSection) -> str:
    """Calls, tokens, cost and speed in words."""
    used = section.usage
    verdicts = used["calls"] - used["unreadable"] - used["unanswered"]
    reasons = ", ".join(f"{n} {reason}" for reason, n in used.get("no_verdict", {}).items())
    calls = [f"**Calls** {used['calls']}: {used['unreadable']} unreadable, {used['unanswered']} unanswered"]
    calls[0] += f" ({reasons})" if reasons else ""
    if used["answered_by"]:
        calls.append("answered by " + ", ".join(code(m) for m in used["answered_by"]))
    calls.append(f"{used['from_logprobs']} verdicts read from log-probabilities")
    tokens = used["tokens_in"] + used["tokens_out"]
    text = ", ".join(calls) + f". **Tokens** {used['tokens_in']:,} in, {used['tokens_out']:,} out"
    text += f" ({tokens / verdicts:,.0f} a verdict). **Cost** "
    if used["cost"] is None:
        text += "not measured (no prices given)."
    elif section.protocol.get("temperature") is None:
        text += "none but the time of the machine."
    else:
        each = 1000 * used["cost"] / verdicts
        text += f"{used['cost']:.4g} in the currency of the prices, {each:.4g} for 1,000 verdicts."
    if not used["timed"]:
        return text + " **Speed** not measured: all answers came from the cache."
    cores = f" on {used['cores']} cores" if used["cores"] else ""
    timed, seconds = used["timed"], used["seconds"]
    return f"{text} **Speed** {timed / seconds:.3g} verdicts a second{cores} ({timed} calls in {seconds:.1f} s)."


def section_table(section: CardSection) -> Table:
    """A section's figures for the terminal."""
    from rich.markup import escape

    header = ("figure", "value", "n", "in words")
    rows = []
    for m in section.metrics:
        unit = " (%)" if m.unit == "%" else f"\n{m.unit}"
        words = figure_sentence(m).replace("**", "")
        cells = (m.title + unit, figure_text(m), f"{m.n_valid} / {m.n_total}", words)
        rows.append([escape(cell) for cell in cells])
    title = escape(f"{section.data['file']}, {section.data['used']} pairs")
    return rich_table(title, header, rows, caption="95% intervals over pairs", left=header)
