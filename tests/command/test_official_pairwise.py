"""MT-Bench's pairwise games end to end, against points by the judge's rule written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.command import Cli
from kit.judge_server import Server
from kit.official_data import judge_at, pair_verdict, write_recipe
from kit.rows import write_rows

from harness.score.results import read_result
from harness.store.json_files import read_rows


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
    baseline: str, methods: list[str], official_data: Path, official_judge: Server, tiny_copy: Path, cli: Cli
) -> None:
    given = [
        {"question_id": i, "model_id": "x", "choices": [{"index": 0, "turns": [f"Given {i}.", f"More {i}."]}]}
        for i in (83, 81, 82)
    ]
    write_rows(official_data / "mt_bench/model_answer/model-1.5.jsonl", given)
    endpoint = judge_at(official_judge)
    options = {"max_new_tokens": 6, "baseline": baseline}
    write_recipe(tiny_copy, endpoint, methods=methods, benchmarks={"mt_bench_pairwise": options})
    done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    stored = {}
    for manifest in (tiny_copy / ".sail-bench/stages").glob("judgments-*/rows.jsonl"):
        rows = read_rows(manifest)
        if "games" in rows[0]:
            stored[tuple(t["text"] for r in rows for t in r["turns"])] = rows
    files = {m: tiny_copy / f"results/local/official/pairs-16/{m}/seed-0.json" for m in methods}
    results = {m: read_result(path).benchmark("mt_bench_pairwise") for m, path in files.items()}
    pairs = [b for b in official_judge.bodies if b["messages"][0]["content"].startswith("system of pair")]
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
    calls_before = len(official_judge.bodies)
    assert cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy).returncode == 0
    assert len(official_judge.bodies) == calls_before
    if baseline != "start":
        write_rows(official_data / "mt_bench/model_answer/model-1.5.jsonl", given[:2])
        done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
        assert done.returncode == 2
        assert "lacks an answer to question 82" in done.stderr
