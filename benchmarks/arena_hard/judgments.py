"""Arena-Hard's judgment files, v0.1 and v2.0 layouts: games by model and question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.arena_hard.layouts import Game, JudgmentRow
from benchmarks.arena_hard.model_answers import AnswerKey, jsonl_files
from benchmarks.arena_hard.official_value import PlacedJudgment, official_value
from benchmarks.arena_hard.verdict import RULES, UNKNOWN_LABEL, GameTotals, game_totals, known_label, read_label
from benchmarks.shared.judgment_files import read_typed_rows, refuse_mixture
from harness.answer.verdict import NO_LABEL, UNANSWERED, Verdict
from harness.errors import UserError
from harness.score.bradley_terry import Version

BASELINES: dict[Version, str] = {"v0.1": "gpt-4-0314", "v2.0": "o3-mini-2025-01-31"}

HARD_PROMPT, CREATIVE_WRITING = "hard_prompt", "creative_writing"

CREATIVE_BASELINE = "gemini-2.0-flash-001"

NO_GAME = "no game"
OTHER_GAME = "the other game has no verdict"
NOT_NAMED = "not named in the file"

JUDGMENT_TEXT, STORED_LABEL = "the judge's text", "the stored label"


@dataclass(frozen=True)
class JudgedPrompt:
    """Both games of a model on one question.

    Attributes:
        judge: empty if the file does not name it.
        reasons: why games are not valid, one for each of them.
        games: how many there should be; 1 where battles leave no trace of games.
    """

    model: str
    question: str
    totals: GameTotals
    judge: str
    baseline: str
    reasons: tuple[str, ...] = ()
    games: int = 2


class Baseline(NamedTuple):
    """The model that all others are compared with, and who says so."""

    name: str
    source: str


IN_ROWS, BY_OPTION, ASSUMED = "named in the rows", "named by --baseline", "assumed: the rows name none"


@dataclass
class Judgments:
    """What files of judgments, or of battles, hold of one category.

    Attributes:
        prompts: one for each model and question.
        category: None where rows have none.
        baseline: of all rows.
        verdicts: which rule made the verdicts, as JSON.
        facts: counts and the official value by model, as JSON.
        notices: sentences on what is not as it should be.
    """

    prompts: list[JudgedPrompt]
    category: str | None
    baseline: Baseline
    verdicts: dict[str, str]
    facts: dict[str, dict[str, Any]]
    notices: list[str] = field(default_factory=list)


class CategoryRows(NamedTuple):
    """Rows of one category, each with its file; its name (None where rows have none); notices of those left out."""

    rows: list[tuple[Path, PlacedJudgment]]
    category: str | None
    notices: list[str]


class _ReadRow(NamedTuple):
    """A row with its games read: the first two by our rule, how many it has, and whether a stored label differs."""

    file: Path
    placed: PlacedJudgment
    verdicts: list[Verdict[str]]
    totals: GameTotals
    differs: bool

    @property
    def key(self) -> AnswerKey:
        place, row = self.placed
        return AnswerKey(row.model or self.file.stem, row.question(place))


def rows_of_category(path: Path, category: str | None) -> CategoryRows:
    """Rows of one category. v2.0 has two kinds of prompts with a baseline each: of both, ``hard_prompt`` is taken, as
    upstream does.

    Args:
        path: a file, or a folder of files.
        category: the one that the user named, if any.

    Raises:
        UserError: a row breaks the layout, no row has that category, some rows have none, or none is named and there
            are several.
    """
    rows = [
        (file, PlacedJudgment(f"{file}, {place}", row))
        for file in jsonl_files(path)
        for place, row in read_typed_rows(file, JudgmentRow)
    ]
    kinds = sorted({placed.row.category for _, placed in rows if placed.row.category})
    chosen = category or (kinds[0] if len(kinds) == 1 else HARD_PROMPT if HARD_PROMPT in kinds else None)
    if category and category not in kinds:
        raise UserError(f"{path} has no rows of --category {category}: it has {', '.join(kinds) or 'no categories'}")
    if kinds and not all(placed.row.category for _, placed in rows):
        raise UserError(f"{path} has rows without a category beside those of {', '.join(kinds)}: add it to them")
    if chosen is None:
        refuse_mixture(f"{path} mixes", "categories", kinds)
    others = [kind for kind in kinds if kind != chosen]
    notices = [f"these are the scores of {chosen} alone: --category {kind} gives those of {kind}" for kind in others]
    if len(kinds) > 1:
        rows = [(file, placed) for file, placed in rows if placed.row.category == chosen]
    return CategoryRows(rows, chosen, [] if category else notices)


def read_judgments(path: Path, version: Version, category: str | None = None, baseline: str | None = None) -> Judgments:
    """The first valid row of each model and question: of several, the first with the most valid games.

    Labels are read from the judgment texts where they are there, else the stored ones are taken.

    Args:
        path: a file, or a folder of files.
        version: how labels are read, and what an undecided game does to its partner.
        category: :func:`rows_of_category`.
        baseline: that the user named, for rows that do not.

    Raises:
        UserError: a row breaks the layout, two judges or two baselines are mixed, rows name another baseline than the
            user, or there are no rows (of that category).
    """
    placed_rows, chosen, notices = rows_of_category(path, category)
    rows = [_read_row(file, placed, version) for file, placed in placed_rows]
    refuse_mixture(f"{path} mixes", "judges", (r.placed.row.judge or NOT_NAMED for r in rows))
    by_model: dict[str, list[_ReadRow]] = {}
    for row in rows:
        by_model.setdefault(row.key.model, []).append(row)
    usual = CREATIVE_BASELINE if (version, chosen) == ("v2.0", CREATIVE_WRITING) else BASELINES[version]
    named = [r.placed.row.baseline for r in rows]
    opponent = resolve_baseline(path, named, usual, baseline, by_model)
    prompts: list[JudgedPrompt] = []
    facts = {}
    for model, own in by_model.items():
        counted = _counted_rows(own)
        prompts += [_judged_prompt(row, opponent.name, version) for row in counted]
        facts[model] = _facts(own, counted, version)
        official = official_value([r.placed for r in own], version)
        facts[model]["official"] = official.value
        notices += _notices(model, own, facts[model], official.problem)
    return Judgments(prompts, chosen, opponent, _verdict_rule(rows, version), facts, notices)


def resolve_baseline(
    path: Path, named: Sequence[str | None], usual: str, chosen: str | None, models: Collection[str]
) -> Baseline:
    """The one baseline of all rows, and who says so.

    Args:
        path: of the rows, for errors.
        named: what each row names.
        usual: that of the official release.
        chosen: that the user named, if any.
        models: that were judged.

    Raises:
        UserError: rows name several, or another one than the user; or the usual one is judged itself, so that it is not
            the baseline of these rows.
    """
    refuse_mixture(f"{path} mixes", "baselines", (name or chosen or usual for name in named))
    own = next((name for name in named if name), None)
    if own is not None:
        if chosen not in (None, own):
            raise UserError(f"{path} names the baseline {own}: leave out --baseline {chosen}")
        return Baseline(own, IN_ROWS)
    if chosen is not None:
        return Baseline(chosen, BY_OPTION)
    if usual in models:
        raise UserError(
            f"{path} judges {usual} itself, so that the official baseline is hardly that of its rows, which name none: "
            "give --baseline"
        )
    return Baseline(usual, ASSUMED)


def _read_row(file: Path, placed: PlacedJudgment, version: Version) -> _ReadRow:
    games = [*(placed.row.games or [])[:2]]
    games += [None] * (2 - len(games))
    verdicts = [_verdict(game, version) for game in games]
    differs = any(
        game is not None and game.has_text and "score" in game.model_fields_set and _stored(game, version) != own.value
        for game, own in zip(games, verdicts, strict=True)
    )
    totals = game_totals([v.value for v in verdicts], both=version == "v2.0")
    return _ReadRow(file, placed, verdicts, totals, differs)


def _verdict(game: Game | None, version: Version) -> Verdict[str]:
    """By the judge's text, else by the stored label."""
    if game is None:
        return Verdict(None, NO_GAME)
    if game.judgment is not None:
        return read_label(game.judgment, version)
    if game.score is None:
        return Verdict(None, UNANSWERED if "judgment" in game.model_fields_set else NO_LABEL)
    label = _stored(game, version)
    return Verdict(None, UNKNOWN_LABEL) if label is None else Verdict(label)


def _stored(game: Game, version: Version) -> str | None:
    return None if game.score is None else known_label(game.score, version)


def _counted_rows(rows: Sequence[_ReadRow]) -> list[_ReadRow]:
    """Of a model's rows one for each question: the first with the most valid games."""
    counted: dict[str, _ReadRow] = {}
    for row in rows:
        question = row.key.question
        if question not in counted or row.totals.valid > counted[question].totals.valid:
            counted[question] = row
    return list(counted.values())


def _judged_prompt(row: _ReadRow, baseline: str, version: Version) -> JudgedPrompt:
    reasons = [verdict.reason for verdict in row.verdicts if verdict.value is None]
    if version == "v2.0" and len(reasons) == 1:
        reasons.append(OTHER_GAME)
    return JudgedPrompt(*row.key, row.totals, row.placed.row.judge or "", baseline, tuple(reasons))


def _facts(rows: Sequence[_ReadRow], counted: Sequence[_ReadRow], version: Version) -> dict[str, Any]:
    """Counts of a model's rows. ``replaced``: those whose re-run, further down, has more valid games; they are among
    the ``duplicates``. ``differ``: rows that store another label than their text says."""
    places = {id(row): place for place, row in enumerate(rows)}
    chosen = {row.key.question: places[id(row)] for row in counted}
    reasons = Counter(reason for row in counted for reason in _judged_prompt(row, "", version).reasons)
    return {
        "rows": len(rows),
        "duplicates": len(rows) - len(counted),
        "replaced": sum(place < chosen[row.key.question] for place, row in enumerate(rows)),
        "differ": sum(row.differs for row in rows),
        "invalid": dict(sorted(reasons.items())),
    }


def _notices(model: str, rows: Sequence[_ReadRow], facts: dict[str, Any], official_problem: str) -> list[str]:
    """Sentences on a model's rows."""
    extra_games = sum(len(row.placed.row.games or []) > 2 for row in rows)
    files = dict.fromkeys(row.file.name for row in rows)
    repeats = facts["duplicates"] - facts["replaced"]
    invalid = ", ".join(f"{count} {reason}" for reason, count in facts["invalid"].items())
    sentences = {
        f"it stands in {' and '.join(files)}": len(files) > 1,
        f"{repeats} rows repeat a question: the first valid one counts": repeats,
        f"{facts['replaced']} failed rows replaced by a re-run": facts["replaced"],
        f"games that are not valid: {invalid}": bool(invalid),
        f"rows with more than two games (the first two count, as in the official tool): {extra_games}": extra_games,
        f"{facts['differ']} of {len(rows)} rows store another label than their judgment text says: here the text "
        "counts, in the official value the label": facts["differ"],
        f"no official value: {official_problem}": bool(official_problem),
    }
    return [f"{model}: {sentence}" for sentence, applies in sentences.items() if applies]


def _verdict_rule(rows: Sequence[_ReadRow], version: Version) -> dict[str, str]:
    """Which rule made the verdicts, as JSON."""
    games = [game for row in rows for game in (row.placed.row.games or [])[:2] if game is not None]
    sources = {JUDGMENT_TEXT: any(g.has_text for g in games), STORED_LABEL: not all(g.has_text for g in games)}
    rule = "all labels agree" if RULES[version] == "only" else "the last label counts"
    return {
        "read_from": ", else ".join(source for source, applies in sources.items() if applies) or JUDGMENT_TEXT,
        "rule": rule,
        "thinking": "dropped",
        "repeated_rows": "the first valid one",
        "official": "stored labels, all rows",
    }
