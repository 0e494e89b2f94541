"""Everything that can be known to stand in the way of a comparison before any work, reported at once.

Benchmarks, oracles and the engine say by their own ``ready`` what they lack; functions look at model, chat template and
endpoints. No model is loaded. :mod:`harness.run.readiness` looks once more when the start policy is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from harness.answer.endpoint_check import endpoint_problems
from harness.answer.model_files import model_problems, template_problems, tokenizer_of
from harness.answer.rollout_engine import ENGINES, engine_class
from harness.answer.window import answer_too_long, question_too_long
from harness.benchmark import Benchmark
from harness.errors import AbsentError, Problem, Problems, UserError, reason_of
from harness.recipe.endpoint import Endpoint
from harness.recipe.recipe import OracleSpec, Recipe
from harness.run.configure import make_benchmark, make_oracle
from harness.run.plan import RunPlan
from harness.run.plugin_check import prompts_of
from harness.run.spending import local_config

LONGEST_TEXTS = 20
"""Prompts of a benchmark whose tokens are counted: those with the most letters."""


class Preflight(NamedTuple):
    """What a look before any work shows.

    Attributes:
        plans: the runs; empty where they cannot be made.
        problems: that stand in the way.
    """

    plans: list[RunPlan]
    problems: tuple[Problem, ...]


def preflight(recipe: Recipe, benchmarks: Sequence[str], make_plans: Callable[[], list[RunPlan]]) -> Preflight:
    """Look at every part of a comparison that has work to do.

    Args:
        recipe: of the comparison.
        benchmarks: names of those asked for.
        make_plans: makes the runs, or raises what is wrong with the recipe.
    """
    problems = Problems()
    plans: list[RunPlan] = []
    with problems.of("recipe"):
        plans = make_plans()
    if plans and not any(plan.todo for plan in plans):
        return Preflight(plans, ())
    for what, ready in _checks(recipe, benchmarks, plans):
        try:
            with problems.of(what):
                problems.add(ready())
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            sentence = f"The check of {what} failed ({reason_of(error)})"
            problems.add([Problem(what, sentence, "correct it, or add --no-preflight")])
    return Preflight(plans, tuple(problems.all))


def _checks(
    recipe: Recipe, names: Sequence[str], plans: Sequence[RunPlan]
) -> Iterator[tuple[str, Callable[[], list[Problem]]]]:
    """What has a check, and the check; of parts with work to do alone."""
    store = plans[0].comparison.store if plans else None
    facts = plans[0].comparison.facts if plans else None
    if store is None or facts is None or not store.done(facts.start.stage):
        yield "model", partial(model_problems, "model", "'model:'", recipe.model)
        if recipe.chat_template is None:
            yield "template", partial(template_problems, recipe.model)
    if recipe.engine.name in ENGINES:
        yield "engine", engine_class(recipe.engine.name).ready
    todo = {label for plan in plans for label in plan.todo} if plans else {"pairs", *names}
    benchmarks = _made(recipe, [name for name in names if name in todo])
    for key, spec in _oracles_asked(recipe, names, todo, benchmarks).items():
        yield key, partial(_oracle_problems, spec)
    for benchmark in benchmarks:
        yield f"benchmark {benchmark.name}", benchmark.ready
    yield "model", partial(_window_problems, recipe, benchmarks)
    judge = recipe.judge
    if isinstance(judge, Endpoint) and any(benchmark.judged_by == "endpoint" for benchmark in benchmarks):
        yield "judge", partial(endpoint_problems, "judge", judge)
    rows = {plan.name for plan in plans if plan.todo} if plans else set(recipe.methods)
    for name, endpoint in recipe.endpoints.items():
        if name in rows:
            yield f"endpoint {name}", partial(endpoint_problems, f"endpoint {name}", endpoint)


def _oracle_problems(spec: OracleSpec) -> list[Problem]:
    return make_oracle(spec).ready() or []  # an oracle of an earlier version returns None


def _oracles_asked(
    recipe: Recipe, names: Sequence[str], todo: Collection[str], benchmarks: Sequence[Benchmark]
) -> dict[str, OracleSpec]:
    """The oracles, by their key, that will be asked.

    Args:
        recipe: of the comparison.
        names: of the benchmarks asked for.
        todo: labels of what is still to do (:attr:`harness.run.plan.RunPlan.todo`).
        benchmarks: that are still to do.
    """
    versus = {label for label in todo if " against " in label}
    trains = bool({*todo} - {*names, "start"} - versus)
    evaluates = bool(versus) or any("task" in benchmark.needs for benchmark in benchmarks)
    evaluation = recipe.eval_oracle or recipe.oracle
    asked = {"oracle": recipe.oracle} if trains or (evaluates and evaluation == recipe.oracle) else {}
    return asked | ({"eval_oracle": evaluation} if evaluates and evaluation != recipe.oracle else {})


def _made(recipe: Recipe, names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks that can be made; what is wrong with the others is reported where the runs are made."""
    made = []
    for name in names:
        try:
            made.append(make_benchmark(recipe, name))
        except UserError:
            continue
    return made


def _window_problems(recipe: Recipe, benchmarks: Sequence[Benchmark]) -> list[Problem]:
    """Answers, and prompts of benchmarks, that the model surely cannot hold. A chat template adds to them: that is
    counted once the start policy is made."""
    window = _positions(local_config(recipe.model, None))
    if not window:
        return []
    longest = recipe.data.max_new_tokens
    problems = [answer_too_long(longest, window)] if longest >= window else []
    tokenizer = tokenizer_of(recipe.model)
    for benchmark in benchmarks:
        answer = int(getattr(benchmark.options, "max_new_tokens", 0))
        prompt = _longest_prompt(tokenizer, benchmark) if answer and tokenizer else 0
        if answer and prompt + answer > window:
            problems.append(question_too_long(benchmark.name, prompt, answer, window))
    return problems


def _positions(config: dict[str, Any] | None) -> int:
    """Most tokens that a model holds by its ``config.json``; 0 if it names no limit."""
    config = config or {}
    inner = config.get("text_config")
    value = (inner if isinstance(inner, dict) else config).get("max_position_embeddings")
    return value if isinstance(value, int) and value > 0 else 0


def _longest_prompt(tokenizer: Any, benchmark: Benchmark) -> int:
    """Tokens of the longest of a benchmark's prompts, without what the chat template adds."""
    try:
        texts = sorted(prompts_of(benchmark), key=len)[-LONGEST_TEXTS:]
    except AbsentError:  # reported where the runs are made
        return 0
    return max((len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts), default=0)
