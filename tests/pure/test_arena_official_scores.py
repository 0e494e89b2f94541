"""Official Arena-Hard: estimators on published battles, and the judge's prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import golden

from benchmarks.arena_hard.prompts import read_judge_prompts
from benchmarks.arena_hard.score_columns import RANGES, columns_of_games
from harness.errors import UserError
from harness.score.bootstrap import draws
from harness.score.bradley_terry import (
    STYLE_FEATURES,
    Pool,
    fit_style,
    style_differences,
    style_offset,
    win_rates_with_style,
)
from harness.score.validity import checked_columns
from harness.score.win_rate_estimators import equal_style, equal_style_v2, frozen_style, game_percent


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden("arena_hard", name).read_text().split("\n") if line]


def published(name: str = "battles_official_v0.1.jsonl") -> dict[str, dict[str, Any]]:
    """Per-prompt columns of each model's published battles, one weight a battle."""
    looks = {
        (r["model"], r["question_id"]): [r["token_len"], r["header_count"], r["list_count"], r["bold_count"]]
        for r in rows("style_features_v0.1.jsonl")
    }
    battles: dict[str, dict[str, Any]] = {}
    for r in rows(name):
        mine = battles.setdefault(r["model"], {})
        sides = {"": looks[r["model"], r["question_id"]], "baseline_": looks[r["baseline"], r["question_id"]]}
        row = {"id": r["question_id"], "score": r["scores"], "weight": [1] * len(r["scores"])}
        row |= {side + f: look[i] for side, look in sides.items() for i, f in enumerate(STYLE_FEATURES)}
        for key, value in row.items():
            mine.setdefault(key, []).append(value)
    return battles


def as_pool(battles: dict[str, dict[str, Any]]) -> Pool:
    models, ids = sorted(battles), sorted({q for c in battles.values() for q in c["id"]})
    flat = [(m, i) for m in models for i in range(len(battles[m]["id"]))]
    looks = [[[battles[m][side + f][i] for f in STYLE_FEATURES] for m, i in flat] for side in ("", "baseline_")]
    return Pool(
        models,
        len(ids),
        np.array([models.index(m) for m, _ in flat]),
        np.array([ids.index(battles[m]["id"][i]) for m, i in flat]),
        np.array([float(sum(battles[m]["score"][i])) for m, i in flat]),
        np.array([float(len(battles[m]["score"][i])) for m, i in flat]),
        *(np.array(look, float) for look in looks),
    )


def test_published_scores_follow_from_columns() -> None:
    """Raw: the published numbers. Under the pool's frozen style: upstream's own style-controlled numbers."""
    expected = json.loads(golden("arena_hard", "expected.json").read_text())
    for name, suffix in (("battles_official_v0.1", "pool_of_2"), ("battles_pref_opt_8models", "pool_of_8")):
        battles = published(f"{name}.jsonl")
        pool = as_pool(battles)
        style = fit_style(pool, pool.one()).frozen()
        whole = win_rates_with_style(pool, pool.one(), style)[0]
        for model, columns in battles.items():
            one = np.ones((1, len(columns["id"])))
            raw = expected[name]["recomputed_plain"][model]
            assert game_percent(columns, "score", one)[0] == pytest.approx(raw, abs=0.005)
            d = style_differences(
                *(np.array([columns[s + f] for f in STYLE_FEATURES], float).T for s in ("", "baseline_")), "v0.1"
            )
            columns["offset"] = [round(float(v), 8) for v in style_offset(d, style)]
            score = frozen_style(columns, "score", one)[0]
            assert score == pytest.approx(whole[pool.models.index(model)], abs=1e-4)
            upstream = expected[name][f"upstream_v01_style_control_{suffix}"]["scores"][model]
            assert score == pytest.approx(upstream, abs=0.05)
    official = {m: game_percent(c, "score", np.ones((1, len(c["id"]))))[0] for m, c in published().items()}
    assert official == {
        "gpt-4-0613": pytest.approx(37.90, abs=0.005),
        "gpt-3.5-turbo-0125": pytest.approx(23.34, abs=0.005),
    }


@pytest.mark.parametrize("release", ["v0.1", "v2.0"])
def test_equal_style_is_the_intercept_of_a_regression(release: Any) -> None:
    """Against scikit-learn on single battles: standardised differences centred, read back at difference 0."""
    from sklearn.linear_model import LogisticRegression

    columns = published()["gpt-4-0613"]
    battles = [(i, s) for i, scores in enumerate(columns["score"]) for s in scores]
    d = style_differences(
        *(np.array([columns[s + f] for f in STYLE_FEATURES], float).T for s in ("", "baseline_")), release
    )
    x = d[[i for i, _ in battles]]
    z = (x - x.mean(0)) / x.std(0, ddof=0 if release == "v0.1" else 1)
    y = np.array([s for _, s in battles])
    if release == "v0.1":
        design, fit = np.column_stack([np.full(len(z), np.log(10)), -np.full(len(z), np.log(10)), z]), {"C": 1.0}
    else:
        design, fit = np.column_stack([np.ones(len(z)), z]), {"C": np.inf}
    twice = 2.0 if release == "v0.1" else 1.0
    model = LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=10000, **fit)
    labels, weights = np.repeat([1, 0], len(y)), twice * np.concatenate([y, 1 - y])
    model.fit(np.concatenate([design, design]), labels, weights)
    beta = model.coef_[0]
    strength = np.log(10) * (beta[0] - beta[1]) if release == "v0.1" else beta[0]
    at_zero = strength - (x.mean(0) / x.std(0, ddof=0 if release == "v0.1" else 1)) @ beta[-4:]
    estimate = equal_style if release == "v0.1" else equal_style_v2
    one = np.ones((1, len(columns["id"])))
    assert estimate(columns, "score", one)[0] == pytest.approx(100 / (1 + np.exp(-at_zero)), abs=1e-3)
    counts = draws(len(columns["id"]), 2)
    again = {k: [v[i] for i, n in enumerate(counts[1]) for _ in range(int(n))] for k, v in columns.items()}
    repeated = estimate(again, "score", np.ones((1, len(again["id"]))))[0]
    assert estimate(columns, "score", counts)[1] == pytest.approx(repeated, abs=1e-6)


def test_one_sided_and_empty_games_have_a_score_or_none() -> None:
    look = {
        side + f: [float(3 * i + k) for i in range(4)]
        for side, k in (("", 1), ("baseline_", 2))
        for f in STYLE_FEATURES
    }
    lost = {"score": [[0.0, 0.0]] * 4, "weight": [[3, 1]] * 4, "offset": [0.1] * 4, **look}
    none = {"score": [[None, None]] * 4, "weight": [[None, None]] * 4, "offset": [0.1] * 4, **look}
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1]])
    assert list(equal_style_v2(lost, "score", weights)) == [0, 0]
    assert (frozen_style(lost, "score", weights) < 1e-3).all()
    for estimate in (game_percent, equal_style, equal_style_v2, frozen_style):
        assert np.isnan(estimate(none, "score", weights)).all()


def test_published_judgments_give_the_stored_scores() -> None:
    """Columns of real games of v0.1 against the labels stored beside them; v2.0 leaves a prompt out whole."""
    strong = {"A>>B": (0, 3), "A>B": (0, 1), "A=B": (0.5, 1), "B>A": (1, 1), "B>>A": (1, 3)}
    judged = rows("judgments_raw_gpt-4-1106-preview.jsonl")
    answer = {"text": "x", "truncated": False}
    more = {"answer": answer, "baseline_length": 1, "style": [1.0] * 4, "baseline_style": [1.0] * 4}
    answered = [{"id": i, "games": [{"label": g["score"]} for g in r["games"]], **more} for i, r in enumerate(judged)]
    wins = total = 0.0
    for r in judged:
        for number, game in enumerate(r["games"]):
            if game["score"] in strong:
                score, weight = strong[game["score"]]
                wins, total = wins + weight * (score if number == 0 else 1 - score), total + weight
    columns = checked_columns({"items": columns_of_games(answered, "v0.1")}, [], RANGES).columns["items"]
    assert game_percent(columns, "score", np.ones((1, len(answered))))[0] == pytest.approx(100 * wins / total)
    whole = checked_columns({"items": columns_of_games(answered, "v2.0")}, [], RANGES).columns["items"]
    assert all((None in pair) == (pair == [None, None]) for pair in whole["score"])
    assert sum(s is not None for p in whole["score"] for s in p) < sum(
        s is not None for p in columns["score"] for s in p
    )


TEMPLATE = "Q: {question_1}\nA says: {answer_1}\nB says: {answer_2}\nEnd."


def test_prompts_are_read_from_yaml_and_from_python_that_is_not_run(tmp_path: Path) -> None:
    config, code = tmp_path / "a.yaml", tmp_path / "judge_utils.py"
    config.write_text(yaml.safe_dump({"system_prompt": "Judge.", "prompt_template": [TEMPLATE]}))
    messages = read_judge_prompts(config, ["items"]).messages("items", "{answer_1}?", "x", "y")
    assert messages == (("system", "Judge."), ("user", "Q: {answer_1}?\nA says: x\nB says: y\nEnd."))
    config.write_text(yaml.safe_dump({"prompt_template": "{QUESTION} {ANSWER_A} {ANSWER_B}"}))
    code.write_text(
        'import os\nOG = "Judge hard."\nJUDGE_SETTINGS = {"hard_prompt": {"baseline": "o", "system_prompt": OG},\n'
        ' "creative_writing": {"system_prompt": "Judge " "style."}}\nraise RuntimeError("run")\n'
    )
    messages = read_judge_prompts(config, ["hard_prompt", "creative_writing"], code).messages(
        "creative_writing", "q", "x", "y"
    )
    assert messages == (("system", "Judge style."), ("user", "q x y"))
    assert read_judge_prompts(config, ["hard_prompt"], code).system == {"hard_prompt": "Judge hard."}
    for text, sentence in (
        ("a: [", "is no YAML"),
        ("- a", "no YAML of keys"),
        ("prompt_template: only {question_1}", "needs prompt_template"),
        (f"prompt_template: {json.dumps(TEMPLATE)}", "holds no instruction for the judge of items"),
    ):
        config.write_text(text)
        with pytest.raises(UserError, match=sentence):
            read_judge_prompts(config, ["items"])
    code.write_text("JUDGE_SETTINGS = make()\n")
    config.write_text(f"prompt_template: {json.dumps(TEMPLATE)}")
    with pytest.raises(UserError, match="holds no table JUDGE_SETTINGS"):
        read_judge_prompts(config, ["hard_prompt"], code)
