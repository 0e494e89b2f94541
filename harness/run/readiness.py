"""What can be known of a run before any work, once the start policy is made: that its adapter fits, that the model
holds what it will be asked, and that the oracles can rate the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.answer.chat import Prompt
from harness.benchmark import EvalContext
from harness.budget.forecast import Corrections
from harness.errors import Problems, UserError
from harness.methods.base import Method
from harness.oracles.none import NONE
from harness.pairs.prompts import splits
from harness.recipe.recipe import Recipe
from harness.run.plan import RunPlan
from harness.run.resources import Resources
from harness.run.spending import expect
from harness.store.json_files import Row

if TYPE_CHECKING:
    from harness.train.checks import Lengths


def check_before_work(resources: Resources, plan: RunPlan) -> None:
    """Refuse what would fail later, all problems at once. All rows of the comparison count, whichever run comes first.

    Args:
        resources: models and oracles of the run.
        plan: of the run.

    Raises:
        UserError: names each fault with its fix.
    """
    comparison, recipe, problems = plan.comparison, resources.recipe, Problems()
    with problems.of("engine"):
        _ = resources.engine  # whether it is there, and takes the recipe's precision
    methods = list(comparison.methods.values())
    if any(method.trains for method in methods):
        _check_training(resources, plan, problems)
    if not comparison.store.done(comparison.facts.pairs.stage):
        _check_windows(resources, plan, problems)
    training, evaluation = resources.oracles
    rated = any("task" in b.needs and b.name in comparison.wanted for b in plan.benchmarks)
    for oracle in dict.fromkeys((training, evaluation)):
        with problems.of(f"oracle {oracle.name}"):
            oracle.load()
            parts = _parts_rated_in_training(recipe, methods) if oracle is training and oracle.name != NONE else []
            parts += ["eval"] if oracle is evaluation and rated else []
            prompts: list[Prompt] = [prompt for part in parts for prompt in splits(recipe.data, comparison.store)[part]]
            oracle.check_prompts(prompts)
    problems.check()


def _check_training(resources: Resources, plan: RunPlan, problems: Problems) -> None:
    """Add what the settings of training lack."""
    from harness.train.checks import check_lora, check_settings

    recipe = resources.recipe
    with problems.of("train"):
        _check_schedule(plan)
        rates, lengths = recipe.tune.learning_rates, _lengths(plan)
        check_settings(recipe.train, recipe.precision, resources.start_dir, rates=rates, lengths=lengths)
    if recipe.train.lora:
        with problems.of("train.lora"):
            check_lora(recipe.train.lora, resources.start_dir)


def _check_schedule(plan: RunPlan) -> None:
    """The budget tells how many steps there will be, where the learning rate's schedule depends on it."""
    from harness.train.schedule import needs_length, unscheduled

    comparison = plan.comparison
    budget, train = comparison.budget, comparison.recipe.train
    if not needs_length(train) or budget.steps(train.pairs_per_step) is not None:
        return
    for method in comparison.methods.values():
        if method.trains and not expect(comparison, method, Corrections()).covers(budget):
            raise unscheduled(train, budget)


def _lengths(plan: RunPlan) -> Lengths:
    """Steps of each schedule of the comparison's trainings."""
    from harness.train.checks import Lengths

    comparison = plan.comparison
    budget, train = comparison.budget, comparison.recipe.train
    steps, fixed, predicted = budget.steps(train.pairs_per_step), list[int](), list[int]()
    for method in comparison.methods.values():
        if not method.trains:
            continue
        if steps is not None:
            fixed.append(max(1, steps // method.schedules()))
        elif (expected := expect(comparison, method, Corrections())).covers(budget):
            predicted.append(max(1, expected.steps(budget) // method.schedules()))
    return Lengths(fixed, predicted)


def _parts_rated_in_training(recipe: Recipe, methods: Sequence[Method]) -> list[str]:
    """Parts of the prompts to which the training oracle will rate answers."""
    parts = ["tune"] if any(m.trains for m in methods) else []
    if not recipe.data.imported:
        return [*parts, "train", "heldout"]
    return [*parts, "train"] if any(m.spending().labelled for m in methods) else parts


def _check_windows(resources: Resources, plan: RunPlan, problems: Problems) -> None:
    """Add the longest answers of training, and the first answers to prompts of benchmarks that are known now, where the
    model does not hold them."""
    from harness.answer.window import answer_too_long, question_too_long, window_of
    from harness.judge.local import LocalJudge

    window, longest = window_of(resources.start.model.config), resources.recipe.data.max_new_tokens
    if longest >= window:
        problems.add([answer_too_long(longest, window)])
    context = EvalContext(
        policy=resources.start,  # only its tokenizer counts
        start=resources.start,
        judge=LocalJudge(resources.start),
        oracle=resources.evaluating(resources.oracles.evaluation),
        prompts=[],  # those of the recipe are chosen by length
        heldout_pairs=[],
        scoring_batch_size=resources.recipe.scoring_batch_size,
    )
    for benchmark in plan.benchmarks:
        asked = benchmark.requests(context) if benchmark.name in plan.comparison.wanted else []
        largest = max(asked, key=lambda request: len(request.prompt) + request.max_new_tokens, default=None)
        if largest is not None and len(largest.prompt) + largest.max_new_tokens > window:
            prompt, answer = len(largest.prompt), largest.max_new_tokens
            problems.add([question_too_long(benchmark.name, prompt, answer, window)])


def check_rollouts(resources: Resources, name: str, method: Method, rows: Sequence[Row]) -> None:
    """Refuse training of a method that samples answers which the model could not hold.

    Args:
        resources: of the run.
        name: of the row.
        method: configured.
        rows: the training pairs, with ``prompt_ids``.

    Raises:
        UserError: names the longest prompt and the key that bounds it.
    """
    from harness.answer.adapter import load_config_of
    from harness.answer.window import window_of

    if not method.spending().sampled:
        return
    window, answer = window_of(load_config_of(str(resources.start_dir))), resources.recipe.data.max_new_tokens
    prompt = max((len(row["prompt_ids"]) for row in rows), default=0)
    if prompt + answer > window:
        raise UserError(
            f"The method {name} samples answers of up to {answer:,} tokens to prompts of up to {prompt:,}, but the "
            f"model holds {window:,}: set data.max_prompt_length to {window - answer:,} or lower data.max_new_tokens"
        )
