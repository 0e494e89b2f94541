"""``arena_hard_battles.jsonl``, which upstream's ``show_result.py`` of v0.1 writes: one row a battle."""

from __future__ import annotations

from pathlib import Path

from benchmarks.arena_hard.judgments import BASELINES, JudgedPrompt, Judgments, resolve_baseline
from benchmarks.arena_hard.layouts import BattleRow
from benchmarks.arena_hard.model_answers import AnswerKey, jsonl_files
from benchmarks.arena_hard.verdict import GameTotals
from benchmarks.shared.judgment_files import read_typed_rows
from harness.errors import UserError
from harness.score.bradley_terry import Version
from harness.store import user_files

MOST_BATTLES = 6
"""Of one question: two strong verdicts."""

_POINTS = {"model_a": 0.0, "model_b": 1.0, "tie": 0.5, "tie (bothbad)": 0.5}


def holds_battles(path: Path) -> bool:
    """Whether a file (or the first one of a folder) holds battles instead of judgments.

    Raises:
        UserError: it is missing or broken.
    """
    rows = user_files.read_located_rows(jsonl_files(path)[0])
    return bool(rows) and "winner" in rows[0].row and "games" not in rows[0].row


def read_battles(path: Path, version: Version, baseline: str | None = None) -> Judgments:
    """All battles by model and question. They do not tell games apart, and a game without a verdict leaves no trace, so
    questions are counted.

    Args:
        path: a file, or a folder of files.
        version: of Arena-Hard; only v0.1 writes such files.
        baseline: that the user named.

    Raises:
        UserError: a row breaks the layout, has an unknown winner, or another baseline.
    """
    if version != "v0.1":
        raise UserError(f"{path} holds battles, which v0.1 writes: score them with --protocol v0.1, or give judgments")
    wins: dict[AnswerKey, list[float]] = {}
    named = []
    for file in jsonl_files(path):
        for place, row in read_typed_rows(file, BattleRow):
            if row.winner not in _POINTS:
                raise UserError(
                    f"{file}, {place}: the key 'winner' holds {row.winner!r}: {', '.join(_POINTS)} are expected"
                )
            named.append(row.model_a)
            wins.setdefault(AnswerKey(row.model_b, row.question(f"{file}, {place}")), []).append(_POINTS[row.winner])
    opponent = resolve_baseline(path, named, BASELINES[version], baseline, [key.model for key in wins])
    prompts = [
        JudgedPrompt(*key, GameTotals(sum(points), float(len(points)), 1), "", opponent.name, games=1)
        for key, points in wins.items()
    ]
    facts, notices = {}, ["battles do not show games without a verdict: questions are counted instead of games"]
    for model in sorted({key.model for key in wins}):
        own = [points for key, points in wins.items() if key.model == model]
        battles, repeated = sum(map(len, own)), sum(len(points) > MOST_BATTLES for points in own)
        facts[model] = {"rows": battles, "official": 100 * sum(map(sum, own)) / battles}
        if repeated:
            notices.append(
                f"{model}: questions with more than {MOST_BATTLES} battles, that is judged repeatedly: {repeated} (all "
                "count, as in the official tool)"
            )
    verdicts = {"read_from": "battles", "official": "the same battles"}
    return Judgments(prompts, None, opponent, verdicts, facts, notices)
