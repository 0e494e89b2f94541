"""Arena-Hard from the official tool's own files: judgments and answers, v0.1 and v2.0 layouts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arena_hard.style import style
from benchmarks.arena_hard.verdict import games, label, label_v2
from benchmarks.shared.score_report import Metric, Scored, enough, joint_draw, some_rows
from harness.errors import UserError
from harness.score.bradley_terry import FrozenStyle, Pool, StyleFit, Version, fit_style, win_rates, win_rates_with_style
from harness.store import user_files as files
from harness.store.json_files import digest

Array = NDArray[np.float64]

BASELINES: dict[Version, str] = {"v0.1": "gpt-4-0314", "v2.0": "o3-mini-2025-01-31"}

CATEGORY, CREATIVE, CREATIVE_BASELINE = "hard_prompt", "creative_writing", "gemini-2.0-flash-001"

Looks = dict[tuple[str, str], list[float]]


def _jsonl(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.glob("*.jsonl"))
        if not found:
            raise UserError(f"{path} holds no .jsonl file")
        return found
    return [path]


def question_id(row: Mapping[str, Any], source: Path) -> str:
    """A row's question, by either of the official names."""
    for key in ("question_id", "uid"):
        if key in row:
            return str(row[key])
    raise UserError(f"{source}: a row has neither question_id nor uid")


def texts(path: Path) -> dict[tuple[str, str], tuple[str, float | None]]:
    """Text and stored token length of each answer, by (model, question), in any of the official layouts.

    Raises:
        UserError: an answer without a text.
    """
    found: dict[tuple[str, str], tuple[str, float | None]] = {}
    for file in _jsonl(path):
        for row in files.read_user_rows(file):
            model = str(row.get("model_id") or row.get("model") or file.stem)
            told = row.get("metadata") or row.get("conv_metadata") or {}
            length, text = row.get("token_len", told.get("token_len")), row.get("answer")
            if text is None and row.get("choices"):
                turn = row["choices"][0]["turns"][0]
                text, length = turn.get("content"), length if length is not None else turn.get("token_len")
            if text is None and row.get("messages"):
                content = row["messages"][-1].get("content")
                text = content.get("answer") if isinstance(content, dict) else content
            if text is None:
                raise UserError(f"{file}: the answer to {question_id(row, file)} has no text")
            found[model, question_id(row, file)] = str(text), None if length is None else float(length)
    return found


def answers(path: Path) -> Looks:
    """Token length and markdown counts of each answer, by (model, question). Token lengths are those in the files: they
    belong to the official tokenizer of the version."""
    found: Looks = {}
    for (model, question), (text, length) in texts(path).items():
        if length is None:
            raise UserError(f"{path}: the answer of {model} to {question} has no token_len")
        found[model, question] = [length, *(float(n) for n in style(text).values())]
    return found


def saved_style(path: Path) -> dict[str, Any]:
    """A style that ``--save-pool`` wrote.

    Raises:
        UserError: it is no such file, or was changed by hand.
    """
    try:
        found = json.loads(files.read_text_file(path))
        missing = {"version", "models", "mean", "sd", "coefficients", "hash"} - set(found)
    except (json.JSONDecodeError, TypeError):
        found, missing = {}, {"version"}
    if missing:
        raise UserError(f"{path} is no style that --save-pool wrote ({min(missing)!r} is missing)")
    if digest({k: v for k, v in found.items() if k != "hash"}) != found["hash"]:
        raise UserError(f"{path} was changed after --save-pool wrote it (its hash differs): write it again")
    return dict(found)


def frozen_style(record: Mapping[str, Any], version: Version) -> FrozenStyle:
    """The constants of a frozen style.

    Raises:
        UserError: they are of another version of Arena-Hard.
    """
    if record["version"] != version:
        raise UserError(f"The frozen style is that of Arena-Hard {record['version']}, not {version}")
    return FrozenStyle(*(np.array(record[k], float) for k in ("mean", "sd", "coefficients")))


def of_category(path: Path, category: str | None) -> tuple[list[tuple[Path, dict[str, Any]]], str | None, list[str]]:
    """Rows of one category, each with its file; the category's name (None where rows have none); and a notice of those
    left out. v2.0 has two kinds of prompts with a baseline each: of both, ``hard_prompt`` is taken, as upstream does.

    Raises:
        UserError: no row has that category, some rows have none, or none is named and there are several.
    """
    rows = [(file, row) for file in _jsonl(path) for row in some_rows(file, ["games"])]
    kinds = sorted({str(row["category"]) for _, row in rows if row.get("category")})
    chosen = category or (kinds[0] if len(kinds) == 1 else CATEGORY if CATEGORY in kinds else None)
    if category and category not in kinds:
        raise UserError(f"{path} has no rows of --category {category}: it has {', '.join(kinds) or 'no categories'}")
    if kinds and not all(row.get("category") for _, row in rows):
        raise UserError(f"{path} has rows without a category beside those of {', '.join(kinds)}: add it to them")
    if kinds and chosen is None:
        raise UserError(f"{path} mixes categories ({', '.join(kinds)}): score each by itself")
    others = [kind for kind in kinds if kind != chosen]
    told = [f"these are the scores of {chosen} alone: --category {kind} gives those of {kind}" for kind in others]
    if len(kinds) > 1:
        rows = [(file, row) for file, row in rows if str(row.get("category")) == chosen]
    return rows, chosen, [] if category else told


def judgments(
    path: Path, version: Version, category: str | None = None
) -> tuple[list[dict[str, Any]], str | None, list[str]]:
    """One row a (model, question): ``wins``, ``games`` (weights) and ``valid`` games; their category; and what was
    dropped.

    Labels are read from the judgment texts again where they are there, else the stored ones are taken.

    Raises:
        UserError: two judges or two baselines are mixed, or there are no rows (of that category).
    """
    rows, chosen, told = of_category(path, category)
    usual = CREATIVE_BASELINE if (version, chosen) == ("v2.0", CREATIVE) else BASELINES[version]
    found: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    bad = Counter[str]()
    read = label if version == "v0.1" else label_v2
    judges: set[str] = set()
    for file, row in rows:
        model, question = str(row.get("model") or file.stem), question_id(row, file)
        judges.add(str(row.get("judge", "not named in the file")))
        if (model, question) in seen:
            bad[f"{model}: rows repeat a question (the first counts)"] += 1
            continue
        seen.add((model, question))
        labels = [_label(g, read) for g in row["games"]]
        wins, weight, valid = games(labels, both=version == "v2.0")
        if valid < 2:
            bad[f"{model}: questions with a game that has no valid verdict"] += 1
        found.append(
            {"model": model, "question": question, "wins": wins, "games": weight, "valid": valid}
            | {"judge": row.get("judge", ""), "baseline": row.get("baseline") or usual}
        )
    for what, names in (("judges", judges), ("baselines", {r["baseline"] for r in found})):
        if len(names) > 1:
            raise UserError(f"{path} mixes {what} ({', '.join(sorted(names))}): score each by itself")
    return found, chosen, told + [f"{what}: {n}" for what, n in bad.items()]


def _label(game: Mapping[str, Any] | None, read: Any) -> str | None:
    if game is None:
        return None
    text = game.get("judgment")
    text = text.get("answer") if isinstance(text, dict) else text
    return read(text) if isinstance(text, str) else game.get("score")


def pool(rows: Sequence[dict[str, Any]], looks: Looks, order: Sequence[str]) -> Pool:
    """Rows of :func:`judgments` as a pool; ``order``: the question ids that are resampled."""
    models = sorted({r["model"] for r in rows})
    place = {q: i for i, q in enumerate(order)}
    number = {m: i for i, m in enumerate(models)}
    used = [r for r in rows if r["games"] > 0]
    nothing = [0.0] * 4
    return Pool(
        models,
        len(order),
        np.array([number[r["model"]] for r in used], dtype=np.int64),
        np.array([place[r["question"]] for r in used], dtype=np.int64),
        np.array([r["wins"] for r in used], float),
        np.array([r["games"] for r in used], float),
        np.array([looks.get((r["model"], r["question"]), nothing) for r in used], float),
        np.array([looks.get((r["baseline"], r["question"]), nothing) for r in used], float),
    )


def score(
    judged: Path,
    answered: Path | None = None,
    version: Version = "v0.1",
    frozen: Mapping[str, Any] | None = None,
    category: str | None = None,
) -> tuple[Scored, dict[str, Any] | None]:
    """Score official judgment files, with style control where all answers are there.

    Args:
        frozen: style of another pool, as this function gives it back; without it, the style is estimated from these
            models, and again inside every resample. category: of v2.0's prompts (None: :func:`of_category`).

    Returns:
        the scores, and the pool's style (models, standardisation, coefficients) to freeze; None without answers.

    Raises:
        UserError: a file that is missing or broken, or mixed judges.
    """
    rows, kind, warnings = judgments(judged, version, category)
    looks = answers(answered) if answered else {}
    order = sorted({r["question"] for r in rows})
    games_ = pool(rows, looks, order)
    draw, one = joint_draw(len(order)), np.ones((1, len(order)))
    metrics = [Metric("win_rate", "win %", win_rates(games_, one)[0], win_rates(games_, draw).T, len(order))]
    style_of: dict[str, Any] | None = None
    absent = {(m, r["question"]) for r in rows for m in (r["model"], r["baseline"])} - set(looks)
    if answered is None:
        warnings.append("no style-controlled score: the answers were not named (--answers)")
    elif not len(games_.model):
        warnings.append("no style-controlled score: no game has a valid verdict")
    elif absent:
        model, question = min(absent)
        warnings.append(f"no style-controlled score: {len(absent)} answers are absent, as {model}'s to {question}")
    else:
        values, samples, style_of = _controlled(games_, one, draw, version, frozen)
        samples[np.isnan(metrics[0].samples)] = np.nan  # no game of the model in that resample
        metrics.insert(0, Metric("style_controlled", "win %", values, samples, len(order)))
    played = np.bincount(games_.model, minlength=len(games_.models))
    few = ~enough(played, len(order))
    for metric in metrics:
        metric.values[few], metric.samples[few], metric.valued = np.nan, np.nan, played
    valid, total = Counter[str](), Counter[str]()
    for r in rows:
        valid[r["model"]] += r["valid"]
        total[r["model"]] += 2
    short = [m for m in games_.models if total[m] < 2 * len(order)]
    warnings += [f"{m}: {total[m] // 2} of {len(order)} questions were judged" for m in short]
    return Scored(
        f"Arena-Hard {version}",
        rows[0]["judge"] or "not named in the file",
        {
            "benchmark": f"arena_hard_{version}",
            "baseline": rows[0]["baseline"],
            **({"category": kind} if kind else {}),
            "questions": digest(order),
            "pool": None if style_of is None else {k: style_of[k] for k in ("models", "hash")},
        },
        list(games_.models),
        [(valid[m], total[m]) for m in games_.models],
        metrics,
        warnings=warnings,
    ), style_of


def _controlled(
    games_: Pool, one: Array, draw: Array, version: Version, frozen: Mapping[str, Any] | None
) -> tuple[Array, Array, dict[str, Any]]:
    if frozen is not None:
        values, samples = (win_rates_with_style(games_, w, frozen_style(frozen, version), version) for w in (one, draw))
        return values[0], samples.T, dict(frozen)
    found, again = fit_style(games_, one, version), fit_style(games_, draw, version)
    return found.scores[0], again.scores.T, _record(games_, found, version)


def _record(games_: Pool, fit: StyleFit, version: Version) -> dict[str, Any]:
    style_ = fit.frozen()
    facts = {
        "version": version,
        "models": list(games_.models),
        "mean": style_.mean.tolist(),
        "sd": style_.sd.tolist(),
        "coefficients": style_.coefficients.tolist(),
    }
    return facts | {"hash": digest(facts)}
