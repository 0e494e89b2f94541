"""Official Arena-Hard: a comparison judged over HTTP, and what can be wrong with its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from kit.command import Cli
from kit.judge_server import Server, completion
from kit.official_data import judge_at, write_recipe
from kit.rows import write_rows
from scipy.optimize import brentq

from benchmarks.arena_hard.official import AGAIN, ArenaHard01, ArenaHard20
from harness.errors import UserError
from harness.score.bradley_terry import (
    STYLE_FEATURES,
)
from harness.score.results import read_result
from harness.store.json_files import digest

TEMPLATE = "Q: {question_1}\nA says: {answer_1}\nB says: {answer_2}\nEnd."


def verdict(turns: list[dict[str, str]]) -> str:
    """What the scripted judge answers: by question, by slot, and by whether it is asked again."""
    if turns[-1]["content"] == AGAIN:
        return "So: [[B>A]]"
    question = turns[1]["content"].split("\n")[0]
    baseline_first = "\nA says: baseline" in turns[1]["content"]
    labels = {"Q: biased": "[[A>>B]]", "Q: shy": "I like B.", "Q: torn": "[[A>B]] or [[B>A]]"}
    return labels.get(question, f"Fine. [[{'B>A' if baseline_first else 'A>B'}]]")


@pytest.fixture
def judge(serve: Any) -> Server:
    return serve(lambda handler, body, n: handler.send(completion(verdict(body["messages"]))))


QUESTIONS = ("biased", "shy", "torn", "easy")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small folder of our own in the official layouts."""
    folder = tmp_path / "official/arena_hard"
    write_rows(folder / "question_v0.1.jsonl", [{"uid": f"q{i}", "prompt": q} for i, q in enumerate(QUESTIONS)])
    baseline = [f"baseline {i}\n\n# Head\n* **one**" for i in range(len(QUESTIONS))]
    turns = [{"question_id": f"q{i}", "choices": [{"turns": [{"content": s}]}]} for i, s in enumerate(baseline)]
    write_rows(folder / "model_answer_v0.1/gpt-4-0314.jsonl", turns)
    config = {"system_prompt": "Judge.", "prompt_template": [TEMPLATE]}
    (folder / "judge_prompt_v0.1.yaml").write_text(yaml.safe_dump(config))
    kinds = ["hard_prompt", "hard_prompt", "hard_prompt", "creative_writing"]
    second = [
        {"uid": f"u{i}", "category": k, "prompt": q} for i, (k, q) in enumerate(zip(kinds, QUESTIONS, strict=True))
    ]
    write_rows(folder / "arena-hard-v2.0/question.jsonl", second)
    for model in ("o3-mini-2025-01-31", "gemini-2.0-flash-001"):
        answers = [
            {"uid": f"u{i}", "model": model, "messages": [{"role": "assistant", "content": {"answer": s}}]}
            for i, s in enumerate(baseline)
        ]
        write_rows(folder / f"arena-hard-v2.0/model_answer/{model}.jsonl", answers)
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
    write_recipe(folder, judge_at(judge), methods=["start"], benchmarks=benchmarks)


@pytest.mark.slow
def test_arena_hard_end_to_end(data: Path, judge: Server, tiny_copy: Path, cli: Cli) -> None:
    short = {"max_new_tokens": 6, "length": "characters"}
    recipe(tiny_copy, judge, {"arena_hard_v0.1": short, "arena_hard_v2.0": short})
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    path = tiny_copy / "results/local/official/pairs-16/start/seed-0.json"
    results = {b.benchmark: b for b in read_result(path).benchmarks}
    old, new = results["arena_hard_v0.1"], results["arena_hard_v2.0"]
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

    calls = len(judge.bodies)
    record = pool_file(tiny_copy / "pool.json")
    recipe(tiny_copy, judge, {"arena_hard_v0.1": {**short, "pool": "pool.json"}})
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    assert len(judge.bodies) == calls  # the same answers and questions: nothing is asked again
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
    everything = b"".join(p.read_bytes() for p in (tiny_copy / "results").rglob("*") if p.is_file())
    assert str(data).encode() not in everything
    assert b"pool.json" not in everything


def test_what_is_wrong_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    write_rows(data / "arena_hard/model_answer_v0.1/gpt-4-0314.jsonl", [{"question_id": "q0", "answer": "x"}])
    answered = [{"id": "q3", "category": "items", "answer": {"text": "y"}}]
    with pytest.raises(UserError, match="gpt-4-0314 has no answer to 1 questions of arena_hard_v0.1, as q3"):
        old()._baseline_texts(answered)
    write_rows(data / "arena_hard/arena-hard-v2.0/question.jsonl", [{"uid": "u", "category": "poems", "prompt": "x"}])
    with pytest.raises(UserError, match="category 'poems'"):
        new()._items()
    (data / "arena_hard/judge_prompt_v0.1.yaml").unlink()
    with pytest.raises(UserError, match=r"judge_prompt_v0.1.yaml, which is not there, and the Hub is switched off"):
        old().protocol()
