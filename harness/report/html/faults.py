"""Known ways in which preference training goes wrong: what each is, which runs show it, and answers to look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.report.board import Board
from harness.report.html.samples import Sample, SampleSet
from harness.report.html.training import first_quarter, last_quarter
from harness.score.results import RunResult

DISPLACED = -0.05  # reward of chosen answers (beta x nats) below which they count as less likely than at the start
DRIFT = 0.15  # share by which the mean length may differ from the start policy's
KL_A_TOKEN, KL_AN_ANSWER = 0.3, 20.0  # nats
SATURATED = 0.97  # training accuracy
CUT = 20.0  # percentage points by which more answers are cut than the start policy's
EXAMPLES = 2
LONGEST = 900  # characters of an example

_MARKUP = re.compile(
    r"<\|[^|>]{1,40}\|>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>|^\s*(?:assistant|user|system|human)\s*[:\n]",
    re.IGNORECASE | re.MULTILINE,
)


class Case(NamedTuple):
    """A row of the table: whether it shows the fault, and the figures in words."""

    method: str
    shows: bool
    figures: str


class Fault(NamedTuple):
    """A known fault: its name, what it is, where to look, what helps, and who shows it."""

    id: str
    title: str
    what: str
    look: str
    helps: str
    cases: Callable[[Board, _Texts], list[Case]]
    extreme: Callable[[Sample, Sample | None], float]


class _Texts:
    """The samples of the benchmark ``preference``, by method (first seed)."""

    def __init__(self, sets: Sequence[SampleSet]) -> None:
        runs = next((s.runs for s in sets if s.benchmark == "preference"), {})
        self.by_method: dict[str, list[Sample]] = {}
        for name, samples in runs.items():
            self.by_method.setdefault(name.split(" · seed ")[0], samples)
        self.of_start = {s.id: s for s in self.by_method.get("start", [])}


def faults_json(board: Board, sets: Sequence[SampleSet]) -> list[dict[str, Any]]:
    """The faults with their cases, and with example answers where the store holds texts."""
    texts = _Texts(sets)
    return [_fault_json(fault, board, texts) for fault in FAULTS]


def _fault_json(fault: Fault, board: Board, texts: _Texts) -> dict[str, Any]:
    cases = fault.cases(board, texts)
    shown = [case.method for case in cases if case.shows]
    measured = [case.method for case in cases] or [m for m in board.methods if m != "start"]
    shared = {"id": fault.id, "title": fault.title, "what": fault.what, "look": fault.look, "helps": fault.helps}
    examples = _examples(fault, shown or measured, texts)
    return shared | {"cases": [case._asdict() for case in cases], "shown": shown, "examples": examples}


def _examples(fault: Fault, methods: Sequence[str], texts: _Texts) -> list[dict[str, Any]]:
    """The answers of these methods that come nearest to the fault, with the start policy's to the same prompts."""
    ranked = []
    for method in methods:
        samples = texts.by_method.get(method, [])
        values = np.array([fault.extreme(sample, texts.of_start.get(sample.id)) for sample in samples])
        towards = -1.0 if np.nansum(values) < 0 else 1.0  # of answers that shrank on the whole, those that shrank most
        ranked += [(towards * v, method, s) for v, s in zip(values, samples, strict=True) if np.isfinite(v)]
    ranked.sort(key=lambda r: (-r[0], r[1], r[2].id))
    chosen: list[dict[str, Any]] = []
    seen: set[str] = set()
    for _, method, sample in ranked:
        if sample.id not in seen and len(chosen) < EXAMPLES:
            seen.add(sample.id)
            start = texts.of_start.get(sample.id)
            chosen.append(
                {
                    "method": method,
                    "id": sample.id,
                    "prompt": _shortened(sample.prompt),
                    "answer": _shortened(sample.answer),
                    "start": _shortened(start.answer) if start else "",
                }
            )
    return chosen


def _shortened(parts: Sequence[str]) -> str:
    text = "\n\n".join(parts)
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"


def _trained(board: Board) -> list[tuple[str, list[RunResult]]]:
    return [(m, runs) for m in board.methods if (runs := board.runs_of(m)) and runs[0].learning_rate is not None]


def _means(runs: Sequence[RunResult], read: Callable[[RunResult, str], float | None], key: str) -> float | None:
    values = [value for run in runs if (value := read(run, key)) is not None]
    return sum(values) / len(values) if values else None


def _displacement(board: Board, texts: _Texts) -> list[Case]:
    cases = []
    for method, runs in _trained(board):
        chosen, margin = (_means(runs, last_quarter, f"rewards/{name}") for name in ("chosen", "margins"))
        if chosen is None or margin is None:
            continue
        figures = f"reward of chosen {chosen:+.3f} and margin {margin:+.3f} at the end"
        cases.append(Case(method, chosen < DISPLACED and margin > 0, figures))
    return cases


def _value(board: Board, method: str, metric: str) -> float | None:
    column = next((c for c in board.columns(benchmark="preference") if c.metric.name == metric), None)
    cell = board.cell(method, column) if column is not None else None
    return cell.interval.value if cell is not None and cell.interval.has_value else None


def _length(board: Board, texts: _Texts) -> list[Case]:
    cases, start = [], _value(board, "start", "length")
    for method, _ in _trained(board):
        length = _value(board, method, "length")
        if start and length is not None:
            change = length / start - 1
            cases.append(Case(method, abs(change) > DRIFT, f"{length:.0f} tokens, start {start:.0f} ({change:+.0%})"))
    return cases


def _kl(board: Board, texts: _Texts) -> list[Case]:
    cases = []
    for method, _ in _trained(board):
        kl, length = _value(board, method, "kl"), _value(board, method, "length")
        if kl is not None and length:
            high = kl > KL_AN_ANSWER or kl / length > KL_A_TOKEN
            cases.append(Case(method, high, f"{kl:.2f} nats an answer, {kl / length:.3f} a token"))
    return cases


def _saturation(board: Board, texts: _Texts) -> list[Case]:
    cases = []
    for method, runs in _trained(board):
        accuracy, early = (_means(runs, read, "rewards/accuracies") for read in (last_quarter, first_quarter))
        heldout = _value(board, method, "accuracy")
        if accuracy is None or early is None:
            continue
        figures = f"training accuracy {accuracy:.0%} at the end"
        figures += f", on held-out pairs {heldout:.0f}%" if heldout is not None else ""
        cases.append(Case(method, accuracy >= SATURATED, figures))
    return cases


def _template(board: Board, texts: _Texts) -> list[Case]:
    cases, start = [], _value(board, "start", "truncated")
    for method, _ in _trained(board):
        cut = _value(board, method, "truncated")
        samples = texts.by_method.get(method)
        marked = sum(bool(_MARKUP.search("\n".join(s.answer))) for s in samples) if samples else 0
        if cut is None or start is None:
            continue
        figures = f"{cut:.0f}% of answers cut, start {start:.0f}%"
        figures += f"; {marked} of {len(samples)} hold markup of a chat template" if samples else ""
        share = marked / len(samples) if samples else 0.0
        cases.append(Case(method, cut - start > CUT or share > 0.02, figures))
    return cases


def _changed_length(sample: Sample, start: Sample | None) -> float:
    if start is None or start.tokens is None or sample.tokens is None:
        return float("nan")
    return float(sample.tokens - start.tokens)


def _differs(sample: Sample, start: Sample | None) -> float:
    """Share of the words of both answers that only one of them has."""
    if start is None:
        return float("nan")
    ours, theirs = (set(" ".join(s.answer).split()) for s in (sample, start))
    return len(ours ^ theirs) / max(1, len(ours | theirs))


def _worse(sample: Sample, start: Sample | None) -> float:
    if start is None or sample.value is None or start.value is None:
        return float("nan")
    return max(0.0, start.value - sample.value)


def _marked(sample: Sample, start: Sample | None) -> float:
    newly_cut = sample.cut and not (start is not None and start.cut)
    return len(_MARKUP.findall("\n".join(sample.answer))) + 0.5 * sample.cut + 0.25 * newly_cut


FAULTS = (
    Fault(
        "displacement",
        "Likelihood displacement",
        "The margin grows although the chosen answers become less likely: the loss only asks that rejected ones fall "
        "faster. The probability goes to answers that are in no pair.",
        "Reward of chosen below 0 while the margin rises. Then read what the policy says instead.",
        "A smaller learning rate or larger beta, an SFT term on the chosen answer, pairs whose answers differ more.",
        _displacement,
        _differs,
    ),
    Fault(
        "length",
        "Length drift",
        "Answers grow or shrink because the pairs, or the oracle, prefer that, whatever the content.",
        "Length against the start policy's; whether wins remain under length control.",
        "A length-controlled score, a loss normalised by length (SimPO), pairs matched in length.",
        _length,
        _changed_length,
    ),
    Fault(
        "kl",
        "KL blow-up",
        "The policy moves far from the start policy for little reward; the reward it gains there is often a weakness "
        "of the oracle.",
        "KL an answer and a token; reward against KL above: a point far right and not higher.",
        "A larger beta, fewer steps, a smaller learning rate.",
        _kl,
        _differs,
    ),
    Fault(
        "saturation",
        "Saturated accuracy",
        "Every training pair is ordered correctly, so that the loss has little left to teach and memorises.",
        "Training accuracy near 100% while that on held-out pairs stays behind.",
        "Fewer passes over the pairs, more pairs, label smoothing (cDPO), a bounded loss (IPO).",
        _saturation,
        _worse,
    ),
    Fault(
        "template",
        "Template faults",
        "The policy has not learnt where its turn ends, or writes markup of the chat template into the answer: the "
        "training text ended otherwise than the sampled one.",
        "More answers cut at the longest length than the start policy's; tokens such as <|im_end|> in the text.",
        "Check that training text ends with the model's own end of turn (sail-bench does at the start of a run).",
        _template,
        _marked,
    ),
)
