"""The official sets end to end: a comparison of the tiny policy on files in the official layout, judged over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from judge_server import Handler, Server, completion

from benchmarks.alpaca_eval.official import prompt_messages
from benchmarks.alpaca_eval.verdict import is_switched
from benchmarks.shared.asking import fill_template
from harness.errors import UserError
from harness.recipe.load import builtin_recipes
from harness.score.bootstrap import draws
from harness.score.estimators import pooled_mean
from harness.score.metrics import evaluate, metric
from harness.score.results import RunResult, read_result
from harness.score.win_rate_estimators import length_controlled_2
from harness.store.json_files import digest, read_rows

Cli = Any
PAIR_SYSTEM = "<|im_start|>system\nBe fair.\n<|im_end|>\n"
PAIR = PAIR_SYSTEM + "<|im_start|>user\n{instruction}\n[m]{output_1}[M]{output_2}\n<|im_end|>\n"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small folder of our own in the official layout."""
    folder = tmp_path / "official"
    categories = ["writing", "math", "stem"]
    write(
        folder / "mt_bench/question.jsonl",
        [
            {"question_id": 81 + i, "category": c, "turns": [f"One {c}?", "And {two}?"]}
            for i, c in enumerate(categories)
        ],
    )
    reference = {"question_id": 82, "choices": [{"index": 0, "turns": ["Ref one.", "Ref two."]}]}
    write(folder / "mt_bench/reference_answer_gpt-4.jsonl", [reference])
    single, both = "Q {question} A {answer}", "Q {question_1} A {answer_1} Q {question_2} A {answer_2}"
    pair, pairs = "Q {question} A {answer_a} B {answer_b}", "Q {question_2} A {answer_a_1} {answer_a_2} B "
    pairs += "{answer_b_1} {answer_b_2} after {question_1}"
    prompts = {
        "pair-v2": pair,
        "pair-math-v1": "R {ref_answer_1} " + pair,
        "pair-v2-multi-turn": pairs,
        "pair-math-v1-multi-turn": "R {ref_answer_1} R {ref_answer_2} " + pairs,
        "single-v1": single,
        "single-math-v1": "R {ref_answer_1} " + single,
        "single-v1-multi-turn": both,
        "single-math-v1-multi-turn": "R {ref_answer_1} R {ref_answer_2} " + both,
    }
    write(
        folder / "mt_bench/judge_prompts.jsonl",
        [{"name": n, "system_prompt": f"system of {n}", "prompt_template": t} for n, t in prompts.items()],
    )
    items = [{"instruction": f"Do {i} {{x}}", "baseline_output": f"baseline {i} " * (i + 1)} for i in range(6)]
    write(folder / "alpaca_eval/eval_set_gpt4_1106_preview.jsonl", items)
    (folder / "alpaca_eval/judge_prompt_alpaca_eval_clf.txt").write_text(PAIR)
    hard = "".join(f"{i},{0.5 * i - 1}\n" for i in range(6))
    (folder / "alpaca_eval/instruction_difficulty.csv").write_text("index,instruction_difficulty\n" + hard)
    gamed = "".join(f"{i},{s},{p}\n" for s, p in ((1.2, 0.2), (-1.2, 0.7)) for i in range(6))
    (folder / "alpaca_eval/df_gamed.csv").write_text("index,std_delta_len,preference\n" + gamed)
    return folder


def pair_verdict(text: str) -> str:
    """Any verdict, or none, as the text will have it."""
    return ("[[A]]", "It is [[B]].", "[[C]]", "no verdict")[int(digest(text), 16) % 4]


def scripted(handler: Handler, body: dict[str, Any], n: int) -> None:
    text, top = body["messages"][-1]["content"], None
    if body["messages"][0]["content"].startswith("system of pair"):
        said = pair_verdict(text)
    elif body["model"] == "policy-x":
        said = "" if text.startswith("Do 3") else f"Remote: {text[:7]}"
    elif body.get("logprobs"):
        said, top = "m", {"m": -0.4, "M": -1.2}
    else:
        said = "no rating" if "One stem?" in text and "And" not in text else f"Fine. [[{1 + len(text) % 9}]]"
    handler.send(completion(said, top))


@pytest.fixture
def judge(serve: Any) -> Server:
    return serve(scripted)


def recipe(folder: Path, judge: Any, **more: Any) -> Path:
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    found = (
        tiny
        | {
            "name": "official",
            "methods": ["start", "dpo"],
            "tune": {"learning_rates": [1e-3]},
            "judge": judge,
            "benchmarks": {
                "mt_bench_official": {"max_new_tokens": 6},
                "alpaca_eval_2": {"max_new_tokens": 6},
                "mt_bench": {"max_new_tokens": 6, "limit": 2},
            },
        }
        | more
    )
    (folder / "official.yaml").write_text(yaml.safe_dump(found))
    return folder / "official.yaml"


def test_official_sets_end_to_end(data: Path, judge: Server, tmp_path: Path, cli: Cli) -> None:
    endpoint = {"model": "judge-1", "base_url": f"http://127.0.0.1:{judge.server_port}/v1"}
    recipe(tmp_path, endpoint)
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "results/official/pairs-16/dpo/seed-0.json")
    found = {b.benchmark: b for b in result.benchmarks}
    rating = found["mt_bench_official"].metric("rating")
    assert (rating.n_valid, rating.n_total) == (5, 6)  # one judgment has no rating: counted, not averaged
    assert found["mt_bench_official"].metric("turn_1").n_valid == 2
    assert found["mt_bench_official"].judge["model"] == "judge-1"
    assert found["mt_bench"].judge["kind"] == "local log-probability"
    assert found["alpaca_eval_2"].label == "6 instructions of another set"
    graded = [b for b in judge.bodies if not b.get("logprobs")]
    assert {b["temperature"] for b in graded} == {0}
    math = next(b for b in graded if b["messages"][0]["content"] == "system of single-math-v1-multi-turn")
    assert math["messages"][1]["content"].startswith("R Ref one. R Ref two. Q One math? A ")
    assert "And {two}?" in math["messages"][1]["content"]
    pairs = [b for b in judge.bodies if b.get("logprobs")]
    assert {(b["temperature"], b["max_tokens"], b["top_logprobs"]) for b in pairs} == {(1, 1, 5)}
    for body in pairs:
        text = body["messages"][1]["content"]
        switched = is_switched(text.split("\n")[0])
        assert ("[M]baseline" in text) == switched
    share = np.exp(-0.4) / (np.exp(-0.4) + np.exp(-1.2))
    items = found["alpaca_eval_2"].items["items"]
    for i, value in zip(items["id"], items["preference"], strict=True):
        assert value == pytest.approx(share if is_switched(f"Do {i} {{x}}") else 1 - share, abs=1e-5)
    assert found["alpaca_eval_2"].metric("lc").value is not None
    first = read_result(tmp_path / "results/official/pairs-16/start/seed-0.json")
    calls = [r.ledger["phases"]["judge"]["calls"] for r in (first, result)]
    assert sum(calls) >= len(judge.bodies)  # the local judge's calls are in it too; equal questions were asked once
    page = (tmp_path / "results/official/pairs-16/LEADERBOARD.md").read_text()
    assert "`judge-1` behind an endpoint" in page
    assert "answered by `judge-2024-01-01`." in page
    assert found["mt_bench_official"].snapshots == ["judge-2024-01-01"]
    assert "MT-Bench (3 questions of your own)" in page
    asked = len(judge.bodies)
    again = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(judge.bodies) == asked  # nothing is judged twice
    everything = b"".join(p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file())
    assert str(data).encode() not in everything


def test_calls_without_an_answer_are_counted_and_asked_again(
    data: Path, serve: Any, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table stands though one call always fails; the same command asks that one alone, until an answer comes. The
    key is sent and stands nowhere; an answer without log-probabilities is counted."""
    down = {"on": True}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")

    def behave(handler: Handler, body: dict[str, Any], n: int) -> None:
        if down["on"] and "One math?" in body["messages"][-1]["content"]:
            handler.send({"error": {"message": "overloaded for sk-very-secret"}}, 503)
        elif body.get("logprobs") and "Do 4" in body["messages"][-1]["content"]:
            handler.send(completion("m"))
        else:
            scripted(handler, body, n)

    server = serve(behave)
    endpoint = {"model": "judge-1", "base_url": f"http://127.0.0.1:{server.server_port}/v1", "retries": 0}
    benchmarks = {"mt_bench_official": {"max_new_tokens": 6}, "alpaca_eval_2": {"max_new_tokens": 6}}
    recipe(tmp_path, endpoint, methods=["start"], benchmarks=benchmarks)

    def compared() -> tuple[RunResult, str, str, list[str]]:
        before = len(server.asked)
        done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "results/official/pairs-16"
        result = read_result(folder / "start/seed-0.json")
        return result, (folder / "LEADERBOARD.md").read_text(), done.stderr, server.asked[before:]

    told = (
        "**Calls without an answer of the judge**: 2 of `start` seed 0 in MT-Bench. The same command asks them again."
    )
    result, page, said, asked = compared()
    first = len(asked)
    rating = result.benchmark("mt_bench_official").metric("rating")  # type: ignore[union-attr]
    assert (rating.n_valid, rating.n_total) == (3, 6)  # two lost, one without a rating
    won = result.benchmark("alpaca_eval_2").metric("lc")  # type: ignore[union-attr]
    assert (won.n_valid, won.n_total) == (5, 6)
    assert told in page
    assert "2 of mt_bench_official (the same command asks them again)" in " ".join(said.split())
    assert result.ledger["phases"]["judge"]["calls"] == first - 2
    again, page, _, asked = compared()
    assert len(asked) == 2
    assert all("One math?" in text for text in asked)
    assert told in page
    assert again.benchmarks == result.benchmarks
    down["on"] = False
    healed, page, said, asked = compared()
    assert len(asked) == 2
    rating = healed.benchmark("mt_bench_official").metric("rating")  # type: ignore[union-attr]
    assert (rating.n_valid, rating.n_total) == (5, 6)
    assert "Calls without an answer" not in page + said
    assert healed.ledger["phases"]["judge"]["calls"] == first  # each paid once
    assert healed.ledger["phases"]["judge"]["tokens"] == 110 * first
    assert compared()[3] == []
    assert set(server.keys) == {"Bearer sk-very-secret"}
    monkeypatch.delenv("OPENAI_API_KEY")
    assert all(b"sk-very-secret" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.slow
def test_killed_while_a_judge_is_asked_nothing_is_judged_twice(
    data: Path, serve: Any, tmp_path: Path, cli: Cli
) -> None:
    """kill -9 with answers of the judge under way: at most those that were in flight are asked once more."""

    def slowly(handler: Handler, body: dict[str, Any], n: int) -> None:
        time.sleep(0.4)
        scripted(handler, body, n)

    server = serve(slowly)
    address = f"http://127.0.0.1:{server.server_port}/v1"
    many = [{"question_id": 200 + i, "category": "writing", "turns": [f"Say {i}.", "And?"]} for i in range(12)]
    write(data / "mt_bench/question.jsonl", many)
    endpoint = {"model": "judge-1", "base_url": address, "concurrency": 2}
    recipe(tmp_path, endpoint, methods=["start"], benchmarks={"mt_bench_official": {"max_new_tokens": 6}})
    code = "from harness.cli import main; main()"
    command = [sys.executable, "-c", code, "compare", "official.yaml", "--data-dir", str(data)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(server.asked) < 8:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    time.sleep(1.5)  # the run process notices that its parent is gone
    before = len(server.asked)
    assert before < 24
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(set(server.asked)) == 24
    assert len(server.asked) - 24 <= 2
    result = read_result(tmp_path / "results/official/pairs-16/start/seed-0.json")
    assert result.benchmark("mt_bench_official").metric("rating").n_total == 24  # type: ignore[union-attr]
    assert result.ledger["phases"]["judge"]["calls"] == 24


def test_a_judge_that_is_away_ends_the_run_and_the_same_command_goes_on(
    data: Path, serve: Any, tmp_path: Path, cli: Cli
) -> None:
    down = {"on": True}

    def behave(handler: Handler, body: dict[str, Any], n: int) -> None:
        if down["on"]:
            handler.connection.close()
            handler.close_connection = True
        else:
            scripted(handler, body, n)

    server = serve(behave)
    address = f"http://127.0.0.1:{server.server_port}/v1"
    endpoint = {"model": "judge-1", "base_url": address, "retries": 0, "concurrency": 2}
    many = [{"question_id": 200 + i, "category": "writing", "turns": [f"Say {i}.", "And?"]} for i in range(8)]
    write(data / "mt_bench/question.jsonl", many)
    recipe(tmp_path, endpoint, methods=["start"], benchmarks={"mt_bench_official": {"max_new_tokens": 6}})
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
    assert done.returncode == 1
    assert "does not answer (connection): look after its server and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(server.asked) < 12
    down["on"] = False
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_policy_behind_an_endpoint_joins_the_table(data: Path, judge: Server, tmp_path: Path, cli: Cli) -> None:
    """It is asked with the messages and the protocol's decoding; what needs log-probabilities leaves it out."""
    address = f"http://127.0.0.1:{judge.server_port}/v1"
    there = {"model": "policy-x", "base_url": address, "retries": 0}
    benchmarks = {
        "mt_bench_official": {"max_new_tokens": 6},
        "alpaca_eval_2": {"max_new_tokens": 6},
        "arc_challenge": {"limit": 4},
    }
    recipe(
        tmp_path,
        {"model": "judge-1", "base_url": address},
        endpoints={"remote": there},
        methods=["start", "remote"],
        benchmarks=benchmarks,
    )
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asked = [b for b in judge.bodies if b["model"] == "policy-x"]
    second = [b for b in asked if len(b["messages"]) == 3]
    assert {b["messages"][1]["content"] for b in second} == {"Remote: One wri", "Remote: One mat", "Remote: One ste"}
    assert {b["messages"][-1]["content"] for b in second} == {"And {two}?"}
    assert sorted({b["temperature"] for b in asked}) == [0.0, 0.1, 0.7]
    assert all(("seed" in b) == (b["temperature"] > 0) for b in asked)
    assert {b["max_tokens"] for b in asked} == {6}
    result = read_result(tmp_path / "results/official/pairs-16/remote/seed-0.json")
    assert {b.benchmark for b in result.benchmarks} == {"mt_bench_official", "alpaca_eval_2"}
    lengths = result.benchmark("alpaca_eval_2").items["items"]["length"]  # type: ignore[union-attr]
    assert sorted(lengths) == [0] + [len("Remote: Do 0 {x")] * 5
    assert (
        result.ledger["phases"]["eval"]["generated"] == 10 * len(asked) == 10 * 12
    )  # none twice, the empty one included
    page = (tmp_path / "results/official/pairs-16/LEADERBOARD.md").read_text()
    assert "| `remote` | `endpoint`: a model behind" in page
    assert "not measured" in page
    everything = b"".join(p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file())
    assert b"127.0.0.1" not in everything


def expected_points(row: dict[str, Any], turn: int) -> float | None:
    """Points of one turn from the judge's rule and prompts written out by hand."""
    category = row["category"]
    q1, q2 = f"One {category}?", "And {two}?"
    (a1, a2), (b1, b2) = ([t["text"] for t in row[side]] for side in ("turns", "baseline"))
    if (a1 if turn == 1 else (a1, a2)) == (b1 if turn == 1 else (b1, b2)):
        return 0.5
    before = ("R Ref one. " if turn == 1 else "R Ref one. R Ref two. ") if category == "math" else ""

    def game(one: tuple[str, str], two: tuple[str, str]) -> str:
        if turn == 1:
            return pair_verdict(f"{before}Q {q1} A {one[0]} B {two[0]}")
        return pair_verdict(f"{before}Q {q2} A {one[0]} {one[1]} B {two[0]} {two[1]} after {q1}")

    first, second = game((a1, a2), (b1, b2)), game((b1, b2), (a1, a2))
    if "no verdict" in (first, second):
        return None
    return {("[[A]]", "It is [[B]]."): 1.0, ("It is [[B]].", "[[A]]"): 0.0}.get((first, second), 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("baseline", "methods"), [("start", ["start", "dpo"]), ("model-1.5", ["start"])])
def test_pairwise_games_end_to_end(
    baseline: str, methods: list[str], data: Path, judge: Server, tmp_path: Path, cli: Cli
) -> None:
    given = [
        {"question_id": i, "model_id": "x", "choices": [{"index": 0, "turns": [f"Given {i}.", f"More {i}."]}]}
        for i in (83, 81, 82)
    ]
    write(data / "mt_bench/model_answer/model-1.5.jsonl", given)
    endpoint = {"model": "judge-1", "base_url": f"http://127.0.0.1:{judge.server_port}/v1"}
    options = {"max_new_tokens": 6, "baseline": baseline}
    recipe(tmp_path, endpoint, methods=methods, benchmarks={"mt_bench_pairwise": options})
    done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stored = {}
    for manifest in (tmp_path / ".sail-bench/stages").glob("judgments-*/rows.jsonl"):
        found = read_rows(manifest)
        if "games" in found[0]:
            stored[tuple(t["text"] for r in found for t in r["turns"])] = found
    files = {m: tmp_path / f"results/official/pairs-16/{m}/seed-0.json" for m in methods}
    results = {m: read_result(path).benchmark("mt_bench_pairwise") for m, path in files.items()}
    pairs = [b for b in judge.bodies if b["messages"][0]["content"].startswith("system of pair")]
    assert {(b["temperature"], b["max_tokens"]) for b in pairs} == {(0, 2048)}
    assert len(stored) == len(methods)
    by_points = []
    for rows in stored.values():
        if baseline != "start":
            assert {r["question_id"]: r["baseline"][0]["text"] for r in rows} == {
                i: f"Given {i}." for i in range(81, 84)
            }
        by_points.append([[expected_points(r, t) for t in (1, 2)] for r in rows])
    columns = [r.items["items"]["preference"] for r in results.values() if r]
    assert sorted(map(str, columns)) == sorted(map(str, by_points))
    scored = results["start"]
    assert scored is not None
    if baseline == "start":  # 50 by construction: nothing asked
        assert len(pairs) <= 3 * 2 * 2
        assert scored.metric("win_rate_adjusted").value == 50
        assert scored.metric("agree").value is None
        assert scored.protocol["baseline_policy"].startswith("start-")
    else:
        assert len(pairs) == 3 * 2 * 2
        assert "baseline_policy" not in scored.protocol
    asked = len(judge.bodies)
    assert cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path).returncode == 0
    assert len(judge.bodies) == asked
    if baseline != "start":
        write(data / "mt_bench/model_answer/model-1.5.jsonl", given[:2])
        done = cli("compare", "official.yaml", "--data-dir", data, cwd=tmp_path)
        assert done.returncode == 2
        assert "lacks an answer to question 82" in done.stderr


@pytest.mark.parametrize(
    ("settings", "arguments", "sentence"),
    [
        ("local", ["--data-dir", "DATA"], "needs a judge behind an endpoint"),
        ({"model": "judge-1"}, [], "name it with --data-dir"),
        ({"model": "judge-1"}, ["--data-dir", "."], "which is not there"),
        ({"model": "judge-1", "speed": 3}, ["--data-dir", "DATA"], "speed"),
    ],
)
def test_what_is_missing_is_told(
    settings: Any, arguments: list[str], sentence: str, data: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe(tmp_path, settings)
    given = [str(data) if a == "DATA" else a for a in arguments]
    done = cli("compare", "official.yaml", *given, cwd=tmp_path)
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
    found = pooled_mean({"id": [0, 1, 2, 3], "x": rows}, "x", weights)
    for w, value in zip(weights, found, strict=True):
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
