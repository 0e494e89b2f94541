"""The title of a leaderboard page, and what is compared: with which data, budget, oracles and judges."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.report.board import Board
from harness.report.costs import amount, budget_line
from harness.report.figure_files import page_file
from harness.report.figures import CURVE, REWARD_KL, SEEDS
from harness.report.imported_pairs import data_paragraph
from harness.report.judge_citation import missing_card_sentence
from harness.report.markdown import code, plain
from harness.store.json_files import digest

CAPTIONS = {
    REWARD_KL: "Gold reward against KL to the start policy",
    CURVE: "Gold reward over the budget",
    SEEDS: "Gold reward by seed",
}


def heading(board: Board) -> str:
    """The title of a page."""
    run = board.results[0]
    axis = run.budget["axis"]
    limit, name = amount(axis, run.budget["limit"]), code(run.budget["name"])
    return f"# {plain(run.recipe)}: matched on {axis} ({limit}, budget {name})"


def method_section(board: Board, cards: Mapping[str, str]) -> str:
    """What was compared and how: data, budget, intervals, oracles, judges, labels.

    Args:
        board: all results of the page.
        cards: for each judge that has a card, the sentence that links it.
    """
    run = board.results[0]
    imported = data_paragraph(run.data)
    paragraphs = [plain(run.description), budget_line(run.budget), _common_ground(board), imported]
    if run.oracles:
        labelled = "what methods sample" if imported else "the training pairs"
        paragraphs.append(_oracles(run.oracles["training"], run.oracles["evaluation"], labelled))
    paragraphs += [*_judges(board, cards), *_labels(board)]
    return "\n\n".join(p for p in paragraphs if p)


def pictures_section(drawn: Collection[str]) -> str:
    """The pictures that stand further below; ``drawn``: names of the figures beside the page."""
    return "\n\n".join(f"![{caption}]({page_file(name)})" for name, caption in CAPTIONS.items() if name in drawn)


def _common_ground(board: Board) -> str:
    """What all methods share, and what the intervals hold."""
    run = board.results[0]
    seeds = max((len(board.runs_of(m)) for m in board.methods), default=0)
    over_seeds = (
        ", joined with the spread over training seeds (Student's t, Welch-Satterthwaite degrees of freedom)."
        if seeds > 1
        else "; one seed, so the spread over seeds is not in them."
    )
    day = run.start.get("chat_date")
    dated = f"Prompts that hold a date hold {day} (recipe key `chat_date`). " if day else ""
    return (
        f"Every method starts from the same policy (`{run.start['key']}`) and trains on the same stored token ids "
        f"(`{run.data['pairs']}`, {run.data.get('train', {}).get('pairs', '?')} pairs). {dated}Seeds: {seeds}. "
        "Square brackets: 95% intervals, bootstrap over prompts (1,000 resamples, one joint draw for all methods, fits "
        f"repeated in each){over_seeds} "
        "*No spread*: every resample gives the same value, so there is no interval."
    )


def _oracles(training: dict[str, Any], evaluation: dict[str, Any], labelled: str) -> str:
    def name(oracle: dict[str, Any]) -> str:
        return f"{code(oracle['oracle'])} (`{digest(oracle)}`)"

    if training == evaluation:
        if training["oracle"] == "none":
            return "**Oracle**: none, so nothing here is ranked by a reward."
        return (
            f"**Oracle**: {name(training)} labels {labelled} and gives the reward in evaluation: the same one, "
            "so a method that exploits its weaknesses is rewarded for it."
        )
    return f"**Oracles**: {name(training)} labels {labelled}; {name(evaluation)}, another one, evaluates."


def _judges(board: Board, cards: Mapping[str, str]) -> list[str]:
    """A paragraph for each judge, or the statement that there is none."""
    judges = {digest(b.judge): b.judge for r in board.finished for b in r.benchmarks if b.judge}
    if board.finished and not judges:
        return ["**Judge**: none; no benchmark of this page asks one."]
    paragraphs = []
    for key, judge in sorted(judges.items()):
        model = code(judge["model"])
        card = cards.get(key) or missing_card_sentence(judge, board.results[0].start["model"])
        if judge["kind"] == "endpoint":
            paragraphs.append(
                f"**Judge** `{key}`: {model} behind an endpoint (`{judge['endpoint']}`), official prompts"
                f"{_answered_by(board, key)}. Scores compare with published ones only if that is the judge they name. "
                + card
            )
        else:
            paragraphs.append(
                f"**Judge** `{key}`: {judge['kind']} by {model}, orders: {judge['orders']}. A weak judge, "
                "the start policy itself: its numbers are not comparable with GPT-4 judged scores, nor with any other "
                "judge's. " + card
            )
    return paragraphs


def _answered_by(board: Board, key: str) -> str:
    """The models that a judge's endpoint reported as having answered."""
    names = {s for r in board.finished for b in r.benchmarks if b.judge and digest(b.judge) == key for s in b.snapshots}
    text = ", ".join(code(name) for name in sorted(names))
    if len(names) > 1:
        return f", answered by {text}: **the judge changed on the way, so rows may differ by judge**"
    return f", answered by {text}" if names else ""


def _labels(board: Board) -> list[str]:
    """What the labels of benchmarks mean."""
    labels = [b.label for r in board.finished for b in r.benchmarks]
    paragraphs = []
    if "mini" in labels:
        paragraphs.append(
            "**mini**: a small set written for this project in the benchmark's official schema. It is not the real "
            "benchmark, and its scores are not comparable with published ones."
        )
    if any("drawn" in label for label in labels):
        paragraphs.append(
            "**n of N, drawn**: a subset drawn by a seed, by subject in proportion where it says so. Its score "
            "estimates the whole set's, with an interval for n items; it shares no column with a score on all N."
        )
    return paragraphs
