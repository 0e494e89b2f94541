"""Thoughts in a policy's answers: left out of what is judged, measured and asked next; no key changes without them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kit.scripted_endpoint import Scripted, completion, scripted_endpoint

from benchmarks.mt_bench import MTBench
from benchmarks.shared.asking import sample_answers
from harness.answer.endpoint_policy import EndpointPolicy
from harness.answer.final_answer import FinalAnswer, final_answer, opens_thoughts
from harness.answer.policy import Policy
from harness.benchmark import EvalContext, Scored, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.recipe.endpoint import Thinking
from harness.recipe.load import builtin_recipes
from harness.recipe.recipe import Recipe
from harness.run.configure import make_method
from harness.run.stages import answers_stage, thinking_of
from harness.score.metrics import metric
from harness.store.row_cache import RowCache
from harness.store.stages import Stage
from sail.types import Completion, Request

THOUGHT = "<think>\nThe user wants something short.\n</think>\n\nHere is the answer."


@pytest.mark.parametrize(
    ("text", "stopped", "expected"),
    [
        ("Here is the answer.", True, ("Here is the answer.", False, 0)),
        (" cut in the midd", False, ("cut in the midd", True, 0)),
        (THOUGHT, True, ("Here is the answer.", False, 50)),
        ("[THINK]Hm.[/THINK]Yes", True, ("Yes", False, 18)),
        ("no opening tag\n</think>\nYes", True, ("Yes", False, 24)),
        ("<THINKING> Hm. </THINKING> Yes", False, ("Yes", True, 27)),
        ("<think>\nHm, but", False, ("", True, 15)),
        ("<think>\nHm, and then it stops", True, ("", True, 29)),
        ("<think>Hm</think>", False, ("", True, 17)),
        ("", True, ("", False, 0)),
        ("I think that 1 < 2 > 0", True, ("I think that 1 < 2 > 0", False, 0)),
    ],
)
def test_what_is_judged_of_an_answer(text: str, stopped: bool, expected: tuple[str, bool, int]) -> None:
    assert final_answer(text, stopped, "strip") == expected
    assert final_answer(text, stopped, "keep") == (text.strip(), not stopped, 0)


@given(st.text("<>/think[TINK] \nab", max_size=60) | st.text(), st.booleans(), st.booleans())
def test_stripping_leaves_a_part_of_the_answer_and_counts_the_rest(text: str, stopped: bool, opened: bool) -> None:
    final = final_answer(text, stopped, "strip", opened=opened)
    assert len(final.text) + final.thoughts == len(text.strip())
    assert stopped or final.truncated
    if not final.thoughts and not opened:
        assert final == FinalAnswer(text.strip(), not stopped)


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("<|user|>Hi<|assistant|><think>\n", True),
        ("<|assistant|>[THINK]", True),
        ("<|assistant|><think>\n\n</think>\n\n", False),
        ("Say <think> now<|assistant|>", False),
        ("", False),
    ],
)
def test_a_template_may_open_the_block(prompt: str, opens: bool) -> None:
    assert opens_thoughts(prompt) == opens
    cut = final_answer("Hm, so far", False, "strip", opened=opens)
    assert cut == (("", True, 10) if opens else ("Hm, so far", True, 0))
    assert final_answer("Hm.</think>Yes", True, "strip", opened=opens).text == "Yes"


def context_of(policy: Any) -> EvalContext:
    nothing: Any = None
    return EvalContext(policy, policy, nothing, nothing, [], [], 4)


def policy_of(
    server: Any, tokenizer: Any, thinking: Thinking = "strip", cache: RowCache | None = None
) -> EndpointPolicy:
    meter = Meter(Ledger())
    return EndpointPolicy(server.endpoint(), tokenizer, meter=meter, cache=cache, thinking=thinking)


def requests_of(policy: Any, *texts: str) -> list[Request]:
    return [Request(policy.render([{"role": "user", "content": text}]), 64, 0.0) for text in texts]


def answering(*replies: str | tuple[str, str]) -> Callable[[dict[str, Any]], Scripted]:
    """Each question is the number of its reply (a text, or a text and its finish reason)."""

    def script(request: dict[str, Any]) -> Scripted:
        reply = replies[int(request["messages"][-1]["content"])]
        text, finish = (reply, "stop") if isinstance(reply, str) else reply
        return Scripted(200, completion(text, finish))

    return script


def test_rows_of_answers_without_thoughts_stay_as_they_were(tokenizer: Any) -> None:
    texts = ["Here is the answer.", "I think so.", "cut in the", ""]
    with scripted_endpoint(answering(texts[0], texts[1], (texts[2], "length"), texts[3])) as server:
        rows = []
        for thinking in ("strip", "keep"):
            policy = policy_of(server, tokenizer, thinking)
            rows.append(sample_answers(context_of(policy), requests_of(policy, *"0123")))
    before = [
        {"text": text, "tokens": len(tokenizer(text, add_special_tokens=False)["input_ids"]), "truncated": cut}
        for text, cut in zip(texts, (False, False, True, False), strict=True)
    ]
    assert json.dumps(rows[0]) == json.dumps(rows[1]) == json.dumps(before)


def test_thoughts_are_stripped_counted_and_can_be_kept_without_asking_again(tokenizer: Any, tmp_path: Path) -> None:
    with scripted_endpoint(answering(THOUGHT, ("<think>\nHm, but", "length"), "plain", "half \ud83d")) as server:
        cache = RowCache(tmp_path / "rows.sqlite")
        policy = policy_of(server, tokenizer, "strip", cache)
        rows = sample_answers(context_of(policy), requests_of(policy, *"0123"))
        keeping = policy_of(server, tokenizer, "keep", cache)
        kept = sample_answers(context_of(keeping), requests_of(keeping, *"0123"))
        assert len(server.requests) == 4
    tokens = len(tokenizer("Here is the answer.", add_special_tokens=False)["input_ids"])
    assert rows[0] == {"text": "Here is the answer.", "tokens": tokens, "truncated": False, "thoughts": 50}
    assert rows[1] == {"text": "", "tokens": 0, "truncated": True, "thoughts": 15}
    assert [row["text"] for row in kept] == [THOUGHT, "<think>\nHm, but", "plain", "half \ufffd"]
    assert kept[2:] == rows[2:]
    assert rows[3]["replaced"] == 1
    result = benchmark_result(_Counting(), [{"turns": rows, "baseline": rows[0]}], {}, None)
    assert (result.stripped, result.replaced) == (2, 1)


class _Counting(MTBench):
    def score(self, rows: list[dict[str, Any]]) -> Scored:
        one = metric("one", "one", "points", 1, "mean", "one", primary=True)
        return Scored({"items": {"id": ["a"], "one": [1.0]}}, [one])


def test_the_second_turn_is_asked_with_the_first_answer_alone(tokenizer: Any) -> None:
    with scripted_endpoint(lambda request: Scripted(200, completion(THOUGHT))) as server:
        rows = MTBench(MTBench.Options(limit=3)).answer(context_of(policy_of(server, tokenizer)))
    second = [r["messages"][1]["content"] for r in server.requests if len(r["messages"]) == 3]
    assert second == ["Here is the answer."] * 3
    assert [[turn["text"] for turn in row["turns"]] for row in rows] == [["Here is the answer."] * 2] * 3


def test_a_local_policy_leaves_out_thoughts_too(load: Callable[[], Any], tokenizer: Any) -> None:
    def local(thinking: Thinking) -> Policy:
        return Policy(load(), tokenizer, "p", meter=Meter(Ledger()), cache=None, thinking=thinking)

    def completed(text: str) -> Completion:
        return Completion(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), (), True)

    plain = Request(tuple(tokenizer("Hi", add_special_tokens=False)["input_ids"]), 8)
    opened = Request(tuple(tokenizer("Hi<think>\n", add_special_tokens=False)["input_ids"]), 8)
    strip, keep = local("strip"), local("keep")
    assert strip.final(completed(THOUGHT), plain).text == "Here is the answer."
    assert keep.final(completed(THOUGHT), plain).text == strip.text(completed(THOUGHT)) == THOUGHT
    assert strip.final(completed("Hm, so"), opened) == ("", True, 6)
    assert strip.final(completed("Hm, so"), plain) == ("Hm, so", False, 0)
    assert strip.with_instruction("x").thinking == strip.without_cache().thinking == "strip"


def recipe(**changes: Any) -> Recipe:
    raw: dict[str, Any] = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    endpoints = {"plain": {"model": "m"}, "keeps": {"model": "m", "thinking": "keep"}}
    return Recipe.model_validate(raw | {"endpoints": endpoints} | changes)


def test_strip_is_in_no_key_and_keep_in_that_of_whom_it_concerns() -> None:
    def key(name: str, **changes: Any) -> str:
        own = recipe(**changes)
        return answers_stage(own, make_method(own, name), Stage("policy", {}), {"benchmark": "b"}).key

    assert key("start") == key("start", thinking="strip")  # the default is in no key
    assert key("plain") == key("plain", thinking="strip") != key("start")
    assert key("keeps") != key("plain")
    for name, expected in (("start", "strip"), ("plain", "strip"), ("keeps", "keep")):
        assert thinking_of(recipe(), make_method(recipe(), name)) == expected
    keeping = recipe(thinking="keep", endpoints={"strips": {"model": "m", "thinking": "strip"}})
    assert thinking_of(keeping, make_method(keeping, "strips")) == "strip"
    assert thinking_of(keeping, make_method(keeping, "start")) == "keep"
