"""The judge client against a real local HTTP server that misbehaves in every way we could think of."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from kit.judge_server import Behaviour, Handler, Server, completion

from harness.answer import client as module
from harness.answer.client import Client
from harness.answer.reply import Call, retry_after_seconds
from harness.errors import UserError
from harness.recipe.endpoint import Endpoint
from harness.store.row_cache import RowCache


def echo(handler: Handler, request: dict[str, Any], n: int) -> None:
    handler.send(completion(f"[[{request['messages'][-1]['content']}]]"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)


def endpoint(server: Server, **changes: Any) -> Endpoint:
    return Endpoint(model="judge", base_url=f"http://127.0.0.1:{server.server_port}/v1", **changes)


def calls(count: int, **changes: Any) -> list[Call]:
    return [Call((("user", str(i)),), **changes) for i in range(count)]


def once(status: int, **headers: str) -> Behaviour:
    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if n == 0:
            handler.send({"error": {"message": "no"}}, status, **headers)
        else:
            echo(handler, request, n)

    return inner


def dropped(handler: Handler, request: dict[str, Any], n: int) -> None:
    if n == 0:
        handler.connection.close()
        handler.close_connection = True
    else:
        echo(handler, request, n)


def malformed(handler: Handler, request: dict[str, Any], n: int) -> None:
    handler.send(b'{"choices": [{' if n == 0 else completion("fine"))


def no_choices(handler: Handler, request: dict[str, Any], n: int) -> None:
    handler.send({"object": "chat.completion", "choices": []} if n == 0 else completion("fine"))


def empty(handler: Handler, request: dict[str, Any], n: int) -> None:
    handler.send(completion("" if n == 0 else "fine"))


def slow(handler: Handler, request: dict[str, Any], n: int) -> None:
    if n == 0:
        time.sleep(4.0)
    echo(handler, request, n)


@pytest.mark.parametrize(
    ("behaviour", "fault"),
    [
        (once(429, retry_after="0.01"), "status 429"),
        (once(500), "status 500"),
        (once(503), "status 503"),
        (dropped, "connection"),
        (malformed, "malformed answer"),
        (no_choices, "malformed answer"),
        (empty, "empty answer"),
        (slow, "timeout"),
    ],
    ids=["429", "500", "503", "dropped", "malformed", "no choices", "empty", "timeout"],
)
def test_faults_are_retried_and_counted(behaviour: Behaviour, fault: str, serve: Any) -> None:
    server = serve(behaviour)
    judge = Client(endpoint(server, timeout=1.5 if fault == "timeout" else 20))
    replies = judge.ask(calls(6))
    assert all(r.text for r in replies)
    assert not any(r.error for r in replies)
    assert dict(judge.tally.faults) == {fault: 6}
    assert judge.tally.requests == 12


def test_faults_that_last_are_errors_and_are_not_kept(serve: Any, tmp_path: Path) -> None:
    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if request["messages"][-1]["content"] == "3":
            handler.send({"error": {"message": "down"}}, 500)
        else:
            echo(handler, request, n)

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    replies = Client(endpoint(server, retries=2), cache).ask(calls(5))
    assert [bool(r.error) for r in replies] == [False, False, False, True, False]
    assert replies[3].error == "status 500"
    assert replies[3].text is None
    before = len(server.asked)
    again = Client(endpoint(server, retries=2), cache)
    again.ask(calls(5))
    assert set(server.asked[before:]) == {"3"}
    assert again.tally.cached == 4


def test_retry_after_is_waited_for(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 60.0)
    server = serve(once(429, retry_after="0.7"))
    started = time.perf_counter()
    Client(endpoint(server)).ask(calls(1))
    assert time.perf_counter() - started >= 0.7


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < (retry_after_seconds({"retry-after": later}) or 0) <= 90
    assert retry_after_seconds({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after_seconds({"retry-after": "2.5"}) == 2.5
    assert retry_after_seconds({"retry-after": "soon"}) is None
    assert retry_after_seconds({}) is None


def test_nothing_is_judged_twice_after_a_stop(serve: Any, tmp_path: Path) -> None:
    """A cap ends the first try; the second asks only what is open; the third asks nothing."""
    server, cache = serve(echo), RowCache(tmp_path / "rows.sqlite")
    with pytest.raises(UserError, match=r"cap of 7 requests is reached.*\(7 of 20"):
        Client(endpoint(server, max_requests=7, concurrency=3), cache).ask(calls(20))
    replies = Client(endpoint(server), cache).ask(calls(20))
    assert [r.text for r in replies] == [f"[[{i}]]" for i in range(20)]
    assert sorted(server.asked) == sorted(map(str, range(20)))
    third = Client(endpoint(server), cache)
    assert third.ask(calls(20)) == replies
    assert (third.tally.requests, third.tally.cached) == (0, 20)


def test_cost_cap(serve: Any) -> None:
    server = serve(echo)
    judge = Client(endpoint(server, price_in=10.0, price_out=30.0, max_cost=0.005, concurrency=1))
    with pytest.raises(UserError, match=r"raise max_cost"):
        judge.ask(calls(20))
    assert judge.tally.cost == pytest.approx(4 * (100 * 10 + 10 * 30) / 1e6)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_refusals_stop_at_once_and_hide_the_key(
    status: int, serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        handler.send({"error": {"message": "Incorrect key: sk-very-secret"}}, status)

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    with pytest.raises(UserError) as caught:
        Client(endpoint(server, api_key_env="SOME_KEY", concurrency=2), cache).ask(calls(50))
    assert "sk-very-secret" not in str(caught.value)
    assert "SOME_KEY" in str(caught.value)
    assert len(server.asked) <= 2
    assert set(server.keys) == {"Bearer sk-very-secret"}  # it was sent, and stands nowhere else
    assert all(b"sk-very-secret" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_question_that_is_refused_alone_is_counted_and_a_request_that_always_is_ends_all(
    serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Too long for the model's context, or stopped by a filter: that answers nothing about the other questions."""
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    too_long = {"7"}

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if request["messages"][-1]["content"] in too_long:
            handler.send({"error": {"message": "maximum context length (sk-very-secret)"}}, 400)
        else:
            echo(handler, request, n)

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    replies = Client(endpoint(server, api_key_env="SOME_KEY"), cache).ask(calls(20))
    assert [i for i, r in enumerate(replies) if r.error] == [7]
    assert replies[7].error.startswith("refused: ")
    assert "maximum context length (***)" in replies[7].error
    assert not replies[7].unanswered
    assert len(server.asked) == 20  # not tried again
    too_long |= {str(i) for i in range(100, 300)}
    for count, most in ((3, 3), (200, 16 + 2)):
        before = len(server.asked)
        with pytest.raises(UserError, match=r"refuses \(.*maximum context length.*check model") as caught:
            Client(endpoint(server, api_key_env="SOME_KEY", concurrency=2), cache).ask(
                [Call((("user", str(100 + i)),)) for i in range(count)]
            )
        assert "sk-very-secret" not in str(caught.value)
        assert len(server.asked) - before <= most


@pytest.mark.parametrize("status", [500, 429])
def test_an_endpoint_that_is_away_ends_all_and_a_hard_question_ends_nothing(
    status: int, serve: Any, tmp_path: Path
) -> None:
    """With eight faults in a row: 429 is about the endpoint, 500 may be about the questions once one was answered."""
    away = {str(i) for i in range(30, 60)}

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if request["messages"][-1]["content"] in away:
            handler.send({"error": {"message": "no"}}, status)
        else:
            echo(handler, request, n)

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    judge = endpoint(server, retries=0, concurrency=2)
    if status == 500:
        replies = Client(judge, cache).ask(calls(60))
        assert sum(r.unanswered for r in replies) == 30
    else:
        with pytest.raises(UserError, match=r"does not answer \(status 429\).*same command again \(30 of 60 open"):
            Client(judge, cache).ask(calls(60))
        assert len(server.asked) <= 30 + 8 + 2
    fresh = Client(judge, cache)
    with pytest.raises(UserError, match=rf"does not answer \(status {status}\)"):
        fresh.ask([Call((("user", str(30 + i)),)) for i in range(30)])  # nothing of these was ever answered
    assert fresh.tally.requests <= 8 + 2
    away.clear()
    before = len(server.asked)
    assert not any(r.error for r in Client(judge, cache).ask(calls(60)))
    assert len(server.asked) - before == 30


def test_a_refused_question_is_kept_once_others_are_answered_and_is_not_asked_again(serve: Any, tmp_path: Path) -> None:
    down = {"on": True}

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        text = request["messages"][-1]["content"]
        if text == "1":
            handler.send({"error": {"message": "too long"}}, 400)
        elif text == "3" and down["on"]:
            handler.send({"error": {"message": "busy"}}, 503)
        else:
            echo(handler, request, n)

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    judge = endpoint(server, retries=0, concurrency=1)
    first = Client(judge, cache).ask(calls(6))
    assert [(r.unanswered, bool(r.error)) for r in first] == [(i == 3, i in (1, 3)) for i in range(6)]
    down["on"], before = False, len(server.asked)
    again = Client(judge, cache).ask(calls(6))
    assert server.asked[before:] == ["3"]
    assert [bool(r.error) for r in again] == [i == 1 for i in range(6)]


@pytest.mark.parametrize(("status", "most"), [(402, 40 + 2), (400, 40 + 4 * 8 + 2)])
def test_an_account_that_runs_dry_ends_the_run_and_closes_nothing(
    status: int, most: int, serve: Any, tmp_path: Path
) -> None:
    """Providers say so by 402 or by 400 for every question from then on."""
    dry = {"on": True}

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if dry["on"] and int(request["messages"][-1]["content"]) >= 40:
            handler.send({"error": {"message": "credit balance is too low"}}, status)
        else:
            echo(handler, request, n)

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    judge = endpoint(server, concurrency=2)
    with pytest.raises(UserError, match=r"refuses \(.*credit balance.*\(40 of 300 open requests"):
        Client(judge, cache).ask(calls(300))
    assert len(server.asked) <= most
    dry["on"], before = False, len(server.asked)
    assert not any(r.error for r in Client(judge, cache).ask(calls(300)))
    assert len(server.asked) - before == 260


def test_questions_that_are_all_refused_do_not_end_a_client_that_was_answered_before(
    serve: Any, tmp_path: Path
) -> None:
    """The second, longer question to a judge that was unsure, say."""

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if request["messages"][-1]["content"].startswith("long"):
            handler.send({"error": {"message": "maximum context length"}}, 400)
        else:
            echo(handler, request, n)

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    longer = [Call((("user", f"long {i}"),)) for i in range(3)]
    for _ in range(2):
        judge = Client(endpoint(server), cache)
        judge.ask(calls(4))
        assert all(r.error.startswith("refused") for r in judge.ask(longer))


def test_caps_hold_over_clients_and_commands(serve: Any, tmp_path: Path) -> None:
    server = serve(echo)

    def ask(count: int, start: int = 0, **changes: Any) -> Client:
        judge = Client(endpoint(server, concurrency=1, **changes), RowCache(tmp_path / "rows.sqlite"))
        judge.ask(calls(count + start)[start:])
        return judge

    ask(5, max_requests=8)
    with pytest.raises(UserError, match=r"cap of 8 requests.*\(3 of 5 open"):
        ask(5, 5, max_requests=8)
    with pytest.raises(UserError, match=r"cap of 8 requests.*\(0 of 2 open"):
        ask(5, 5, max_requests=8)
    assert len(server.asked) == 8
    ask(5, 5, max_requests=20)
    assert len(server.asked) == 10
    prices = {"price_in": 10.0, "price_out": 30.0}  # 0.0013 an answer; ten requests are recorded, at no price
    ask(2, 20, max_cost=0.004, **prices)
    with pytest.raises(UserError, match="cap of 0.004 is reached"):
        ask(5, 22, max_cost=0.004, **prices)
    assert len(server.asked) == 10 + 2 + 2


def test_a_cost_cap_needs_prices_and_a_seed_is_sent_and_named(serve: Any) -> None:
    with pytest.raises(ValueError, match="set price_in and price_out"):
        Endpoint(model="judge", max_cost=1)
    server = serve(echo)
    Client(endpoint(server, seed=7)).ask(calls(1))
    Client(endpoint(server)).ask(calls(1))
    assert [b.get("seed") for b in server.bodies] == [7, None]
    assert endpoint(server, seed=7).identity() == endpoint(server).identity() | {"seed": 7}


def test_an_answer_that_stays_empty_is_paid_for_and_not_asked_again(serve: Any, tmp_path: Path) -> None:
    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        handler.send(completion("" if request["messages"][-1]["content"] == "1" else "fine"))

    server, cache, paid = serve(inner), RowCache(tmp_path / "rows.sqlite"), []
    judge = endpoint(server, retries=2, price_in=10.0, price_out=30.0)
    first = Client(judge, cache, paid.append)
    replies = first.ask(calls(3))
    assert [r.error for r in replies] == ["", "empty answer", ""]
    assert not replies[1].unanswered
    assert len(paid) == 5 == first.tally.requests
    assert first.tally.cost == pytest.approx(5 * (100 * 10 + 10 * 30) / 1e6)
    again = Client(judge, cache)
    assert again.ask(calls(3)) == replies
    assert again.tally.requests == 0


def test_log_probabilities_and_snapshot_are_kept(serve: Any, tmp_path: Path) -> None:
    seen = []

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        seen.append(request)
        top = {"m": -0.2, "M": -1.7} if request.get("logprobs") else None
        handler.send(completion("m", top))

    server, cache = serve(inner), RowCache(tmp_path / "rows.sqlite")
    (reply,) = Client(endpoint(server), cache).ask(calls(1, max_tokens=1, temperature=1.0, top_logprobs=5, seed=3))
    assert reply.top_logprobs == {"m": -0.2, "M": -1.7}
    assert reply.model == "judge-2024-01-01"
    assert {k: seen[0][k] for k in ("temperature", "max_tokens", "logprobs", "top_logprobs", "seed")} == {
        "temperature": 1.0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 5,
        "seed": 3,
    }
    # anything in the question makes another question
    Client(endpoint(server), cache).ask(calls(1, max_tokens=1, temperature=1.0, top_logprobs=5, seed=4))
    Client(endpoint(server), cache).ask(calls(1, max_tokens=1, temperature=1.0, top_logprobs=5, seed=3, sample=1))
    assert len(seen) == 3
    (plain,) = Client(endpoint(server)).ask(calls(1))
    assert plain.top_logprobs is None


def test_a_question_that_stands_twice_is_asked_once(serve: Any) -> None:
    server = serve(echo)
    replies = Client(endpoint(server)).ask([*calls(3), *calls(3)])
    assert replies[:3] == replies[3:]
    assert len(server.asked) == 3


def test_no_key_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="set the variable OPENAI_API_KEY"):
        Client(Endpoint(model="judge")).ask(calls(1))


@pytest.mark.slow
def test_concurrency_keeps_latency_hidden(serve: Any) -> None:
    """805 judgments at 200 ms, 32 at once: well under twice the ideal time (one at a time it would be 31 times)."""

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        time.sleep(0.2)
        echo(handler, request, n)

    server = serve(inner)
    judge = Client(endpoint(server, concurrency=32))
    judge.ask(calls(2))  # imports
    started = time.perf_counter()
    judge.ask([Call((("user", f"x{i}"),)) for i in range(805)])
    spent, ideal = time.perf_counter() - started, 0.2 * -(-805 // 32)
    print(f"805 judgments: {spent:.2f} s, ideal {ideal:.2f} s")
    assert spent < 2 * ideal
