"""The official sets with a judge that fails, or a command that is killed: what was judged is never asked again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest import API_KEY
from kit.command import Cli, kill_when
from kit.judge_server import Handler, completion
from kit.official_data import judge_at, scripted, write_questions, write_recipe

from harness.score.results import RunResult, read_result


def test_calls_without_an_answer_are_counted_and_asked_again(
    official_data: Path, serve: Any, tiny_copy: Path, cli: Cli
) -> None:
    """The table stands though one call always fails; the same command asks that one alone, until an answer comes. The
    key is sent and stands nowhere; an answer without log-probabilities is counted."""
    down = {"on": True}

    def behave(handler: Handler, body: dict[str, Any], n: int) -> None:
        if down["on"] and "One math?" in body["messages"][-1]["content"]:
            handler.send({"error": {"message": f"overloaded for {API_KEY}"}}, 503)
        elif body.get("logprobs") and "Do 4" in body["messages"][-1]["content"]:
            handler.send(completion("m"))
        else:
            scripted(handler, body, n)

    server = serve(behave)
    write_recipe(tiny_copy, judge_at(server, retries=0), methods=["start"])

    def compared() -> tuple[RunResult, str, str, list[str]]:
        before = len(server.asked)
        done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
        assert done.returncode == 0, done.stderr
        folder = tiny_copy / "results/local/official/pairs-16"
        result = read_result(folder / "start/seed-0.json")
        return result, (folder / "LEADERBOARD.md").read_text(), done.stderr, server.asked[before:]

    note = (
        "**Calls without an answer of the judge**: 2 of `start` seed 0 in MT-Bench (status 503). The same command asks"
    )
    result, page, stderr, questions = compared()
    first = len(questions)
    rating = result.benchmark("mt_bench_official").metric("rating")  # type: ignore[union-attr]
    assert (rating.n_valid, rating.n_total) == (3, 6)  # two lost, one without a rating
    won = result.benchmark("alpaca_eval_2").metric("lc")  # type: ignore[union-attr]
    assert (won.n_valid, won.n_total) == (5, 6)
    assert note in page
    assert "2 of mt_bench_official (status 503); the same command asks them again" in " ".join(stderr.split())
    assert result.ledger["phases"]["judge"]["calls"] == first - 2
    again, page, _, questions = compared()
    assert len(questions) == 2
    assert all("One math?" in text for text in questions)
    assert note in page
    assert again.benchmarks == result.benchmarks
    down["on"] = False
    healed, page, stderr, questions = compared()
    assert len(questions) == 2
    rating = healed.benchmark("mt_bench_official").metric("rating")  # type: ignore[union-attr]
    assert (rating.n_valid, rating.n_total) == (5, 6)
    assert "Calls without an answer" not in page + stderr
    assert healed.ledger["phases"]["judge"]["calls"] == first  # each paid once
    assert healed.ledger["phases"]["judge"]["tokens"] == 110 * first
    assert compared()[3] == []
    assert set(server.keys) == {f"Bearer {API_KEY}"}
    assert all(API_KEY.encode() not in p.read_bytes() for p in tiny_copy.rglob("*") if p.is_file())


@pytest.mark.slow
def test_killed_while_a_judge_is_asked_nothing_is_judged_twice(
    official_data: Path, serve: Any, tiny_copy: Path, cli: Cli
) -> None:
    """kill -9 with answers of the judge under way: at most those that were in flight are asked once more."""

    def slowly(handler: Handler, body: dict[str, Any], n: int) -> None:
        time.sleep(0.25)
        scripted(handler, body, n)

    server = serve(slowly)
    write_questions(official_data, 8)
    judge = judge_at(server, concurrency=2)
    write_recipe(tiny_copy, judge, methods=["start"], benchmarks={"mt_bench_official": {"max_new_tokens": 6}})
    compare = ["compare", "official.yaml", "--data-dir", official_data]
    kill_when(tiny_copy, compare, lambda: len(server.asked) >= 6)
    assert len(server.asked) < 16
    done = cli(*compare, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    assert len(set(server.asked)) == 16
    assert len(server.asked) - 16 <= 2
    result = read_result(tiny_copy / "results/local/official/pairs-16/start/seed-0.json")
    assert result.benchmark("mt_bench_official").metric("rating").n_total == 16  # type: ignore[union-attr]
    assert result.ledger["phases"]["judge"]["calls"] == 16


def test_a_judge_that_is_away_ends_the_run_and_the_same_command_goes_on(
    official_data: Path, serve: Any, tiny_copy: Path, cli: Cli
) -> None:
    down = {"on": True}

    def behave(handler: Handler, body: dict[str, Any], n: int) -> None:
        if down["on"]:
            handler.connection.close()
            handler.close_connection = True
        else:
            scripted(handler, body, n)

    server = serve(behave)
    endpoint = judge_at(server, retries=0, concurrency=2)
    write_questions(official_data, 8)
    write_recipe(tiny_copy, endpoint, methods=["start"], benchmarks={"mt_bench_official": {"max_new_tokens": 6}})
    done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert done.returncode == 1
    assert "does not answer (connection): look after its server and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(server.asked) < 12
    down["on"] = False
    done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr


def test_a_served_policy_that_dies_fails_its_row_alone_and_the_same_command_goes_on(
    official_data: Path, serve: Any, tiny_copy: Path, cli: Cli
) -> None:
    """Its server answers three questions and is gone. The other row is there, and no answer is asked for twice."""
    down, answered = {"on": True}, []

    def behave(handler: Handler, body: dict[str, Any], n: int) -> None:
        if body["model"] != "served":
            scripted(handler, body, n)
        elif down["on"] and len(answered) == 3:
            handler.connection.close()
            handler.close_connection = True
        else:
            answered.append(body["messages"])
            handler.send(completion("A served answer."))

    server = serve(behave)
    judge = judge_at(server, concurrency=1)
    endpoints = {"mine": {"model": "served", "base_url": judge["base_url"], "retries": 0, "concurrency": 1}}
    sets = {"mt_bench_official": {"max_new_tokens": 6}}
    write_recipe(tiny_copy, judge, methods=["start", "mine"], endpoints=endpoints, benchmarks=sets)
    folder = tiny_copy / "results/local/official/pairs-16"
    done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert done.returncode == 1
    assert "answered 0 of 3 prompts (connection): run the same command again for the rest" in done.stderr
    assert "Traceback" not in done.stderr
    page = (folder / "LEADERBOARD.md").read_text()
    assert "failed" in page and "`start`" in page
    assert isinstance(read_result(folder / "start/seed-0.json"), RunResult)
    down["on"] = False
    done = cli("compare", "official.yaml", "--data-dir", official_data, cwd=tiny_copy)
    assert done.returncode == 0, done.stderr
    assert isinstance(read_result(folder / "mine/seed-0.json"), RunResult)
    assert len(answered) == len({str(messages) for messages in answered}), "no question is asked twice"
