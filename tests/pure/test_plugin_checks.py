"""What a plugin is, and what it answers: refused in a sentence where it is not what its base class promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.benchmark import Benchmark, Scored, benchmark_result, rows_fault
from harness.budget.ledger import Ledger
from harness.errors import UserError, reason_of, shown
from harness.methods.base import Method, PairMethod
from harness.oracles.base import NoVerdict, Oracle
from harness.oracles.metered import MeteredOracle
from harness.run.plugin_check import checked_benchmark, checked_method, fault_of, oracle_identity, own_protocol
from harness.run.plugins import GROUPS, plugins
from harness.score.metrics import metric


class _Method(Method):
    name, summary = "mine", "a method"

    def train(self, context: Any) -> None:
        return None


class _Oracle(Oracle):
    name, summary = "mine", "an oracle"
    answers: Any = None

    def score(self, rows: Any, texts: Any) -> Any:
        return self.answers

    def prefer(self, rows: Any, firsts: Any, seconds: Any) -> Any:
        return self.answers


class _Benchmark(Benchmark):
    name, title, summary = "mine", "Mine", "a benchmark"
    scored: Any = None

    def answer(self, context: Any) -> list[dict[str, Any]]:
        return [{"id": 1}]

    def score(self, rows: list[dict[str, Any]]) -> Any:
        return self.scored


def _with(base: type, **attributes: Any) -> type:
    return type("Changed", (base,), attributes)


ACCURACY = metric("acc", "Mine", "acc %", 1, "percent", "right", primary=True)


def test_every_plugin_of_our_own_is_what_is_asked_of_others() -> None:
    faults = {name: fault_of(kind, name, p.load()) for kind in GROUPS for name, p in plugins(kind).items()}
    assert len(faults) > 40
    assert {name for name, fault in faults.items() if fault} == set()


@pytest.mark.parametrize(
    ("kind", "loaded", "fault"),
    [
        ("methods", 5, "of type int, and a subclass of harness.methods.base.Method"),
        ("methods", _Method(), "of type _Method"),
        ("methods", _Oracle, "it is the class _Oracle"),
        ("methods", _with(Method, name="mine"), "it has no summary"),
        ("methods", _with(_Method, name=None), "it has no name"),
        ("methods", _with(_Method, summary=b"bytes"), "summary must be a text"),
        ("methods", _with(_Method, summary="x" * 2_000_000), "summary has 2,000,000 letters"),
        ("methods", _with(_Method, version="1"), "version must be a whole number"),
        ("methods", _with(_Method, Config=dict), "Config must be a subclass of harness.methods.base.MethodConfig"),
        ("methods", _with(_Method, grid={"beta": 0.1}), "grid must hold a list of values"),
        ("methods", _with(Method, name="mine", summary="x"), "it does not implement train"),
        ("methods", _with(PairMethod, name="mine", summary="x"), "it does not implement loss"),
        ("oracles", _with(Oracle, name="mine", summary="x"), "it does not implement score"),
        ("oracles", _with(Oracle, name="mine", summary="x", pairwise=True), "it does not implement prefer"),
        ("oracles", _with(_Oracle, unit=None), "it has no unit"),
        ("benchmarks", _with(_Benchmark, judged_by="me"), "judged_by must be one of none, local, endpoint"),
        ("benchmarks", _with(_Benchmark, needs="weights"), "needs must be a set of weights, task"),
        ("benchmarks", _with(Benchmark, name="mine", title="M", summary="x"), "it does not implement answer"),
    ],
)
def test_what_is_no_plugin_is_said_in_few_words(kind: str, loaded: Any, fault: str) -> None:
    assert fault in fault_of(kind, "mine", loaded)
    assert len(fault_of(kind, "mine", loaded)) < 200


def test_what_can_be_used_has_no_fault() -> None:
    sound = {"methods": _Method, "oracles": _Oracle, "benchmarks": _Benchmark}
    assert [fault_of(kind, "mine", loaded) for kind, loaded in sound.items()] == [""] * 3


def test_a_class_has_the_name_of_its_entry_point() -> None:
    """Stages are kept under the class's name: under ``dpo`` it would be given what DPO trained."""
    fault = fault_of("methods", "mine", _with(_Method, name="dpo"))
    assert fault == "its name is 'dpo', and its entry point's 'mine': make them the same"


def _raise(self: Any, *arguments: Any) -> Any:
    raise KeyError("x" * 2_000_000)


@pytest.mark.parametrize(
    ("check", "plugin", "sentence"),
    [
        (checked_method, _with(_Method, spending=lambda self: 3)(), "The row returns 3 from spending"),
        (checked_method, _with(_Method, schedules=lambda self: 0)(), "The row returns 0 from schedules"),
        (checked_method, _with(_Method, shown=lambda self: {1: object()})(), "from shown"),
        (checked_method, _with(_Method, spending=_raise)(), "The row fails in spending"),
        (checked_benchmark, _with(_Benchmark, fractions=lambda self: [2])(), r"The row returns \[2\] from fractions"),
        (checked_benchmark, _with(_Benchmark, label=None)(), "The row has the label None"),
        (lambda p, _: own_protocol(p), _with(_Benchmark, protocol=lambda self: None)(), "None from protocol"),
        (lambda p, _: own_protocol(p), _with(_Benchmark, protocol=lambda self: {"x": math.nan})(), "from protocol"),
        (lambda p, _: oracle_identity(p), _with(_Oracle, identity=_raise)(), "The oracle mine fails in identity"),
    ],
)
def test_cheap_answers_of_the_wrong_type_are_a_sentence(check: Any, plugin: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as raised:
        check(plugin, "row")
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (None, "returned None"),
        ([1.0], "asked for 2 numbers, and score\\(\\) returned 1:"),
        ([1.0, None], "returned None as number 2, which is not a number"),
        (["1", 2.0], "returned '1' as number 1"),
        ([1.0, True], "returned True as number 2"),
        ("12", "returned '12'"),
        ({"a": 1, "b": 2}, "returned {'a': 1"),
    ],
)
def test_an_oracle_that_answers_no_numbers_is_refused(answers: Any, sentence: str) -> None:
    oracle = _Oracle()
    oracle.answers = answers
    with pytest.raises(UserError, match=sentence):
        MeteredOracle(oracle, Ledger()).score([{}, {}], ["a", "b"])


def test_numbers_of_any_type_are_taken_and_reasons_kept() -> None:
    oracle = _Oracle()
    oracle.answers = np.array([0.25, 1], dtype=np.float32)
    assert MeteredOracle(oracle, Ledger()).score([{}, {}], ["a", "b"]) == [0.25, 1.0]
    oracle.answers = (NoVerdict("empty reply"), 0)
    ledger = Ledger()
    assert MeteredOracle(oracle, ledger).prefer([{}, {}], ["a", "b"], ["c", "d"]) == [0.5, 0.0]
    assert ledger.get("oracle", "undecided: empty reply") == 1
    oracle.answers = [0.5, 1.5]
    with pytest.raises(UserError, match=r"1.5 as number 2, which is not a probability"):
        MeteredOracle(oracle, Ledger()).prefer([{}, {}], ["a", "b"], ["c", "d"])


@pytest.mark.parametrize(
    ("columns", "metrics", "sentence"),
    [
        ({"items": {"right": [1]}}, [ACCURACY], "the group 'items' has no column 'id'"),
        ({"items": {"id": [1, 2], "right": [1]}}, [ACCURACY], "'right' of 'items' has 1 values for 2 items"),
        ({"items": {"id": [], "right": []}}, [ACCURACY], "there are no items"),
        ({"items": {"id": [1], "right": 1}}, [ACCURACY], "must hold lists by name"),
        ({"items": {"id": [1]}}, [ACCURACY], "column 'right', which the group 'items' lacks"),
        ({"others": {"id": [1]}}, [ACCURACY], "group 'items', which is not there"),
        ({"items": {"id": [1]}}, [], "metrics must be a list"),
        ({"items": {"id": [1]}}, [metric("a", "A", "x", 1, "kindly", "id")], "the kind 'kindly': write one of"),
        ([1], [ACCURACY], "columns must be dicts"),
    ],
)
def test_columns_that_cannot_be_scored_are_a_sentence(columns: Any, metrics: Any, sentence: str) -> None:
    benchmark = _Benchmark()
    benchmark.scored = Scored(columns, metrics)
    with pytest.raises(UserError, match=f"The benchmark mine has no score: .*{sentence}"):
        benchmark_result(benchmark, [{"id": 1}], {}, None)


def test_a_score_that_raises_or_is_something_else_is_a_sentence() -> None:
    with pytest.raises(UserError, match="mine has no score: its score\\(\\) fails on its 1 judged rows"):
        benchmark_result(_Benchmark(), [{"id": 1}], {}, None)
    with pytest.raises(UserError, match="KeyError"):
        benchmark_result(_with(_Benchmark, score=_raise)(), [{"id": 1}], {}, None)


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    """Three of five values count for nothing; the mean is that of the two that are left."""
    benchmark = _Benchmark()
    benchmark.scored = Scored({"items": {"id": [1, 2, 3, 4, 5], "right": [math.nan, math.inf, "x", 1, 0]}}, [ACCURACY])
    result = benchmark_result(benchmark, [{"id": 1}], {}, None)
    assert (result.metrics[0].value, result.metrics[0].n_valid, result.metrics[0].n_total) == (50.0, 2, 5)
    assert sum(result.invalid["acc"].values()) == 3


def test_rows_that_cannot_be_stored_are_a_sentence() -> None:
    assert rows_fault([{"id": 1}], [{"id": 1}]) == ""
    assert "no items" in rows_fault([])
    assert "no list of dicts" in rows_fault(None)
    assert "no list of dicts" in rows_fault([1])
    assert "1 judged rows came of 2 answers" in rows_fault([{}], [{}, {}])
    assert "no JSON (TypeError" in rows_fault([{"id": {1, 2}}])


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


def test_a_reason_is_short_whatever_the_error_says() -> None:
    assert reason_of(ValueError("no idea | what\nmore")) == "ValueError: no idea | what"
    assert reason_of(KeyError()) == "KeyError"
    assert len(reason_of(RuntimeError("z" * 2_000_000))) < 250
    assert reason_of(RuntimeError("a\ud800\x1b[31m")) == "RuntimeError: a��[31m"
    assert reason_of(UnreadableError()) == "UnreadableError: its message cannot be read"
    assert shown(10**10_000) == "a number of thousands of digits"
