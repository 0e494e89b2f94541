"""The judge client against a real local HTTP server that misbehaves in every way we could think of."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from kit.judge_server import Behaviour, Handler, calls, completion, echo, endpoint

from harness.answer import client as module
from harness.answer.client import Client
from harness.answer.reply import Call, retry_after_seconds
from harness.errors import UserError
from harness.recipe.endpoint import Endpoint
from harness.store.row_cache import RowCache


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)


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


def test_as_many_questions_as_asked_for_are_open_at_once(serve: Any) -> None:
    """The server answers none of eight questions before all eight are there, and never sees a ninth at once."""
    together, lock, open_now, most = threading.Barrier(8), threading.Lock(), [0], [0]

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        with lock:
            open_now[0] += 1
            most[0] = max(most[0], open_now[0])
        together.wait(timeout=10)
        with lock:
            open_now[0] -= 1
        echo(handler, request, n)

    replies = Client(endpoint(serve(inner), concurrency=8)).ask(calls(16))
    assert [r.text for r in replies] == [f"[[{i}]]" for i in range(16)]
    assert most == [8]


@pytest.mark.slow
@pytest.mark.nightly
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
