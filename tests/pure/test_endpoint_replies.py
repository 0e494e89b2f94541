"""Replies of endpoints: what is read of any JSON body, that all can be stored, and that none is paid for twice."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.scripted_endpoint import Scripted, completion, saying, scripted_endpoint

from harness.answer.client import Client
from harness.answer.provider_error import advice, error_in_body, status_error
from harness.answer.reply import Call, Reply, UnreadableReplyError, parse_reply
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import read_json, read_rows, storable, write_json, write_rows
from harness.store.row_cache import RowCache

QUESTION = Call((("user", "Which?"),))
TEXTS = st.text(st.characters(exclude_categories=()))  # surrogates and NUL too
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=12)


def or_anything(*usual: Any) -> st.SearchStrategy[Any]:
    return st.one_of(*usual, ANYTHING)


PARTS = st.lists(st.fixed_dictionaries({}, optional={"type": or_anything(st.just("text")), "text": or_anything(TEXTS)}))
ALTERNATIVE = st.fixed_dictionaries({"token": or_anything(TEXTS), "logprob": or_anything(st.floats())})
LOGPROBS = st.fixed_dictionaries(
    {"content": or_anything(st.lists(st.fixed_dictionaries({"top_logprobs": or_anything(st.lists(ALTERNATIVE))})))}
)
CHOICE = st.fixed_dictionaries(
    {"message": or_anything(st.fixed_dictionaries({"content": or_anything(TEXTS, PARTS)}))},
    optional={"logprobs": or_anything(LOGPROBS), "finish_reason": ANYTHING, "error": ANYTHING},
)
USAGE = st.fixed_dictionaries({}, optional={"prompt_tokens": ANYTHING, "completion_tokens": ANYTHING})
BODY = st.fixed_dictionaries(
    {"choices": or_anything(st.lists(or_anything(CHOICE)))},
    optional={
        "usage": or_anything(USAGE),
        "model": ANYTHING,
        "system_fingerprint": ANYTHING,
        "error": ANYTHING,
        "message": ANYTHING,
        "detail": ANYTHING,
    },
)


def check_storable(reply: Reply) -> None:
    text = json.dumps(asdict(reply), allow_nan=False, ensure_ascii=False)
    assert Reply(**json.loads(text.encode())) == reply
    assert "\x00" not in text
    assert min(reply.tokens_in, reply.tokens_out, reply.replaced) >= 0
    assert all(logp <= 0.01 for logp in (reply.top_logprobs or {}).values())


@settings(deadline=None, max_examples=100)
@given(ANYTHING | BODY)
def test_any_body_gives_a_reply_that_can_be_stored_or_an_unreadable_one(body: Any) -> None:
    try:
        reply = parse_reply(body, empty_is_answer=True)
    except UnreadableReplyError:
        return
    check_storable(reply)


@settings(deadline=None, max_examples=100)
@given(ANYTHING | BODY, st.sampled_from([400, 401, 403, 404, 422, 429, 503]))
def test_any_error_has_words_that_can_be_stored_and_an_advice(body: Any, status: int) -> None:
    for problem in (error_in_body(body), status_error(status, body)):
        if problem is not None:
            check_storable(Reply(None, error=problem.error))
            assert problem.error
            assert "\n" not in problem.error
            assert advice(problem, Endpoint(model="m"), QUESTION)


@given(TEXTS)
def test_text_is_made_storable_once(text: str) -> None:
    stored, replaced = storable(text)
    assert len(stored) == len(text)
    assert replaced == sum(c == "\x00" or "\ud800" <= c <= "\udfff" for c in text)
    assert storable(stored) == (stored, 0)
    assert stored.encode().decode() == stored


@settings(deadline=None, max_examples=30)
@given(value=ANYTHING)
def test_files_and_cache_take_any_json(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a text of any other source holds is escaped, and comes back as it was."""
    folder = tmp_path_factory.mktemp("stores")
    write_json(folder / "value.json", value)
    write_rows(folder / "rows.jsonl", [{"value": value}])
    cache = RowCache(folder / "rows.sqlite")
    cache.put([("key", value)])
    expected = json.dumps(json.loads(json.dumps(value)))
    for read in (read_json(folder / "value.json"), read_rows(folder / "rows.jsonl")[0]["value"]):
        assert json.dumps(read, sort_keys=True) == json.dumps(json.loads(expected), sort_keys=True)
    assert json.dumps(cache.get(["key"])["key"]) == expected
    cache.close()


UNSTORABLE = {
    "high half": ("Nice \ud83d half. [[8]]", 1),
    "low half": ("\udc00[[8]]", 1),
    "both, the wrong way round": ("\ude00\ud83d [[8]]", 2),
    "NUL": ("Nice \x00 nul \u2028 line. [[8]]", 1),
    "many": ("\ud83d" * 50 + "[[8]]", 50),
    "a whole pair": ("\N{GRINNING FACE} [[8]]", 0),
}


@pytest.mark.parametrize(("text", "count"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_reply_with_what_cannot_be_stored_is_kept_counted_and_not_paid_for_again(
    text: str, count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = completion(text) | {"model": "served \udfff", "system_fingerprint": "\x00"}
    body["choices"][0]["logprobs"] = {"content": [{"top_logprobs": [{"token": "\ud83d", "logprob": -0.5}]}]}
    with scripted_endpoint(lambda request: Scripted(200, body)) as server:
        cache = RowCache(tmp_path / "rows.sqlite")
        (reply,) = Client(server.endpoint(), cache).ask([QUESTION])
        noted = capfd.readouterr().err
        (again,) = Client(server.endpoint(), RowCache(tmp_path / "rows.sqlite")).ask([QUESTION])
    assert reply == again
    assert len(server.requests) == 1
    assert reply.replaced == count
    assert (reply.text or "").count("\ufffd") == count
    assert "[[8]]" in (reply.text or "")
    assert (reply.model, reply.fingerprint, reply.top_logprobs) == ("served \ufffd", "\ufffd", {"\ufffd": -0.5})
    assert (f"1 replies of 'm' held {count} characters" in noted) == bool(count)
    check_storable(reply)


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices": [{"message": {"content": "caf\xe9"}}]}',  # latin-1
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"choices": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}",
        b"<html>502</html>",
        b"",
        b"null",
        b'"text"',
    ],
    ids=range(9),
)
def test_a_broken_body_is_a_fault_and_ends_nothing(data: bytes) -> None:
    bodies = iter([data, completion("fine")])
    with scripted_endpoint(lambda request: Scripted(200, next(bodies))) as server:
        client = Client(server.endpoint(retries=1))
        (reply,) = client.ask([QUESTION])
    assert reply.text == "fine"
    assert dict(client.tally.faults) == {"malformed answer": 1}


def test_a_prompt_with_half_a_pair_is_sent_without_it() -> None:
    with scripted_endpoint(saying("fine")) as server:
        assert Client(server.endpoint()).ask([Call((("user", "a\ud83db"),))])[0].text == "fine"
    assert server.requests[0]["messages"][0]["content"] == "a\ufffdb"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "Rating: [[8]]"}], "Rating: [[8]]"),
        ([{"type": "text", "text": "Rating: "}, {"type": "text", "text": "[[8]]"}], "Rating: [[8]]"),
        ([{"type": "output_text", "text": "[[8]]"}], "[[8]]"),
        (["Rating: ", "[[8]]"], "Rating: [[8]]"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "[[2]]"}]}, {"type": "text", "text": "8"}], "8"),
        ([{"type": "reasoning", "text": "[[2]]"}, {"type": "text", "text": "8"}], "8"),
        ([{"text": "[[8]]"}], "[[8]]"),
        ({"type": "text", "text": "[[8]]"}, "[[8]]"),
        ([], ""),
        (None, ""),
    ],
)
def test_content_in_parts_is_read(content: Any, text: str) -> None:
    assert parse_reply(completion(content), empty_is_answer=True).text == text


@pytest.mark.parametrize("content", [5, [5], [{"type": "text", "text": 5}], [{"type": "text"}], [None], True])
def test_content_of_another_kind_cannot_be_read(content: Any) -> None:
    with pytest.raises(UnreadableReplyError):
        parse_reply(completion(content), empty_is_answer=True)


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("usage", {"prompt_tokens": "many", "completion_tokens": 3}, ("tokens_out", 3)),
        ("usage", {"prompt_tokens": float("inf")}, ("tokens_in", 0)),
        ("usage", {"prompt_tokens": -4}, ("tokens_in", 0)),
        ("usage", [1], ("tokens_in", 0)),
        ("model", {"name": "x"}, ("model", "")),
    ],
)
def test_counts_and_names_that_cannot_be_read_are_missing_and_the_answer_is_there(
    key: str, value: Any, kept: tuple[str, Any]
) -> None:
    reply = parse_reply(completion("fine") | {key: value}, empty_is_answer=False)
    assert reply.text == "fine"
    assert getattr(reply, kept[0]) == kept[1]


@pytest.mark.parametrize(
    ("logprob", "kept"),
    [(-0.5, -0.5), (0, 0.0), (0.001, 0.001), (float("nan"), None), (float("-inf"), None), (1000, None), (True, None)],
)
def test_a_log_probability_that_is_none_is_left_out(logprob: Any, kept: float | None) -> None:
    body = completion("m")
    alternatives = [{"token": "m", "logprob": logprob}]
    body["choices"][0]["logprobs"] = {"content": [{"top_logprobs": alternatives}]}
    reply = parse_reply(body, empty_is_answer=False)
    assert reply.top_logprobs == (None if kept is None else {"m": kept})


@pytest.mark.parametrize("logprobs", [None, 5, {}, {"content": None}, {"content": []}, {"content": [{}]}])
def test_log_probabilities_of_another_form_are_none(logprobs: Any) -> None:
    body = completion("m")
    body["choices"][0]["logprobs"] = logprobs
    assert parse_reply(body, empty_is_answer=False).top_logprobs is None
    body["choices"][0]["logprobs"] = {"content": [{"top_logprobs": None}]}
    assert parse_reply(body, empty_is_answer=False).top_logprobs is None


def test_thoughts_that_the_endpoint_keeps_apart_are_no_answer() -> None:
    thoughts = "first I thought [[3]]"
    for key in ("reasoning_content", "reasoning", "thinking"):
        assert parse_reply(completion("[[8]]", **{key: thoughts}), empty_is_answer=False).text == "[[8]]"
        empty = parse_reply(completion(None, "length", **{key: thoughts}), empty_is_answer=False)
        assert (empty.text, empty.finish, empty.error) == ("", "length", "empty answer")
