"""What a comparison asks of a machine: from its plans, or from the recipe alone where its data are not here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.benchmark import Benchmark
from harness.budget.budget import Budget
from harness.budget.device_time import Sampler, prior_rates
from harness.budget.forecast import (
    LETTERS_PER_TOKEN,
    TEMPLATE_TOKENS,
    TYPICAL_PROMPT,
    TYPICAL_RESPONSE,
    Corrections,
    Lengths,
    first_lines,
)
from harness.budget.machines import Machine
from harness.budget.memory import Memory
from harness.budget.spec import named_budgets
from harness.errors import AbsentError, Problem, unknown
from harness.methods.base import Method
from harness.pairs.prompts import letters_of
from harness.recipe.recipe import Recipe
from harness.recipe.search import points
from harness.run.configure import make_benchmark, make_method, own_options
from harness.run.fitting import (
    GIB,
    GPU_SHARE,
    MemorySettings,
    Texts,
    fitting_settings,
    model_size,
    peak_memory,
    usable_memory,
    vllm_shortage,
)
from harness.run.plan import RunPlan, configured
from harness.run.plugin_check import longest_prompt
from harness.run.spending import (
    Prior,
    StoredPairs,
    guessed_price,
    open_benchmarks,
    open_points,
    stored_pairs,
    with_sharing,
)

TYPICAL_EVALUATION = 512
"""Tokens of an answer to a benchmark that has no such option."""

TYPICAL_PAIRS = 60000
"""Pairs of UltraFeedback binarized, about."""

LETTERS_AT_LEAST = 3
"""Of a token, for the longest text."""


@dataclass(frozen=True)
class Row:
    """What is open of one run.

    Attributes:
        name: of the run.
        method: its method.
        trainings: that are open, each as it is configured.
        trials: of the search that are to be scored.
        benchmarks: that are open.
    """

    name: str
    method: Method
    trainings: tuple[Method, ...]
    trials: int
    benchmarks: tuple[Benchmark, ...]


@dataclass(frozen=True)
class Outline:
    """What a comparison asks of a machine.

    Attributes:
        rows: its runs.
        pairs: the stored pairs; pairs_open: whether they are still to be made.
        texts: the longest that go through the model.
        corrections: by method, what earlier runs on this machine say.
        assumed: sentences about what stands for data that are not here.
        unknown: names of benchmarks whose data, and so costs, are not here.
    """

    recipe: Recipe
    budget: Budget
    config: dict[str, Any] | None
    rows: tuple[Row, ...]
    pairs: StoredPairs
    pairs_open: bool
    texts: Texts
    corrections: Callable[[str], Corrections]
    assumed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def prior(self, machine: Machine) -> Prior | None:
        """Operations a second that a method's training is assumed to reach on a machine; None if nothing is known.

        Args:
            machine: that it runs on.
        """
        recipe = self.recipe
        size = None if self.config is None else model_size(self.config, recipe.train.lora)
        if size is None or not machine.has_speed:
            return None
        model, settings = size, MemorySettings.of(recipe, machine.device)

        def rates(method: Method) -> dict[str, float]:
            """By phase."""
            return prior_rates(
                machine.device,
                model,
                method.spending(),
                self.pairs.lengths,
                recipe.train.pairs_per_step,
                training_sampler(recipe),
                settings.number,
                checkpointing=settings.gradient_checkpointing,
                micro_batches=recipe.train.gradient_accumulation,
            )

        return rates


def training_sampler(recipe: Recipe) -> Sampler:
    """How stored pairs, the search and online methods sample."""
    return Sampler(recipe.engine.name, recipe.generation_batch_size, recipe.data.max_new_tokens)


def outline_of_plans(
    plans: Sequence[RunPlan], config: dict[str, Any] | None, corrections: Callable[[str], Corrections]
) -> Outline:
    """What is open of planned runs.

    Args:
        plans: of one comparison.
        config: the model's ``config.json``.
        corrections: by method, what earlier runs on the machine say.
    """
    comparison = plans[0].comparison
    recipe = comparison.recipe
    size = None if config is None else model_size(config, recipe.train.lora)
    pairs = stored_pairs(comparison, size.shape if size else None)
    rows = tuple(
        Row(
            plan.name,
            plan.method,
            tuple(configured(plan, point) for point in open_points(plan)),
            len(open_points(plan)) if plan.seed == 0 else 0,
            tuple(open_benchmarks(plan)),
        )
        for plan in plans
        if plan.todo
    )
    stage, store = comparison.facts.pairs.stage, comparison.store
    if store.done(stage):
        stored = first_lines(store.path(stage) / "train.jsonl")
        prompt = max(len(p["prompt_ids"]) for p in stored)
        pair = max(len(p["prompt_ids"]) + len(p[side]) for p in stored for side in ("chosen_ids", "rejected_ids"))
        assumed: tuple[str, ...] = ()
    else:
        prompt, pair = _longest(recipe)
        assumed = (f"a token has {LETTERS_PER_TOKEN} letters",)
    question = max((longest_prompt(b) for b in comparison.benchmarks), default=0)
    texts = Texts(
        prompt, pair, recipe.data.max_new_tokens, max(prompt, question), _longest_answer(comparison.benchmarks)
    )
    return Outline(recipe, comparison.budget, config, rows, pairs, not store.done(stage), texts, corrections, assumed)


def _longest(recipe: Recipe) -> tuple[int, int]:
    """Tokens of the longest prompt and of the longest pair, by letters."""
    data, letters = recipe.data, letters_of(recipe.data)

    def tokens(letters: int) -> int:
        return letters // LETTERS_AT_LEAST + TEMPLATE_TOKENS

    prompt = tokens(letters.longest_prompt)
    return prompt, tokens(letters.longest_pair) if data.imported else prompt + data.max_new_tokens


def _longest_answer(benchmarks: Sequence[Benchmark]) -> int:
    return max((getattr(b.options, "max_new_tokens", 0) for b in benchmarks), default=0) or TYPICAL_EVALUATION


def outline_of_recipe(
    recipe: Recipe,
    budget: str,
    methods: Sequence[str],
    seeds: int,
    benchmarks: Sequence[str],
    config: dict[str, Any] | None,
) -> Outline:
    """What a comparison asks for whose data are not here: everything is open, and typical lengths stand for texts.

    Args:
        recipe: of the comparison.
        budget: its name.
        methods: rows.
        seeds: how many.
        benchmarks: names.
        config: the model's ``config.json``.

    Raises:
        UserError: an unknown budget, method or benchmark.
    """
    offered = named_budgets() | recipe.budgets
    if budget not in offered:
        raise unknown("budget", budget, offered)
    data = recipe.data
    usable, absent = _benchmarks(recipe, benchmarks)
    questions = [0]
    for benchmark in usable:
        with suppress(AbsentError):
            questions.append(longest_prompt(benchmark))
    prompt, response = TYPICAL_PROMPT, min(TYPICAL_RESPONSE, recipe.train.max_length)
    typical = Lengths(prompt, response, min(recipe.train.max_length, 1.5 * (prompt + response))).typical_packed()
    lengths = with_sharing(typical, recipe.train, config)
    size = None if config is None else model_size(config, recipe.train.lora)
    number = data.train_prompts or TYPICAL_PAIRS
    pairs = StoredPairs(lengths, number, guessed_price(data, size.shape if size else None, lengths))
    rows = tuple(_row(recipe, name, seed, usable) for seed in range(seeds) for name in methods)
    longest = recipe.train.max_length
    texts = Texts(longest // 2, longest, data.max_new_tokens, max(longest // 2, *questions), _longest_answer(usable))
    return Outline(
        recipe,
        Budget.of(budget, offered[budget], free_data=data.free),
        config,
        tuple(row for row in rows if row is not None),
        pairs,
        True,
        texts,
        lambda name: Corrections(),
        ("these are typical of UltraFeedback",),
        absent,
    )


def _row(recipe: Recipe, name: str, seed: int, benchmarks: Sequence[Benchmark]) -> Row | None:
    """A run with everything open; None for a control's later seeds."""
    method = make_method(recipe, name)
    if not method.trains:
        return Row(name, method, (), 0, tuple(benchmarks)) if seed == 0 else None
    searched = points(recipe.tune, name, method.grid, own_options(recipe, name))
    trainings = [make_method(recipe, name, point.options) for point in searched]
    open_now = tuple(trainings if seed == 0 else trainings[:1])
    return Row(name, method, open_now, len(searched) if seed == 0 else 0, tuple(benchmarks))


def _benchmarks(recipe: Recipe, names: Sequence[str]) -> tuple[list[Benchmark], tuple[str, ...]]:
    """Those that can be made, and the names of the others, whose data are needed even for that."""
    usable, absent = [], []
    for name in names:
        try:
            usable.append(make_benchmark(recipe, name))
        except AbsentError:
            absent.append(name)
    return usable, tuple(absent)


class MemoryNeed(NamedTuple):
    """Memory that runs need, and have.

    Attributes:
        peaks: the highest first; empty if the model's size is not known.
        usable: bytes that the tensors of one run can have.
        shortage: a sentence on what does not fit and what would, if something does not.
    """

    peaks: Sequence[Memory]
    usable: float
    shortage: str | None


def memory_need(outline: Outline, machine: Machine, workers: int) -> MemoryNeed:
    """The memory of an outline's runs on a machine.

    Args:
        outline: of the comparison.
        machine: that holds them.
        workers: runs side by side, spread evenly over its devices.
    """
    device, methods = machine.device, [row.method for row in outline.rows]
    together = workers * outline.recipe.train.processes
    usable = usable_memory(device, -(-together // machine.count) if device.gpu else together)
    if outline.config is None or not methods:
        return MemoryNeed([], usable, None)
    settings = replace(MemorySettings.of(outline.recipe, device), workers=together)
    peaks = peak_memory(outline.config, settings, methods, outline.texts, device)
    size = model_size(outline.config, settings.lora)
    if not peaks or size is None:
        return MemoryNeed(peaks, usable, None)
    lacking = vllm_shortage(size, settings, outline.texts, device)
    if peaks[0].total <= usable and lacking <= 0:
        return MemoryNeed(peaks, usable, None)
    fit = fitting_settings(outline.config, settings, methods, outline.texts, device, usable)
    advice = f"set {fit}" if fit else "no settings would, so take a larger device or a smaller model"
    shortage = f"The {peaks[0].moment} needs {peaks[0].total / GIB:.1f} GiB, and a run has {usable / GIB:.1f} GiB on "
    if lacking > 0:
        share = settings.vllm_share * device.memory
        shortage = (
            f"vLLM needs {(share + lacking) / GIB:.1f} GiB for its copy of the weights and one text, and "
            f"engine.options.gpu_memory_utilization ({settings.vllm_share:g}) gives it {share / GIB:.1f} GiB on "
        )
    return MemoryNeed(peaks, usable, f"{shortage}{machine.name}: {advice}")


def fits_memory(outline: Outline, machine: Machine, workers: int) -> bool:
    """Whether so many runs side by side surely fit: those of an unknown model do not.

    Args:
        outline: of the comparison.
        machine: that holds them.
        workers: runs side by side.
    """
    need = memory_need(outline, machine, workers)
    return bool(need.peaks) and need.shortage is None


def crowded_engines(recipe: Recipe, machine: Machine, workers: int) -> Problem | None:
    """What is wrong with so many runs if each starts vLLM, and the shares of those on one GPU do not fit into it.

    Args:
        recipe: names the engine, and its share of a GPU.
        machine: that holds them.
        workers: runs side by side, spread evenly over its devices.

    Raises:
        UserError: the recipe gives no share.
    """
    share, together = MemorySettings.of(recipe, machine.device).vllm_share, -(-workers // machine.count)
    if together == 1 or together * share <= GPU_SHARE:
        return None
    most = machine.count * max(1, int(GPU_SHARE / share))
    smaller = int(100 * GPU_SHARE / together) / 100
    return Problem(
        "workers",
        f"--workers {workers} puts {together} runs on one GPU, and each takes {share:.0%} of its memory for vLLM",
        f"give --workers {most}, or set engine.options.gpu_memory_utilization to {smaller:g} or less",
    )
