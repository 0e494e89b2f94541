"""Arena-Hard's judgment files, v0.1 and v2.0 layouts: games by model and question, and the pool that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.arena_hard.model_answers import AnswerKey, StyleFeatures, jsonl_files, question_id
from benchmarks.arena_hard.verdict import GameTotals, game_totals, read_label, read_label_v2
from benchmarks.shared.judgment_files import nonempty_rows, refuse_mixture
from harness.benchmark import Row
from harness.errors import UserError
from harness.score.bradley_terry import Pool, Version

BASELINES: dict[Version, str] = {"v0.1": "gpt-4-0314", "v2.0": "o3-mini-2025-01-31"}

HARD_PROMPT, CREATIVE_WRITING = "hard_prompt", "creative_writing"

CREATIVE_BASELINE = "gemini-2.0-flash-001"


class CategoryRows(NamedTuple):
    """Rows of one category, each with its file; its name (None where rows have none); notices of those left out."""

    rows: list[tuple[Path, Row]]
    category: str | None
    notices: list[str]


@dataclass(frozen=True)
class JudgedPrompt:
    """Both games of a model on one question. ``judge``: empty if the file does not name it."""

    model: str
    question: str
    totals: GameTotals
    judge: str
    baseline: str


class Judgments(NamedTuple):
    """Judged prompts of one category (None where rows have none), and notices of what was dropped."""

    prompts: list[JudgedPrompt]
    category: str | None
    notices: list[str]


def rows_of_category(path: Path, category: str | None) -> CategoryRows:
    """Rows of one category. v2.0 has two kinds of prompts with a baseline each: of both, ``hard_prompt`` is taken, as
    upstream does.

    Args:
        path: a file, or a folder of files.
        category: the one that the user named, if any.

    Raises:
        UserError: no row has that category, some rows have none, or none is named and there are several.
    """
    rows = [(file, row) for file in jsonl_files(path) for row in nonempty_rows(file, ["games"])]
    kinds = sorted({str(row["category"]) for _, row in rows if row.get("category")})
    chosen = category or (kinds[0] if len(kinds) == 1 else HARD_PROMPT if HARD_PROMPT in kinds else None)
    if category and category not in kinds:
        raise UserError(f"{path} has no rows of --category {category}: it has {', '.join(kinds) or 'no categories'}")
    if kinds and not all(row.get("category") for _, row in rows):
        raise UserError(f"{path} has rows without a category beside those of {', '.join(kinds)}: add it to them")
    if chosen is None:
        refuse_mixture(f"{path} mixes", "categories", kinds)
    others = [kind for kind in kinds if kind != chosen]
    notices = [f"these are the scores of {chosen} alone: --category {kind} gives those of {kind}" for kind in others]
    if len(kinds) > 1:
        rows = [(file, row) for file, row in rows if str(row.get("category")) == chosen]
    return CategoryRows(rows, chosen, [] if category else notices)


def read_judgments(path: Path, version: Version, category: str | None = None) -> Judgments:
    """The first row of each model and question.

    Labels are read from the judgment texts again where they are there, else the stored ones are taken.

    Args:
        path: a file, or a folder of files.
        version: how labels are read, and what an undecided game does to its partner.
        category: :func:`rows_of_category`.

    Raises:
        UserError: two judges or two baselines are mixed, or there are no rows (of that category).
    """
    rows, chosen, notices = rows_of_category(path, category)
    usual_baseline = CREATIVE_BASELINE if (version, chosen) == ("v2.0", CREATIVE_WRITING) else BASELINES[version]
    read = read_label if version == "v0.1" else read_label_v2
    prompts: dict[AnswerKey, JudgedPrompt] = {}
    problems = Counter[str]()
    judges: set[str] = set()
    for file, row in rows:
        key = AnswerKey(str(row.get("model") or file.stem), question_id(row, file))
        judges.add(str(row.get("judge", "not named in the file")))
        if key in prompts:
            problems[f"{key.model}: rows repeat a question (the first counts)"] += 1
            continue
        totals = game_totals([_label(game, read) for game in row["games"]], both=version == "v2.0")
        if totals.valid < 2:
            problems[f"{key.model}: questions with a game that has no valid verdict"] += 1
        prompts[key] = JudgedPrompt(*key, totals, row.get("judge", ""), row.get("baseline") or usual_baseline)
    refuse_mixture(f"{path} mixes", "judges", judges)
    refuse_mixture(f"{path} mixes", "baselines", (p.baseline for p in prompts.values()))
    return Judgments(list(prompts.values()), chosen, notices + [f"{what}: {n}" for what, n in problems.items()])


def _label(game: Mapping[str, Any] | None, read: Callable[[str], str | None]) -> str | None:
    if game is None:
        return None
    text = game.get("judgment")
    text = text.get("answer") if isinstance(text, dict) else text
    return read(text) if isinstance(text, str) else game.get("score")


def pool_of_games(prompts: Sequence[JudgedPrompt], style: StyleFeatures, order: Sequence[str]) -> Pool:
    """The valid games as a pool.

    Args:
        prompts: of all models.
        style: of the answers; those that are not there count as zeros.
        order: the question ids that are resampled.
    """
    models = sorted({p.model for p in prompts})
    question_places = {question: i for i, question in enumerate(order)}
    model_places = {model: i for i, model in enumerate(models)}
    played = [p for p in prompts if p.totals.weight > 0]
    no_style = [0.0] * 4
    return Pool(
        models,
        len(order),
        np.array([model_places[p.model] for p in played], dtype=np.int64),
        np.array([question_places[p.question] for p in played], dtype=np.int64),
        np.array([p.totals.wins for p in played], float),
        np.array([p.totals.weight for p in played], float),
        np.array([style.get(AnswerKey(p.model, p.question), no_style) for p in played], float),
        np.array([style.get(AnswerKey(p.baseline, p.question), no_style) for p in played], float),
    )
