"""Errors of providers: their words are shown, the passing ones are tried again, and an option that helps is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kit.evaluation_cases import scripted_judge
from kit.scripted_endpoint import Scripted, completion, scripted_endpoint

from harness.answer import client as client_module
from harness.answer.client import Client
from harness.answer.provider_error import advice, error_in_body, status_error
from harness.answer.reply import Call
from harness.errors import UserError
from harness.recipe.endpoint import Endpoint

QUESTION = Call((("system", "Be fair."), ("user", "Which?")), 0.0, 64)
WITH_LOGPROBS = Call((("user", "Which?"),), 1.0, 1, top_logprobs=5)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LONGEST_WAIT", 0.01)


PASSING = {
    "code of OpenRouter": ({"error": {"message": "Upstream provider is overloaded", "code": 502}}, "status 502"),
    "code as text": ({"error": {"message": "Slow down", "code": "429"}}, "status 429"),
    "error of a choice": ({"choices": [{"error": {"message": "Provider broke off", "code": 503}}]}, "status 503"),
    "error of a choice with half an answer": (
        {"choices": [{"error": {"message": "broke off", "code": 500}, "message": {"content": "The bet"}}]},
        "status 500",
    ),
    "type of Anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Over"}},
        "provider error",
    ),
    "words alone": ({"error": "The model is overloaded, please try again"}, "provider error"),
    "rate limit in words": ({"error": {"message": "Rate limit reached for m"}}, "provider error"),
    "a list": ({"errors": [{"message": "Service temporarily unavailable"}]}, "provider error"),
    "gateway": ({"message": "Endpoint request timed out"}, "provider error"),
}


@pytest.mark.parametrize(("body", "kind"), PASSING.values(), ids=PASSING)
def test_a_passing_error_under_status_200_is_tried_again(body: Any, kind: str) -> None:
    bodies = iter([body, completion("[[8]]")])
    with scripted_endpoint(lambda request: Scripted(200, next(bodies))) as server:
        client = Client(server.endpoint(retries=1))
        (reply,) = client.ask([QUESTION])
    assert reply.text == "[[8]]"
    assert dict(client.tally.faults) == {kind: 1}


@pytest.mark.parametrize(("body", "kind"), PASSING.values(), ids=PASSING)
def test_its_words_are_shown_when_it_lasts(body: Any, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    words = status_error(200, body["choices"][0]["error"] if "choices" in body else body).words
    with scripted_endpoint(lambda request: Scripted(200, body)) as server:
        (reply,) = Client(server.endpoint()).ask([QUESTION])
        assert reply.error == f"{kind}: {words}"
        assert reply.unanswered
        assert f"1 calls of 'm' are unanswered (the last: {kind}: {words})" in capfd.readouterr().err
        questions = [Call((("user", str(i)),)) for i in range(20)]
        with pytest.raises(UserError) as caught:
            Client(server.endpoint()).ask(questions)
    assert f"does not answer ({kind}: {words}): look after its server" in str(caught.value)
    assert len(server.requests) == 1 + 8


REFUSALS = {
    "code of OpenRouter": {"error": {"message": "The prompt was flagged", "code": 400}},
    "vLLM": {"object": "error", "message": "The prompt was flagged", "type": "BadRequestError", "code": 400},
    "words alone": {"error": "The prompt was flagged"},
    "FastAPI": {"detail": [{"loc": ["body"], "msg": "The prompt was flagged", "type": "value_error"}]},
    "empty choices": {"choices": [], "error": {"message": "The prompt was flagged", "type": "invalid_request_error"}},
}


@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS)
def test_another_error_under_status_200_is_a_refusal(body: Any) -> None:
    def script(request: dict[str, Any]) -> Scripted:
        flagged = request["messages"][-1]["content"] == "bad"
        return Scripted(200, body if flagged else completion("fine"))

    with scripted_endpoint(script) as server:
        replies = Client(server.endpoint(retries=3)).ask([Call((("user", text),)) for text in ("good", "bad")])
        assert [reply.text for reply in replies] == ["fine", None]
        assert replies[1].error.startswith("refused: ")
        assert "The prompt was flagged" in replies[1].error
        assert len(server.requests) == 2
        with pytest.raises(UserError, match=r"'m' refuses \(.*The prompt was flagged\): check model"):
            Client(server.endpoint()).ask([Call((("user", "bad"),))])


@pytest.mark.parametrize("code", [401, 402, 404])
def test_an_error_that_meets_every_request_ends_all_under_status_200_too(code: int) -> None:
    body = {"error": {"message": "No such thing", "code": code}}
    with scripted_endpoint(lambda request: Scripted(200, body)) as server:
        with pytest.raises(UserError, match=rf"refuses \(status {code}: No such thing\)"):
            Client(server.endpoint()).ask([Call((("user", str(i)),)) for i in range(20)])
        assert len(server.requests) == 1


@pytest.mark.parametrize("body", [completion("fine") | {"error": None}, completion("fine") | {"error": {}}])
def test_an_empty_error_beside_an_answer_is_none(body: Any) -> None:
    assert error_in_body(body) is None


@pytest.mark.parametrize("under_200", [False, True])
def test_the_key_stands_in_no_error(under_200: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    body = {"error": {"message": "x" * 195 + " key sk-secret was refused", "code": 401}}
    with (
        scripted_endpoint(lambda request: Scripted(200 if under_200 else 401, body)) as server,
        pytest.raises(UserError) as caught,
    ):
        Client(server.endpoint(api_key_env="SOME_KEY")).ask([QUESTION])
    assert "sk-s" not in str(caught.value)
    assert "SOME_KEY" in str(caught.value)


LIMIT, OLD_LIMIT = "set token_limit: max_completion_tokens", "set token_limit: max_tokens"
TEMPERATURE, SYSTEM = "set send_temperature: false", "set fold_system: true"
TEXT = "set the benchmark's option verdict: text (judge-card: --verdict text)"
NEW = {"token_limit": "max_completion_tokens"}
GENERAL = "check model, base_url and the options"
ADVICE: list[tuple[str, dict[str, Any], Call, str]] = [
    (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        {},
        QUESTION,
        LIMIT,
    ),
    ("max_tokens: Extra inputs are not permitted", {}, QUESTION, LIMIT),
    ("Unrecognized request argument supplied: max_completion_tokens", NEW, QUESTION, OLD_LIMIT),
    ("unknown field max_completion_tokens", NEW, QUESTION, OLD_LIMIT),
    ("max_tokens is too large: 16000. This model supports at most 4096 completion tokens", {}, QUESTION, GENERAL),
    (
        "This model's maximum context length is 2048 tokens. However, you requested at least 5000 tokens",
        {},
        QUESTION,
        GENERAL,
    ),
    (
        "Invalid 'max_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead.",
        {},
        WITH_LOGPROBS,
        "set extra_body: {max_tokens: N}",
    ),
    (
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        {},
        QUESTION,
        TEMPERATURE,
    ),
    ("`temperature` may only be set to 1 when thinking is enabled", {}, QUESTION, TEMPERATURE),
    ("temperature is deprecated for this model", {"send_temperature": False}, QUESTION, GENERAL),
    ("System role not supported", {}, QUESTION, SYSTEM),
    ("'messages[0].role' does not support 'system' with this model.", {}, QUESTION, SYSTEM),
    ("Developer instruction is not enabled for models/gemma-3-27b-it", {}, QUESTION, SYSTEM),
    ("Conversation roles must alternate user/assistant/user/assistant/...", {}, QUESTION, SYSTEM),
    ("Only user and assistant roles are supported!", {}, QUESTION, SYSTEM),
    ("System role not supported", {"fold_system": True}, QUESTION, GENERAL),
    ("System role not supported", {}, WITH_LOGPROBS, GENERAL),
    ("This model does not support the parameter 'logprobs'.", {}, WITH_LOGPROBS, TEXT),
    ("'top_logprobs' is not supported with this model", {}, WITH_LOGPROBS, TEXT),
    ("You are not allowed to request logprobs from this model", {}, WITH_LOGPROBS, TEXT),
    ("logprobs and temperature are not supported", {}, WITH_LOGPROBS, TEXT),
    ("reasoning_effort 'minimal' is not supported", {"reasoning_effort": "minimal"}, QUESTION, "set another reasoning"),
    ("The response was filtered due to the content management policy", {}, QUESTION, GENERAL),
]


@pytest.mark.parametrize(("words", "options", "call", "expected"), ADVICE, ids=range(len(ADVICE)))
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_names_the_option_that_helps(
    status: int, words: str, options: dict[str, Any], call: Call, expected: str
) -> None:
    endpoint = Endpoint(model="m", api_key_env="SOME_KEY", **options)
    for body in ({"message": words}, {"error": {"message": words}}, words, [{"error": {"message": words}}]):
        text = advice(status_error(status, body), endpoint, call)
        assert text.startswith(expected)
        assert "SOME_KEY" not in text


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_the_key_is_advised_only_where_it_may_be_wrong(status: int) -> None:
    text = advice(status_error(status, {"message": "no"}), Endpoint(model="m", api_key_env="SOME_KEY"), QUESTION)
    assert ("SOME_KEY" in text) == (status in (401, 403, 404))


def test_the_parameter_that_an_error_is_about_counts_as_its_words() -> None:
    problem = status_error(400, {"message": "Unsupported parameter", "param": "temperature"})
    assert problem.text == "status 400: Unsupported parameter (temperature)"
    assert advice(problem, Endpoint(model="m"), QUESTION).startswith(TEMPERATURE)


def test_a_judge_that_gives_no_log_probabilities_is_noted_with_the_way_out(capfd: pytest.CaptureFixture[str]) -> None:
    with scripted_endpoint(lambda request: Scripted(200, completion("M"))) as server:
        replies = Client(server.endpoint()).ask([WITH_LOGPROBS])
        assert replies[0].text == "M"
        assert "'m' gives no log-probabilities: set the benchmark's option verdict: text" in capfd.readouterr().err
        Client(server.endpoint()).ask([QUESTION])
        assert "log-probabilities" not in capfd.readouterr().err


CASES: dict[str, tuple[Call, dict[str, Any], str]] = {
    "o-series": (QUESTION, {"token_limit": "max_completion_tokens", "send_temperature": False}, LIMIT),
    "no-system": (QUESTION, {"fold_system": True}, SYSTEM),
    "refuses-logprobs": (WITH_LOGPROBS, {"extra_body": {"logprobs": None, "top_logprobs": None}}, TEXT),
}


@pytest.mark.parametrize("model", CASES)
def test_the_judges_of_the_cases_can_be_asked_once_the_advice_is_followed(model: str) -> None:
    call, options, expected = CASES[model]
    with scripted_judge() as url:
        judge: Callable[..., Endpoint] = lambda **more: Endpoint(model=model, base_url=url, retries=0, **more)  # noqa: E731
        with pytest.raises(UserError) as caught:
            Client(judge()).ask([call])
        assert expected in str(caught.value)
        (reply,) = Client(judge(**options)).ask([call])
    assert reply.text
    assert not reply.error
