"""The official sets end to end: a comparison of the tiny policy on files in the official layout, judged over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.command import Cli
from kit.judge_server import Server
from kit.official_data import PAIR, SETS, judge_at, write_recipe

from benchmarks.alpaca_eval.official import prompt_messages
from benchmarks.alpaca_eval.verdict import is_switched
from benchmarks.shared.asking import fill_template
from harness.errors import UserError
from harness.score.bootstrap import draws
from harness.score.estimators import pooled_mean
from harness.score.metrics import evaluate, metric
from harness.score.results import read_result
from harness.score.win_rate_estimators import length_controlled_2


def test_official_sets_end_to_end(official_data: Path, official_judge: Server, tiny_copy: Path, cli: Cli) -> None:
    write_recipe(tiny_copy, judge_at(official_judge), benchmarks=SETS | {"mt_bench": {"max_new_tokens": 6, "limit": 2}})
    done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    result = read_result(tiny_copy / "results/local/official/pairs-16/dpo/seed-0.json")
    scored = {b.benchmark: b for b in result.benchmarks}
    rating = scored["mt_bench_official"].metric("rating")
    assert (rating.n_valid, rating.n_total) == (5, 6)  # one judgment has no rating: counted, not averaged
    assert scored["mt_bench_official"].metric("turn_1").n_valid == 2
    assert scored["mt_bench_official"].judge["model"] == "judge-1"
    assert scored["mt_bench"].judge["kind"] == "local log-probability"
    assert scored["alpaca_eval_2"].label == "6 instructions of another set"
    graded = [b for b in official_judge.bodies if not b.get("logprobs")]
    assert {b["temperature"] for b in graded} == {0}
    math = next(b for b in graded if b["messages"][0]["content"] == "system of single-math-v1-multi-turn")
    assert math["messages"][1]["content"].startswith("R Ref one. R Ref two. Q One math? A ")
    assert "And {two}?" in math["messages"][1]["content"]
    pairs = [b for b in official_judge.bodies if b.get("logprobs")]
    assert {(b["temperature"], b["max_tokens"], b["top_logprobs"]) for b in pairs} == {(1, 1, 5)}
    for body in pairs:
        text = body["messages"][1]["content"]
        switched = is_switched(text.split("\n")[0])
        assert ("[M]baseline" in text) == switched
    share = np.exp(-0.4) / (np.exp(-0.4) + np.exp(-1.2))
    items = scored["alpaca_eval_2"].items["items"]
    for i, value in zip(items["id"], items["preference"], strict=True):
        assert value == pytest.approx(share if is_switched(f"Do {i} {{x}}") else 1 - share, abs=1e-5)
    assert scored["alpaca_eval_2"].metric("lc").value is not None
    first = read_result(tiny_copy / "results/local/official/pairs-16/start/seed-0.json")
    calls = [r.ledger["phases"]["judge"]["calls"] for r in (first, result)]
    assert sum(calls) >= len(
        official_judge.bodies
    )  # the local judge's calls are in it too; equal questions were asked once
    page = (tiny_copy / "results/local/official/pairs-16/LEADERBOARD.md").read_text()
    assert "`judge-1` behind an endpoint" in page
    assert "answered by `judge-2024-01-01`." in page
    assert scored["mt_bench_official"].snapshots == ["judge-2024-01-01"]
    assert "MT-Bench (3 questions of your own, v" in page
    calls_before = len(official_judge.bodies)
    again = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert again.returncode == 0, again.stderr
    assert len(official_judge.bodies) == calls_before  # nothing is judged twice
    everything = b"".join(p.read_bytes() for p in (tiny_copy / "results").rglob("*") if p.is_file())
    assert str(official_data).encode() not in everything


def test_a_policy_behind_an_endpoint_joins_the_table(
    official_data: Path, official_judge: Server, tiny_copy: Path, cli: Cli
) -> None:
    """It is asked with the messages and the protocol's decoding; what needs log-probabilities leaves it out."""
    judge = judge_at(official_judge)
    write_recipe(
        tiny_copy,
        judge,
        endpoints={"remote": judge | {"model": "policy-x", "retries": 0}},
        methods=["start", "remote"],
        benchmarks=SETS | {"arc_challenge": {"limit": 4}},
    )
    done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    requests = [b for b in official_judge.bodies if b["model"] == "policy-x"]
    second = [b for b in requests if len(b["messages"]) == 3]
    assert {b["messages"][1]["content"] for b in second} == {"Remote: One wri", "Remote: One mat", "Remote: One ste"}
    assert {b["messages"][-1]["content"] for b in second} == {"And {two}?"}
    assert sorted({b["temperature"] for b in requests}) == [0.0, 0.1, 0.7]
    assert all(("seed" in b) == (b["temperature"] > 0) for b in requests)
    assert {b["max_tokens"] for b in requests} == {6}
    result = read_result(tiny_copy / "results/local/official/pairs-16/remote/seed-0.json")
    assert {b.benchmark for b in result.benchmarks} == {"mt_bench_official", "alpaca_eval_2"}
    lengths = result.benchmark("alpaca_eval_2").items["items"]["length"]  # type: ignore[union-attr]
    assert sorted(lengths) == [0] + [len("Remote: Do 0 {x")] * 5
    assert (
        result.ledger["phases"]["eval"]["generated"] == 10 * len(requests) == 10 * 12
    )  # none twice, the empty one included
    page = (tiny_copy / "results/local/official/pairs-16/LEADERBOARD.md").read_text()
    assert "| `remote` | `endpoint`: a model behind" in page
    assert "not measured" in page
    everything = b"".join(p.read_bytes() for p in (tiny_copy / "results").rglob("*") if p.is_file())
    assert b"127.0.0.1" not in everything


@pytest.mark.parametrize(
    ("settings", "arguments", "sentence"),
    [
        ("local", ["--data-dir", "DATA"], "needs a judge behind an endpoint"),
        ({"model": "judge-1"}, [], "name it with --data-dir"),
        ({"model": "judge-1"}, ["--data-dir", "."], "which is not there"),
        ({"model": "judge-1", "speed": 3}, ["--data-dir", "DATA"], "speed"),
    ],
)
def test_what_is_missing_is_named(
    settings: Any, arguments: list[str], sentence: str, official_data: Path, tmp_path: Path, cli: Cli
) -> None:
    write_recipe(tmp_path, settings)
    filled_in = [str(official_data) if a == "DATA" else a for a in arguments]
    done = cli("compare", "official.yaml", *filled_in, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_prompt_files_are_read_and_filled_in_one_pass(tmp_path: Path) -> None:
    turns = prompt_messages(PAIR, tmp_path)
    assert turns[0] == ("system", "Be fair.")
    values = {"instruction": "{output_1}", "output_1": "a {instruction}", "output_2": "b"}
    assert fill_template(turns[1][1], values) == "{output_1}\n[m]a {instruction}[M]b"
    with pytest.raises(UserError, match="holds no turn"):
        prompt_messages("no turns", tmp_path)


def test_pooled_mean_equals_repeated_rows() -> None:
    rows = [[1.0, 2.0], [None, 5.0], [3.0, None], [None, None]]
    weights = draws(4, 20)
    scored = pooled_mean({"id": [0, 1, 2, 3], "x": rows}, "x", weights)
    for w, value in zip(weights, scored, strict=True):
        values = [v for row, n in zip(rows, w, strict=True) for v in row * int(n) if v is not None]
        assert value == pytest.approx(np.mean(values), nan_ok=True) if values else np.isnan(value)
    counted = evaluate(metric("x", "x", "u", 1, "pooled_mean", "x"), {"items": {"id": [0, 1, 2, 3], "x": rows}})
    assert (counted.n_valid, counted.n_total) == (4, 8)


def test_length_control_leaves_missing_verdicts_out() -> None:
    rng = np.random.default_rng(0)
    n = 30
    columns: dict[str, Any] = {
        "id": list(range(n)),
        "preference": list(rng.uniform(0, 1, n)),
        "length": list(rng.integers(10, 500, n)),
        "baseline_length": list(rng.integers(10, 500, n)),
        "difficulty": list(rng.normal(size=n)),
        "anchors": [[[0.8, 0.2], [-0.8, 0.7]] for _ in range(n)],
    }
    one = np.ones((1, n))
    whole = length_controlled_2(columns, "preference", one)
    columns["preference"][3] = None
    weights = one.copy()
    weights[0, 3] = 5  # a row without a verdict has no weight
    some = length_controlled_2(columns, "preference", weights)
    assert some == pytest.approx(length_controlled_2(columns, "preference", one))
    assert some != pytest.approx(whole, abs=1e-6)
