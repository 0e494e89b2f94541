"""What a plugin must be before anything is built on it: a class of its kind, whose attributes and cheap answers have
the types that its base class promises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from harness.benchmark import Benchmark, BenchmarkOptions, EvalCost, JudgedBy, Need
from harness.budget.forecast import Spending
from harness.errors import UserError, reason_of, shown
from harness.methods.base import Method, MethodConfig, PairMethod
from harness.oracles.base import Oracle, OracleOptions

MOST_LETTERS = {"name": 100, "title": 200, "summary": 1000, "unit": 100, "label": 200, "paper": 500, "published": 1000}
"""Of the texts that listings and tables print."""


class Kind(NamedTuple):
    """What the plugins of a group are.

    Attributes:
        base: the class that they derive from.
        schema: the attribute that holds the class of their options, and what that derives from.
        texts: attributes that must be texts.
        may_be_empty: attributes that may be empty texts.
    """

    base: type
    schema: tuple[str, type]
    texts: tuple[str, ...]
    may_be_empty: tuple[str, ...] = ()


KINDS = {
    "methods": Kind(Method, ("Config", MethodConfig), ("name", "summary"), ("paper", "published", "instruction")),
    "oracles": Kind(Oracle, ("Options", OracleOptions), ("name", "summary", "unit")),
    "benchmarks": Kind(Benchmark, ("Options", BenchmarkOptions), ("name", "title", "summary")),
}


def fault_of(kind: str, name: str, loaded: Any) -> str:
    """Why what an entry point names cannot be used; empty if it can.

    Args:
        kind: the group of the entry point, a key of :data:`KINDS`.
        name: of the entry point. The class must have it too: stages and results are kept under the class's.
        loaded: what it names.
    """
    expected = KINDS[kind]
    base = f"{expected.base.__module__}.{expected.base.__name__}"
    if not isinstance(loaded, type) or not issubclass(loaded, expected.base):
        is_what = f"the class {loaded.__name__}" if isinstance(loaded, type) else f"of type {type(loaded).__name__}"
        return f"it is {is_what}, and a subclass of {base} is expected"
    for text in (*expected.texts, *expected.may_be_empty):
        if fault := _text_fault(loaded, text, empty=text in expected.may_be_empty):
            return fault
    if loaded.name != name:  # type: ignore[attr-defined]
        return f"its name is {loaded.name!r}, and its entry point's {name!r}: make them the same"  # type: ignore[attr-defined]
    schema, options = expected.schema
    held = getattr(loaded, schema, None)
    if not isinstance(held, type) or not issubclass(held, options):
        return f"{schema} must be a subclass of {options.__module__}.{options.__name__}"
    version = getattr(loaded, "version", None)
    if type(version) is not int:
        return f"version must be a whole number, not {shown(version)}"
    return next((fault for has_fault in _OF_KIND[kind] if (fault := has_fault(loaded))), "")


def _text_fault(loaded: type, name: str, *, empty: bool) -> str:
    value, most = getattr(loaded, name, None), MOST_LETTERS.get(name, 10_000)
    if not isinstance(value, str) or not (empty or value.strip()):
        return f"{name} must be a text, not {shown(value)}" if value else f"it has no {name}"
    if len(value) > most:
        return f"{name} has {len(value):,} letters, {most:,} at most are shown"
    return ""


def _is_left_out(loaded: type, base: type, *names: str) -> str:
    """The first of these functions that a class takes from a base that does not implement it."""
    missing = [name for name in names if getattr(loaded, name, None) is getattr(base, name)]
    return f"it does not implement {missing[0]}" if missing else ""


def _method_fault(loaded: type[Method]) -> str:
    if not isinstance(loaded.trains, bool):
        return f"trains must be True or False, not {shown(loaded.trains)}"
    grid = loaded.grid
    listed = isinstance(grid, Mapping) and all(
        isinstance(values, Sequence) and not isinstance(values, str) and len(values) for values in grid.values()
    )
    if not listed:
        return f"grid must hold a list of values for each option, not {shown(grid)}"
    if loaded.trains and issubclass(loaded, PairMethod) and loaded.train is PairMethod.train:
        return _is_left_out(loaded, PairMethod, "loss")
    return _is_left_out(loaded, Method, "train") if loaded.trains else ""


def _oracle_fault(loaded: type[Oracle]) -> str:
    return _is_left_out(loaded, Oracle, "prefer" if loaded.pairwise else "score")


def _benchmark_fault(loaded: type[Benchmark]) -> str:
    if loaded.judged_by not in get_args(JudgedBy):
        return f"judged_by must be one of {', '.join(get_args(JudgedBy))}, not {shown(loaded.judged_by)}"
    needs = loaded.needs
    if not isinstance(needs, frozenset | set) or not needs <= {*get_args(Need)}:
        return f"needs must be a set of {', '.join(get_args(Need))}, not {shown(needs)}"
    return _is_left_out(loaded, Benchmark, "answer", "score")


_OF_KIND: dict[str, tuple[Callable[[Any], str], ...]] = {
    "methods": (_method_fault,),
    "oracles": (_oracle_fault,),
    "benchmarks": (_benchmark_fault,),
}


def answer_of(what: str, name: str, ask: Callable[[], Any], is_right: Callable[[Any], bool], expected: str) -> Any:
    """What a plugin answers to a question that costs nothing, if it has the type that was promised.

    Args:
        what: is asked (``method dpo``).
        name: of the function, for the error.
        ask: calls it.
        is_right: whether an answer can be used.
        expected: says in words what can.

    Raises:
        UserError: it fails, or answers something else. Errors of the user's own are passed on.
    """
    try:
        answer = ask()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"The {what} fails in {name}() ({reason_of(error)}): correct it, or leave it out") from error
    if not is_right(answer):
        raise UserError(f"The {what} returns {shown(answer)} from {name}(), and {expected} is expected: correct it")
    return answer


def checked_method(method: Method, described: str) -> Method:
    """A configured method whose options, schedules and spending can be used.

    Raises:
        UserError: one of them cannot.
    """
    numbers = Spending.__dataclass_fields__
    answer_of(
        described,
        "spending",
        method.spending,
        lambda s: isinstance(s, Spending) and all(_is_amount(getattr(s, name)) for name in numbers),
        "a Spending of finite numbers that are not negative",
    )
    answer_of(described, "schedules", method.schedules, lambda n: type(n) is int and n > 0, "a number from 1 on")
    answer_of(described, "shown", method.shown, is_json_object, "a dict that JSON can hold")
    return method


def checked_benchmark(benchmark: Benchmark, described: str) -> Benchmark:
    """A configured benchmark whose name, label and fractions can be used.

    Raises:
        UserError: one of them cannot.
    """
    for name in ("name", "label"):
        value = getattr(benchmark, name, None)
        if not isinstance(value, str) or len(value) > MOST_LETTERS[name] * 5:
            raise UserError(f"The {described} has the {name} {shown(value)}, and a short text is expected: correct it")
    answer_of(
        described,
        "fractions",
        benchmark.fractions,
        lambda shares: isinstance(shares, list | tuple) and all(_is_amount(s) and 0 < s <= 1 for s in shares),
        "a list of shares of the budget above 0, up to 1,",
    )
    return benchmark


def oracle_identity(oracle: Oracle) -> dict[str, Any]:
    """What decides an oracle's answers, which JSON can hold.

    Raises:
        UserError: it cannot be told, or JSON cannot hold it.
    """
    what = f"oracle {oracle.name}"
    identity: dict[str, Any] = answer_of(what, "identity", oracle.identity, is_json_object, "a dict that JSON can hold")
    return identity


def own_protocol(benchmark: Benchmark) -> dict[str, Any]:
    """What can change a benchmark's score by itself, which JSON can hold.

    Raises:
        UserError: its data are not there or broken, or JSON cannot hold it.
    """
    what = f"benchmark {benchmark.name}"
    protocol: dict[str, Any] = answer_of(
        what, "protocol", benchmark.protocol, is_json_object, "a dict that JSON can hold"
    )
    return protocol


def cost_of(benchmark: Benchmark, prompts: int, trained: bool) -> EvalCost:
    """The most that a benchmark can ask of one policy.

    Args:
        benchmark: that is asked.
        prompts: number of the recipe's evaluation prompts.
        trained: whether the policy is a trained one.

    Raises:
        UserError: it is no cost; an ``AbsentError`` where it is not known without data.
    """
    cost: EvalCost = answer_of(
        f"benchmark {benchmark.name}",
        "cost",
        lambda: benchmark.cost(prompts, trained),
        lambda cost: isinstance(cost, EvalCost) and all(map(_is_amount, cost)),
        "an EvalCost of finite numbers that are not negative",
    )
    return cost


def longest_prompt(benchmark: Benchmark) -> int:
    """Tokens of a benchmark's longest prompt, about.

    Raises:
        UserError: it is no number; an ``AbsentError`` where its data are not there.
    """
    count: float = answer_of(
        f"benchmark {benchmark.name}", "longest_prompt", benchmark.longest_prompt, _is_amount, "a number of tokens"
    )
    return int(count)


def prompts_of(benchmark: Benchmark) -> list[str]:
    """What a benchmark asks first.

    Raises:
        UserError: it is no list of texts; an ``AbsentError`` where its data are not there.
    """
    texts: list[str] = answer_of(
        f"benchmark {benchmark.name}",
        "prompt_texts",
        benchmark.prompt_texts,
        lambda texts: isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts),
        "a list of texts",
    )
    return texts


def is_json_object(value: Any) -> bool:
    """Whether JSON, which knows no NaN, can hold a value, which is a dict with texts as keys."""
    try:
        return isinstance(value, dict) and all(isinstance(k, str) for k in value) and bool(_as_json(value))
    except (TypeError, ValueError, RecursionError):
        return False


def _as_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
