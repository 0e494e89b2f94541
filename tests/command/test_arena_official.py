"""Official Arena-Hard: estimators on published battles, the judge's prompts, and a comparison judged over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import golden
from judge_server import Server, completion
from scipy.optimize import brentq

from benchmarks.arena_hard.official import AGAIN, ArenaHard01, ArenaHard20
from benchmarks.arena_hard.prompts import read_judge_prompts
from benchmarks.arena_hard.score_columns import RANGES, columns_of_games
from harness.errors import UserError
from harness.recipe.load import builtin_recipes
from harness.score.bootstrap import draws
from harness.score.bradley_terry import (
    STYLE_FEATURES,
    Pool,
    fit_style,
    style_differences,
    style_offset,
    win_rates_with_style,
)
from harness.score.results import read_result
from harness.score.validity import checked_columns
from harness.score.win_rate_estimators import equal_style, equal_style_v2, frozen_style, game_percent
from harness.store.json_files import digest

Cli = Any


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden("arena_hard", name).read_text().split("\n") if line]


def published(name: str = "battles_official_v0.1.jsonl") -> dict[str, dict[str, Any]]:
    """Per-prompt columns of each model's published battles, one weight a battle."""
    looks = {
        (r["model"], r["question_id"]): [r["token_len"], r["header_count"], r["list_count"], r["bold_count"]]
        for r in rows("style_features_v0.1.jsonl")
    }
    found: dict[str, dict[str, Any]] = {}
    for r in rows(name):
        mine = found.setdefault(r["model"], {})
        sides = {"": looks[r["model"], r["question_id"]], "baseline_": looks[r["baseline"], r["question_id"]]}
        row = {"id": r["question_id"], "score": r["scores"], "weight": [1] * len(r["scores"])}
        row |= {side + f: look[i] for side, look in sides.items() for i, f in enumerate(STYLE_FEATURES)}
        for key, value in row.items():
            mine.setdefault(key, []).append(value)
    return found


def as_pool(found: dict[str, dict[str, Any]]) -> Pool:
    models, ids = sorted(found), sorted({q for c in found.values() for q in c["id"]})
    flat = [(m, i) for m in models for i in range(len(found[m]["id"]))]
    looks = [[[found[m][side + f][i] for f in STYLE_FEATURES] for m, i in flat] for side in ("", "baseline_")]
    return Pool(
        models,
        len(ids),
        np.array([models.index(m) for m, _ in flat]),
        np.array([ids.index(found[m]["id"][i]) for m, i in flat]),
        np.array([float(sum(found[m]["score"][i])) for m, i in flat]),
        np.array([float(len(found[m]["score"][i])) for m, i in flat]),
        *(np.array(look, float) for look in looks),
    )


def test_published_scores_follow_from_columns() -> None:
    """Raw: the published numbers. Under the pool's frozen style: upstream's own style-controlled numbers."""
    expected = json.loads(golden("arena_hard", "expected.json").read_text())
    for name, suffix in (("battles_official_v0.1", "pool_of_2"), ("battles_pref_opt_8models", "pool_of_8")):
        found = published(f"{name}.jsonl")
        pool = as_pool(found)
        style = fit_style(pool, pool.one()).frozen()
        whole = win_rates_with_style(pool, pool.one(), style)[0]
        for model, columns in found.items():
            one = np.ones((1, len(columns["id"])))
            raw = expected[name]["recomputed_plain"][model]
            assert game_percent(columns, "score", one)[0] == pytest.approx(raw, abs=0.005)
            d = style_differences(
                *(np.array([columns[s + f] for f in STYLE_FEATURES], float).T for s in ("", "baseline_")), "v0.1"
            )
            columns["offset"] = [round(float(v), 8) for v in style_offset(d, style)]
            score = frozen_style(columns, "score", one)[0]
            assert score == pytest.approx(whole[pool.models.index(model)], abs=1e-4)
            known = expected[name][f"upstream_v01_style_control_{suffix}"]["scores"][model]
            assert score == pytest.approx(known, abs=0.05)
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
    given = [{"id": i, "games": [{"label": g["score"]} for g in r["games"]], **more} for i, r in enumerate(judged)]
    wins = total = 0.0
    for r in judged:
        for number, found in enumerate(r["games"]):
            if found["score"] in strong:
                score, weight = strong[found["score"]]
                wins, total = wins + weight * (score if number == 0 else 1 - score), total + weight
    columns = checked_columns({"items": columns_of_games(given, "v0.1")}, [], RANGES).columns["items"]
    assert game_percent(columns, "score", np.ones((1, len(given))))[0] == pytest.approx(100 * wins / total)
    whole = checked_columns({"items": columns_of_games(given, "v2.0")}, [], RANGES).columns["items"]
    assert all((None in pair) == (pair == [None, None]) for pair in whole["score"])
    assert sum(s is not None for p in whole["score"] for s in p) < sum(
        s is not None for p in columns["score"] for s in p
    )


TEMPLATE = "Q: {question_1}\nA says: {answer_1}\nB says: {answer_2}\nEnd."


def test_prompts_are_read_from_yaml_and_from_python_that_is_not_run(tmp_path: Path) -> None:
    config, code = tmp_path / "a.yaml", tmp_path / "judge_utils.py"
    config.write_text(yaml.safe_dump({"system_prompt": "Judge.", "prompt_template": [TEMPLATE]}))
    found = read_judge_prompts(config, ["items"]).messages("items", "{answer_1}?", "x", "y")
    assert found == (("system", "Judge."), ("user", "Q: {answer_1}?\nA says: x\nB says: y\nEnd."))
    config.write_text(yaml.safe_dump({"prompt_template": "{QUESTION} {ANSWER_A} {ANSWER_B}"}))
    code.write_text(
        'import os\nOG = "Judge hard."\nJUDGE_SETTINGS = {"hard_prompt": {"baseline": "o", "system_prompt": OG},\n'
        ' "creative_writing": {"system_prompt": "Judge " "style."}}\nraise RuntimeError("run")\n'
    )
    found = read_judge_prompts(config, ["hard_prompt", "creative_writing"], code).messages(
        "creative_writing", "q", "x", "y"
    )
    assert found == (("system", "Judge style."), ("user", "q x y"))
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


def verdict(turns: list[dict[str, str]]) -> str:
    """What the scripted judge says: by question, by slot, and by whether it is asked again."""
    if turns[-1]["content"] == AGAIN:
        return "So: [[B>A]]"
    question = turns[1]["content"].split("\n")[0]
    baseline_first = "\nA says: baseline" in turns[1]["content"]
    said = {"Q: biased": "[[A>>B]]", "Q: shy": "I like B.", "Q: torn": "[[A>B]] or [[B>A]]"}
    return said.get(question, f"Fine. [[{'B>A' if baseline_first else 'A>B'}]]")


@pytest.fixture
def judge(serve: Any) -> Server:
    return serve(lambda handler, body, n: handler.send(completion(verdict(body["messages"]))))


def write(path: Path, content: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in content), encoding="utf-8")


QUESTIONS = ("biased", "shy", "torn", "easy")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small folder of our own in the official layouts."""
    folder = tmp_path / "official/arena_hard"
    write(folder / "question_v0.1.jsonl", [{"uid": f"q{i}", "prompt": q} for i, q in enumerate(QUESTIONS)])
    said = [f"baseline {i}\n\n# Head\n* **one**" for i in range(len(QUESTIONS))]
    turns = [{"question_id": f"q{i}", "choices": [{"turns": [{"content": s}]}]} for i, s in enumerate(said)]
    write(folder / "model_answer_v0.1/gpt-4-0314.jsonl", turns)
    config = {"system_prompt": "Judge.", "prompt_template": [TEMPLATE]}
    (folder / "judge_prompt_v0.1.yaml").write_text(yaml.safe_dump(config))
    kinds = ["hard_prompt", "hard_prompt", "hard_prompt", "creative_writing"]
    second = [
        {"uid": f"u{i}", "category": k, "prompt": q} for i, (k, q) in enumerate(zip(kinds, QUESTIONS, strict=True))
    ]
    write(folder / "arena-hard-v2.0/question.jsonl", second)
    for model in ("o3-mini-2025-01-31", "gemini-2.0-flash-001"):
        told = [
            {"uid": f"u{i}", "model": model, "messages": [{"role": "assistant", "content": {"answer": s}}]}
            for i, s in enumerate(said)
        ]
        write(folder / f"arena-hard-v2.0/model_answer/{model}.jsonl", told)
    config = {"hard_prompt": "Judge it.", "creative_writing": "Judge style.", "prompt_template": TEMPLATE}
    (folder / "judge_prompt_v2.0.yaml").write_text(yaml.safe_dump(config))
    return folder.parent


def pool_file(path: Path) -> dict[str, Any]:
    facts = {"version": "v0.1", "models": ["a", "b"], "mean": [0.1, 0.0, -0.1, 0.0], "sd": [0.4, 0.5, 0.5, 0.5]}
    facts["coefficients"] = [0.3, 0.1, -0.2, 0.4]
    record = facts | {"hash": digest(facts)}
    path.write_text(json.dumps(record))
    return record


def recipe(folder: Path, judge: Server, benchmarks: dict[str, Any]) -> None:
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    there = {"model": "judge-1", "base_url": f"http://127.0.0.1:{judge.server_port}/v1"}
    own = {"name": "official", "methods": ["start"], "judge": there, "benchmarks": benchmarks}
    (folder / "official.yaml").write_text(yaml.safe_dump(tiny | own))


@pytest.mark.slow
def test_arena_hard_end_to_end(data: Path, judge: Server, tmp_path: Path, cli: Cli) -> None:
    short = {"max_new_tokens": 6, "length": "characters"}
    recipe(tmp_path, judge, {"arena_hard_v0.1": short, "arena_hard_v2.0": short})
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "results/official/pairs-16/start/seed-0.json"
    found = {b.benchmark: b for b in read_result(path).benchmarks}
    old, new = found["arena_hard_v0.1"], found["arena_hard_v2.0"]
    # biased: 3 of 6; shy, asked again: 1 of 2; torn: nothing; easy: 2 of 2
    assert old.metric("win_rate").value == pytest.approx(100 * 6 / 10)
    assert (old.metric("win_rate").n_valid, old.metric("win_rate").n_total) == (6, 8)
    assert old.metric("shown_first").value == pytest.approx(3 / 6)
    assert old.metric("agree").value == pytest.approx(1 / 3, abs=1e-6)
    assert old.metric("sc").value is not None
    # v2.0 asks once, so shy is left out whole; of torn's labels the last counts; the categories are kept apart
    assert new.metric("win_rate").value == pytest.approx(100 * (3 + 1) / (6 + 2))
    assert (new.metric("win_rate").n_valid, new.metric("win_rate").n_total) == (4, 6)
    assert new.metric("creative_win_rate").value == pytest.approx(100)
    assert set(new.items) == {"hard_prompt", "creative_writing"}
    assert old.protocol["prompt"] != new.protocol["prompt"]
    assert (old.protocol["attempts"], new.protocol["attempts"]) == (2, 1)
    assert old.protocol["length"] == "characters"

    again = [b for b in judge.bodies if len(b["messages"]) == 4]
    assert len(again) == 2
    for body in again:
        assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
        assert body["messages"][2]["content"] == "I like B."
    assert {(b["temperature"], b["max_tokens"]) for b in judge.bodies} == {(0, 4096), (0, 16000)}
    systems = {b["messages"][0]["content"] for b in judge.bodies}
    assert systems == {"Judge.", "Judge it.", "Judge style."}
    assert len(judge.bodies) == 8 + 2 + 8

    asked = len(judge.bodies)
    record = pool_file(tmp_path / "pool.json")
    recipe(tmp_path, judge, {"arena_hard_v0.1": {**short, "pool": "pool.json"}})
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert len(judge.bodies) == asked  # the same answers and questions: nothing is asked again
    frozen = next(b for b in read_result(path).benchmarks if b.benchmark == "arena_hard_v0.1")
    assert frozen.protocol["pool"] == record
    assert "conditional" in frozen.protocol["interval"]
    assert frozen.protocol_hash != old.protocol_hash
    items = frozen.items["items"]
    looks = [np.array([items[s + f] for f in STYLE_FEATURES], float).T for s in ("", "baseline_")]
    d = (looks[0] - looks[1]) / (looks[0] + looks[1] + 1)
    shift = (d - record["mean"]) / record["sd"] @ record["coefficients"]
    games = [
        (s, w, shift[i]) for i in range(4) for s, w in zip(items["score"][i], items["weight"][i], strict=True) if w
    ]

    def gradient(u: float) -> float:
        return float(sum(w * (s - 1 / (1 + np.exp(-u - o))) for s, w, o in games))

    assert frozen.metric("sc").value == pytest.approx(100 / (1 + np.exp(-brentq(gradient, -9, 9))), abs=1e-4)
    everything = b"".join(p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file())
    assert str(data).encode() not in everything
    assert b"pool.json" not in everything


def test_what_is_wrong_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(data))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pool = tmp_path / "pool.json"

    def old(**more: Any) -> ArenaHard01:
        return ArenaHard01(ArenaHard01.Options.model_validate({"length": "characters", **more}))

    def new(**more: Any) -> ArenaHard20:
        return ArenaHard20(ArenaHard20.Options.model_validate({"length": "characters", **more}))

    assert old(limit=2).label == "first 2 prompts"
    assert [i["id"] for i in new(category="creative_writing")._items()] == ["u3"]
    assert len(new(limit=2)._items()) == 2
    with pytest.raises(UserError, match="There is no file"):
        old(pool=str(pool)).protocol()
    pool.write_text("{}")
    with pytest.raises(UserError, match="no style that --save-pool wrote"):
        old(pool=str(pool)).protocol()
    record = pool_file(pool)
    with pytest.raises(UserError, match="set its option category"):
        new(pool=str(pool)).protocol()
    with pytest.raises(UserError, match="that of Arena-Hard v0.1, not v2.0"):
        new(pool=str(pool), category="hard_prompt").protocol()
    pool.write_text(json.dumps(record | {"mean": [0.0] * 4}))
    with pytest.raises(UserError, match="was changed after"):
        old(pool=str(pool)).protocol()
    write(data / "arena_hard/model_answer_v0.1/gpt-4-0314.jsonl", [{"question_id": "q0", "answer": "x"}])
    answered = [{"id": "q3", "category": "items", "answer": {"text": "y"}}]
    with pytest.raises(UserError, match="gpt-4-0314 has no answer to 1 questions of arena_hard_v0.1, as q3"):
        old()._baseline_texts(answered)
    write(data / "arena_hard/arena-hard-v2.0/question.jsonl", [{"uid": "u", "category": "poems", "prompt": "x"}])
    with pytest.raises(UserError, match="category 'poems'"):
        new()._items()
    (data / "arena_hard/judge_prompt_v0.1.yaml").unlink()
    with pytest.raises(UserError, match=r"judge_prompt_v0.1.yaml, which is not there, and the Hub is switched off"):
        old().protocol()
