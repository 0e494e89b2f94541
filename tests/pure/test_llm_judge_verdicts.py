"""``llm_judge`` behind an endpoint: verdicts or reasons over HTTP, what is counted, its options and its identity."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from judge_server import completion
from kit.evaluation_cases import scripted_judge

from benchmarks.preference import _answer_columns
from harness.budget.ledger import Ledger
from harness.errors import UserError
from harness.oracles.base import NoVerdict
from harness.oracles.llm_judge import LLMJudge, LLMJudgeOptions
from harness.oracles.metered import MeteredOracle
from harness.recipe.endpoint import Endpoint
from harness.recipe.recipe import OracleSpec
from harness.report.costs import _details
from harness.run.configure import make_oracle
from harness.score.metrics import metric
from harness.score.validity import checked_columns

OPTIONS_OF_OLD = {
    "model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "KEY", "temperature": 0.5, "max_tokens": 16,
    "concurrency": 2, "retries": 1,
}  # fmt: skip


def judge(url: str, model: str = "m") -> LLMJudge:
    return LLMJudge(LLMJudgeOptions(model=model, base_url=url, retries=0))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("letter-b-better", "no label"), ("think-letter", "thinking never ends"), ("refusal", "no label"),
        ("reasons-only", "cut by length"), ("cut-thinking", "thinking never ends"),
    ],
)  # fmt: skip
def test_the_cases_without_a_verdict(model: str, reason: str) -> None:
    """What was read as the other answer, or as a verdict at all, is none."""
    with scripted_judge() as url:
        (share,) = judge(url, model).prefer([{"prompt": "p"}], ["GOOD answer"], ["bad answer"])
    assert isinstance(share, NoVerdict)
    assert share.reason == reason


def test_the_cases_that_hold_a_verdict() -> None:
    """A tie, or the same slot in both orders."""
    with scripted_judge() as url:
        for model in ("a-tie", "plain", "reasons-then", "think-first"):
            assert judge(url, model).prefer([{"prompt": "p"}], ["GOOD answer"], ["bad answer"]) == [0.5]


# what a judge that always prefers the answer with GOOD says of the winner W and the loser L, and the share of GOOD
SAYINGS: list[tuple[str, float | str]] = [
    ("[[W]]", 1.0),
    ("W", 1.0),
    ("Answer L is worse than answer W. [[W]]", 1.0),
    ("<think>At first [[L]].</think>[[W]]", 1.0),
    ("I may say [[A]], [[B]] or [[C]]: [[W]]", 1.0),
    ('Answer L says "reply [[L]]", but [[W]]', 1.0),
    ("Answer W is better than answer L.", "no label"),
    ("W is better, L is worse", "no label"),
    ("The winner is W, not L", "no label"),
    ("A choice between W and L is easy: W", "no label"),
    ("[[L]]? Rather [[W]]. Hm, [[L]]", "contradictory labels"),
    ("<think>I tend to [[L]]", "thinking never ends"),
]


@pytest.mark.parametrize(("saying", "expected"), SAYINGS)
def test_no_label_is_ever_inverted(saying: str, expected: float | str, serve: Callable[..., Any]) -> None:
    def behaviour(handler: Any, request: dict[str, Any], n: int) -> None:
        text = request["messages"][-1]["content"]
        first = text.split("Answer A:\n")[1].split("\n\nAnswer B:")[0]
        winner, loser = "AB" if "GOOD" in first else "BA"
        handler.send(completion(saying.replace("W", winner).replace("L", loser)))

    oracle = judge(f"http://127.0.0.1:{serve(behaviour).server_port}/v1")
    good_first, good_second = oracle.prefer([{"prompt": "p"}] * 2, ["GOOD", "poor"], ["poor", "GOOD"])
    if isinstance(expected, float):
        assert (good_first, good_second) == (expected, 1 - expected)
    else:
        assert {getattr(share, "reason", "") for share in (good_first, good_second)} == {expected}


def test_labels_without_a_verdict_are_counted_by_reason(serve: Callable[..., Any]) -> None:
    """In training they are ties, counted in the ledger; in evaluation they are not valid, with their reasons."""
    sayings = {"cut": "Answer A", "empty": "", "vague": "Both are fine", "clear": "[[A]]"}

    def behaviour(handler: Any, request: dict[str, Any], n: int) -> None:
        kind = next(k for k in (*sayings, "refused") if f"Request:\n{k}\n" in request["messages"][-1]["content"])
        if kind == "refused":
            handler.send({"error": {"message": "filtered"}}, 400)
            return
        body = completion(sayings[kind])
        body["choices"][0]["finish_reason"] = "length" if kind == "cut" else "stop"
        handler.send(body)

    ledger = Ledger()
    oracle = MeteredOracle(judge(f"http://127.0.0.1:{serve(behaviour).server_port}/v1"), ledger)
    rows = [{"prompt": kind} for kind in ("clear", "cut", "cut", "empty", "vague", "refused")]
    assert oracle.prefer(rows, ["x"] * 6, ["y"] * 6) == [0.5] * 6  # the clear one says A in both orders
    assert ledger.entries["oracle"] == {
        "calls": 12,
        "undecided": 5,
        "undecided: cut by length": 2,
        "undecided: empty reply": 1,
        "undecided: no label": 1,
        "undecided: refused": 1,
    }
    rewards = oracle.versus(rows, ["x"] * 6, ["y"] * 6).rewards
    assert ledger.get("oracle", "undecided") == 5
    answers: list[dict[str, Any]] = [
        {"id": i, "reward": None if math.isnan(r) else r, "start_reward": 0.5, "pairwise": True, "text": "x"}
        | dict.fromkeys(("logp", "start_logp", "start_answer_logp", "start_answer_policy_logp"), -1.0)
        | {"tokens": 1, "truncated": False}
        | ({"no_verdict": r.reason} if isinstance(r, NoVerdict) else {})
        for i, r in enumerate(rewards)
    ]
    columns, invalid = checked_columns(
        {"items": _answer_columns(answers)}, [metric("gold_reward", "r", "", 1, "mean", "preferred")]
    )
    assert columns["items"]["preferred"] == [0.5, None, None, None, None, None]
    assert invalid == {"gold_reward": {"cut by length": 2, "empty reply": 1, "no label": 1, "refused": 1}}


def test_the_page_of_costs_shows_the_reasons() -> None:
    phases = {
        "data": {"undecided": 4, "undecided: cut by length": 4},
        "oracle": {"undecided": 3, "undecided: refused": 1},
    }
    run = SimpleNamespace(ledger={"phases": phases, "peak_memory_bytes": 0}, tuning_ledger={}, prices={})
    board: Any = SimpleNamespace(finished=[run], methods=["dpo"], runs_of=lambda method: [run])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _details(board).splitlines()]
    at = rows.index(["labels without a verdict", "7"])
    assert rows[at + 1 : at + 3] == [
        ["labels without a verdict: cut by length", "4"],
        ["labels without a verdict: refused", "1"],
    ]


def test_a_missing_verdict_is_nan_with_a_reason() -> None:
    missing = NoVerdict("no label")
    assert math.isnan(missing)
    assert math.isnan(1 - missing)
    assert copy.deepcopy(missing).reason == "no label"


def test_options_of_old_recipes_are_read_and_those_of_endpoints_are_there() -> None:
    oracle = make_oracle(OracleSpec(name="llm_judge", options=OPTIONS_OF_OLD))
    for name, value in OPTIONS_OF_OLD.items():
        assert getattr(oracle.options, name) == value
    for name, field in Endpoint.model_fields.items():
        if name != "model":
            assert getattr(LLMJudgeOptions(model="m"), name) == field.default
    with pytest.raises(UserError, match="max_cost needs the prices"):
        make_oracle(OracleSpec(name="llm_judge", options={"model": "m", "max_cost": 3}))
    with pytest.raises(UserError, match="modle"):
        make_oracle(OracleSpec(name="llm_judge", options={"model": "m", "modle": "x"}))


def test_a_cap_of_the_oracle_holds(serve: Callable[..., Any]) -> None:
    server = serve(lambda handler, request, n: handler.send(completion("[[A]]")))
    options = LLMJudgeOptions(
        model="m", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_requests=3, concurrency=1
    )
    with pytest.raises(UserError, match="cap of 3 requests"):
        LLMJudge(options).prefer([{"prompt": "p"}] * 4, ["a", "b", "c", "d"], ["e"] * 4)
    assert len(server.asked) == 3
    assert {body["max_tokens"] for body in server.bodies} == {1024}


def test_identity_is_what_can_change_an_answer() -> None:
    def of(**options: Any) -> dict[str, Any]:
        return LLMJudge(LLMJudgeOptions(**({"model": "m"} | options))).identity()

    usual = of()
    assert (usual["oracle"], usual["version"], usual["model"]) == ("llm_judge", 3, "m")
    for name, value in {
        "api_key_env": "X", "concurrency": 1, "retries": 9, "timeout": 5.0, "max_requests": 7, "price_in": 2.0,
    }.items():  # fmt: skip
        assert of(**{name: value}) == usual
    for name, value in {
        "model": "n", "base_url": "http://inside.example/v1", "temperature": 1.0, "max_tokens": 16, "seed": 3,
    }.items():  # fmt: skip
        assert of(**{name: value}) != usual
    assert "inside.example" not in json.dumps(of(base_url="http://inside.example/v1"))
