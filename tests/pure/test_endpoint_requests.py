"""What an endpoint's options make of a request, and what they do to identities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.scripted_endpoint import saying, scripted_endpoint
from pydantic import ValidationError

from harness.answer.client import Client
from harness.answer.reply import Call
from harness.recipe.endpoint import Endpoint, PolicyEndpoint, without_system
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe

ROOT = Path(__file__).parent.parent.parent
QUESTION = Call((("system", "Be fair."), ("user", "Which?")), 0.0, 64)


def recipe(**changes: Any) -> Recipe:
    raw: dict[str, Any] = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    return Recipe.model_validate(raw | changes)


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"token_limit": "max_completion_tokens"}, {"max_tokens": None, "max_completion_tokens": 64}),
        ({"send_temperature": False}, {"temperature": None}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"extra_body": {"top_k": 1, "max_tokens": 4096}}, {"top_k": 1, "max_tokens": 4096}),
        ({"extra_body": {"temperature": None}}, {"temperature": None}),
        (
            {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        ({"fold_system": True}, {"messages": [{"role": "user", "content": "Be fair.\n\nWhich?"}]}),
        (
            {"token_limit": "max_completion_tokens", "extra_body": {"max_completion_tokens": 9}, "seed": 3},
            {"max_tokens": None, "max_completion_tokens": 9, "seed": 3},
        ),
    ],
)
def test_options_change_the_request_and_the_identity(options: dict[str, Any], changes: dict[str, Any]) -> None:
    with scripted_endpoint(saying("[[A]]")) as server:
        plain = server.endpoint()
        endpoint = server.endpoint(**options)
        (reply,) = Client(endpoint).ask([QUESTION])
    assert reply.text == "[[A]]"
    usual = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "Which?"}],
        "temperature": 0.0,
        "max_tokens": 64,
    }
    assert server.requests == [{k: v for k, v in (usual | changes).items() if v is not None}]
    assert (endpoint.identity() == plain.identity()) == (not options)
    assert (Client(endpoint).key(QUESTION) == Client(plain).key(QUESTION)) == (not options)


def test_keys_and_hashes_of_recipes_without_the_options_are_those_from_before_them() -> None:
    """Constants: computed from recipes that do not name the options."""
    endpoint = Endpoint(model="j", base_url="http://h/v1", seed=3)
    assert endpoint.identity() == {"model": "j", "endpoint": "bdf4891459983803", "seed": 3}
    assert Client(endpoint).key(Call((("system", "s"), ("user", "u")), 0.5, 7, 5)) == "7b9e3a46076165b8"
    assert load_recipe("tiny").hash == "59c0c81c620e0d02"
    assert load_recipe(str(ROOT / "examples" / "official.yaml")).hash == "7e562add317d8faf"
    judge, policy = {"model": "j", "base_url": "http://h/v1", "seed": 3}, {"model": "m", "base_url": "http://h/v1"}
    before = recipe(judge=judge, endpoints={"e": policy})
    assert before.hash == "19b7f69b25b37bb3"
    written_out = {"token_limit": "max_tokens", "send_temperature": True, "fold_system": False, "extra_body": {}}
    assert recipe(judge=judge | written_out, endpoints={"e": policy}, thinking="strip").hash == before.hash
    for changed in ({"judge": judge | {"fold_system": True}}, {"thinking": "keep"}):
        assert recipe(**{"judge": judge, "endpoints": {"e": policy}} | changed).hash != before.hash
    assert recipe(judge=judge, endpoints={"e": policy | {"thinking": "keep"}}).hash != before.hash


@pytest.mark.parametrize("options", [{"token_limit": "max_completion_tokens", "extra_body": {"a": [1, None]}}, {}])
def test_a_recipe_survives_its_json(options: dict[str, Any]) -> None:
    judged = recipe(judge={"model": "j"} | options, endpoints={"e": {"model": "m", "thinking": "keep"} | options})
    again = Recipe.model_validate(judged.model_dump(mode="json"))
    assert again == judged
    assert again.hash == judged.hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra_body": {"stream": True}}, "'stream'"),
        ({"extra_body": {"messages": []}}, "'messages'"),
        ({"extra_body": {"model": "other"}}, "'model'"),
        ({"extra_body": {"n": 2}}, "'n'"),
        ({"extra_body": {"top_p": float("inf")}}, "finite"),
        ({"extra_body": {"stop": "\ud83d"}}, "surrogate"),
        ({"model": "half \ud83d"}, "surrogate"),
        ({"model": "nul \x00"}, "NUL"),
        ({"token_limit": "max_output_tokens"}, "max_completion_tokens"),
        ({"reasoning_effort": ""}, "at least 1"),
        ({"thinking": "keep"}, "Extra inputs"),
    ],
)
def test_options_that_could_not_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Endpoint(**{"model": "m"} | options)


def test_thinking_is_an_option_of_policies_and_changes_no_question() -> None:
    strip, keep = PolicyEndpoint(model="m"), PolicyEndpoint(model="m", thinking="keep")
    assert strip.identity() == keep.identity() == Endpoint(model="m").identity()


@pytest.mark.parametrize(
    ("roles", "folded"),
    [
        ("u", [("user", "0")]),
        ("su", [("user", "0\n\n1")]),
        ("suau", [("user", "0\n\n1"), ("assistant", "2"), ("user", "3")]),
        ("ssu", [("user", "0\n\n1\n\n2")]),
        ("s", [("user", "0")]),
        ("usau", [("user", "1\n\n0"), ("assistant", "2"), ("user", "3")]),
    ],
)
def test_system_turns_open_the_first_user_turn(roles: str, folded: list[tuple[str, str]]) -> None:
    names = {"s": "system", "u": "user", "a": "assistant"}
    messages = [{"role": names[role], "content": str(i)} for i, role in enumerate(roles)]
    assert [(m["role"], m["content"]) for m in without_system(messages)] == folded
