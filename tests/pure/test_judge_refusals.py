"""Refusals: by the account, by a filter, by an endpoint that is away; what ends a run and what is only counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kit.judge_server import Handler, calls, echo, endpoint

from harness.answer import client as module
from harness.answer.client import Client
from harness.answer.reply import Call
from harness.errors import UserError
from harness.store.row_cache import RowCache


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.05)


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
    with pytest.raises(UserError, match=r"refuses \(.*credit balance.*\(40 of 120 open requests"):
        Client(judge, cache).ask(calls(120))
    assert len(server.asked) <= most
    dry["on"], before = False, len(server.asked)
    assert not any(r.error for r in Client(judge, cache).ask(calls(120)))
    assert len(server.asked) - before == 80


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
