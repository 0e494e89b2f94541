"""Recipes: a YAML file that says what is compared, from which start, under which budget, and how it is scored."""

from __future__ import annotations

from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from harness.budget.spec import BudgetSpec, Strict, named_budgets
from harness.recipe.endpoint import Endpoint, PolicyEndpoint, Thinking
from harness.recipe.trackers import tracker_names
from harness.recipe.train import Precision, TrainSpec
from harness.store.json_files import digest

TASKS = ("constraints", "preferences")

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[str, Field(pattern=NAME, max_length=100)]
"""Of a recipe, a budget or a row: it names a folder."""

MOST_SEEDS = 1000

MOST_ROWS, MOST_TOKENS, MOST_MINUTES = 10**6, 10**8, 525_600
"""Of a batch, of a text and of a run (a year): more than any machine holds, and few enough to compute with."""

Price = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]

Summary = Annotated[str, Field(max_length=2000)]
"""A sentence for pages."""

CHAT_DATE = date(2025, 1, 1)
"""What chat templates write for today's date, unless a recipe says otherwise."""


def _iso_date(value: Any) -> date:
    """A date, as YAML reads it, or its text."""
    try:
        day = value if type(value) is date else date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no date: write one as {CHAT_DATE}") from None
    if day.year < 1000:
        raise ValueError(f"the year of {day} has fewer than four digits: write a date as {CHAT_DATE}")
    return day


class DataSpec(Strict):
    """Pairs sampled from the start policy for the project's own task: which prompts are used, and how many answers.

    An oracle labels the answers; the best and the worst to a prompt make a pair.

    Attributes:
        task: ``constraints``, the project's own task: short questions with checkable rules for the answer's form.
        train_prompts: prompts whose pairs are trained on.
        tune_prompts: other prompts, on which the search scores its trials.
        eval_prompts: other prompts, for the benchmarks ``preference`` and ``curve``.
        heldout_prompts: other prompts, whose pairs nothing trains on.
        samples: answers that the start policy gives to each prompt; the best and the worst make the pair.
        max_new_tokens: longest sampled answer, also of online methods and of the search.
        seed: another one samples other answers.
    """

    imported: ClassVar[Literal[False]] = False
    """Whether the pairs come from files (:class:`PairsSpec`)."""
    default_oracle: ClassVar[str] = "constraints"
    """The oracle of a recipe that names none."""

    task: Literal["constraints"] = "constraints"
    train_prompts: int = Field(gt=0)
    tune_prompts: int = Field(gt=0)
    eval_prompts: int = Field(gt=0)
    heldout_prompts: int = Field(gt=0)
    samples: int = Field(default=4, ge=2, le=1000)
    max_new_tokens: int = Field(default=48, gt=0, le=MOST_TOKENS)
    seed: int = 0
    free: bool = Field(default=False, description="count the stored pairs towards no budget; the page then says so")

    @property
    def answers_to_sample(self) -> int:
        """Answers to sample and label before training, for the training and the held-out pairs."""
        return (self.train_prompts + self.heldout_prompts) * self.samples

    def key(self) -> dict[str, Any]:
        """What of it can change the pairs."""
        return self.model_dump(mode="json", exclude={"eval_prompts", "tune_prompts", "free"})


class PairsSpec(Strict):
    """Imported preference pairs (docs/data.md), instead of pairs sampled for the project's own task.

    Attributes:
        task: ``preferences``: the pairs come from files.
        train: a JSONL, JSON, Parquet or CSV file, a folder (``FOLDER:split`` if it holds several splits), or
            ``org/name@COMMIT:split`` of the Hub.
        test: the same, for evaluation and held-out pairs.
        format: layout of the rows; ``auto`` recognises it.
        label: which choice of PKU-SafeRLHF counts.
        too_long: whether a pair longer than ``train.max_length`` is dropped or, as TRL does, cut.
        max_prompt_length: bound on prompts of all parts, in tokens; 0 is what the model holds.
        train_prompts: rows to train on; 0 takes all that are left.
        tune_prompts: prompts for the search, from ``train``.
        eval_prompts: prompts for evaluation, from ``test``.
        heldout_prompts: rows of held-out pairs; 0 takes all that are left.
        max_new_tokens: longest answer that online methods and the search sample.
        seed: part of the keys; nothing is drawn at random here.
    """

    imported: ClassVar[Literal[True]] = True
    """Whether the pairs come from files."""
    default_oracle: ClassVar[str] = "none"
    """The oracle of a recipe that names none: imported pairs are labelled already."""

    task: Literal["preferences"]
    train: str
    test: str
    format: Literal["auto", "trl", "ultrafeedback", "pku-saferlhf", "hh-rlhf", "sharegpt", "openai"] = "auto"
    label: Literal["better", "safer"] = "better"
    too_long: Literal["drop", "cut"] = "drop"
    max_prompt_length: int = Field(default=0, ge=0, le=MOST_TOKENS)
    train_prompts: int = Field(default=0, ge=0)
    tune_prompts: int = Field(gt=0)
    eval_prompts: int = Field(gt=0)
    heldout_prompts: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=128, gt=0, le=MOST_TOKENS)
    seed: int = 0
    free: bool = Field(default=False, description="count the stored pairs towards no budget; the page then says so")
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """Folder of the recipe's file, if it came from one: ``train`` and ``test`` may lie there. Part of no key."""
        return self._folder

    @property
    def answers_to_sample(self) -> int:
        """Answers to sample before training: none."""
        return 0

    def key(self) -> dict[str, Any]:
        """What of it can change the pairs, beside the contents of the files."""
        return self.model_dump(mode="json", exclude={"train", "test", "free"})


class TuneSpec(Strict):
    """The recorded search: the same number of trials for each method, which keeps the best by gold reward.

    Attributes:
        learning_rates: the search has one trial for each of them, unless ``trials`` is set.
        trials: points of the product of the learning rates and the method's own grid, spread evenly.
        grids: by method, a grid in place of the one that it comes with.
        max_perplexity_ratio: a trial whose answers have more than this many times the perplexity (under the start
            policy) of the start policy's own answers is not eligible, unless no trial is.
    """

    learning_rates: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)
    trials: int | None = Field(default=None, gt=0)
    grids: dict[str, dict[str, list[Any]]] = {}
    max_perplexity_ratio: float = Field(default=2.0, gt=1)

    def key(self) -> dict[str, Any]:
        """What two runs must share to stand in one table; ``trials`` and ``grids`` are left out if not used."""
        unused = {name for name in ("trials", "grids") if getattr(self, name) in (None, {})}
        return self.model_dump(mode="json", exclude=unused)


class OracleSpec(Strict):
    """An oracle with its options; a bare name stands for one without.

    Attributes:
        name: of the oracle; ``sail-bench oracles`` lists them.
        options: its settings.
    """

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class PriceSpec(Strict):
    """What things cost, for the money column.

    Attributes:
        currency: its name, as tables print it; US dollars unless it is set.
        device_hour: price of an hour of the machine that trains and evaluates.
        oracle_call: price of one label.
        judge_call: price of one verdict.
    """

    currency: str = Field(default="USD", max_length=20)
    device_hour: Price = 0
    oracle_call: Price = 0
    judge_call: Price = 0


class VariantSpec(Strict):
    """A row of its own for a method under other options: ``c-0: {method: sail-pr, options: {coefficient: 0}}``.

    Attributes:
        method: the method that it is a variant of.
        options: options of that method.
        summary: one line for tables.
    """

    method: str
    options: dict[str, Any] = {}
    summary: Summary = ""


JudgeSpec = Annotated[
    Annotated[Literal["local"], Tag("name")] | Annotated[Endpoint, Tag("endpoint")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "endpoint"),
]


class EngineSpec(Strict):
    """What samples: pairs, the search, training and evaluation. A bare name stands for one without options.

    Attributes:
        name: ``transformers``, or ``vllm`` where it is installed.
        options: keywords of ``vllm.LLM``, such as ``gpu_memory_utilization`` or ``max_model_len``.
    """

    name: Literal["transformers", "vllm"] = "transformers"
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


AnyData = Annotated[
    Annotated[DataSpec, Tag("constraints")] | Annotated[PairsSpec, Tag("preferences")],
    Discriminator(
        lambda value: value.get("task", "constraints") if isinstance(value, dict) else getattr(value, "task", None),
        custom_error_type="task",
        custom_error_message="a mapping with task: constraints or task: preferences is expected",
    ),
]


class Recipe(Strict):
    """One comparison. Unknown keys are errors.

    Attributes:
        name: name of the comparison and of its results folder.
        description: a sentence for the page.
        model: the start policy: a built-in model, a directory, or ``org/name@revision`` of the Hub; of an adapter of
            PEFT as well, which is merged into its base.
        precision: ``float32``; ``bf16-mixed``: float32 weights, computed with in bfloat16; ``bf16``: a frozen bfloat16
            base with float32 adapters, computed with in bfloat16. It holds for training, sampling and evaluation.
        tf32: whether a GPU may multiply float32 matrices with TF32's 10 bits of mantissa.
        chat_template: for a model that comes without one: a Jinja file, or ``fastchat:NAME``.
        chat_date: the date (2025-01-01) that chat templates write where they ask for today's, in every prompt of the
            comparison.
        data: the preference pairs, and the prompts of tuning and evaluation.
        oracle: labels the training pairs.
        eval_oracle: gives the reward in evaluation; the training oracle if absent.
        budgets: budgets of the recipe's own, by name.
        budget: name of the budget to use: one of ``budgets``, or a named one of the package.
        train: settings that every method shares.
        tune: the recorded search.
        methods: rows of the table.
        method_options: options of methods, by method.
        variants: further rows: a method under other options.
        endpoints: further rows: models behind endpoints, which are not trained.
        reference: the row that the others are compared with.
        seeds: training runs of each method.
        benchmarks: the benchmarks to run, each with its options.
        judge: grades the official sets: a model behind an OpenAI-compatible endpoint. The mini sets have the local one.
        engine: samples the answers, in training too.
        thinking: ``strip``: benchmarks judge and measure what follows the thoughts in an answer, and ask their second
            turn with it; thoughts that never end are an empty, truncated answer. ``keep``: the whole answer. Labels of
            training, the search, ``preference`` and ``curve`` always see the whole, as they measure what training
            aims at. A row of ``endpoints`` may have a ``thinking`` of its own.
        report_to: experiment trackers that get training curves, scores and the final table: ``trackio``, ``wandb``,
            ``tensorboard``. It changes no result and is part of no key, and of no dump.
        time_limit: minutes after which a run's process is ended; the run fails, the others go on.
        prices: what things cost, for a column of money.
        generation_batch_size: most answers sampled at once.
        scoring_batch_size: rows of a forward pass that only scores.
    """

    name: Name
    description: Summary = ""
    model: str
    chat_template: str | None = None
    chat_date: Annotated[date, BeforeValidator(_iso_date)] = CHAT_DATE
    precision: Precision = "float32"
    tf32: bool = False
    data: AnyData
    oracle: OracleSpec = OracleSpec(name=DataSpec.default_oracle)
    eval_oracle: OracleSpec | None = None
    budgets: dict[Name, BudgetSpec] = {}
    budget: str
    train: TrainSpec = TrainSpec()
    tune: TuneSpec
    methods: list[str] = Field(min_length=1, max_length=1000)
    method_options: dict[str, dict[str, Any]] = {}
    variants: dict[Name, VariantSpec] = {}
    endpoints: dict[Name, PolicyEndpoint] = {}
    reference: str = "dpo"
    seeds: int = Field(default=1, gt=0, le=MOST_SEEDS)
    benchmarks: dict[str, dict[str, Any]] = Field(min_length=1)
    judge: JudgeSpec = "local"
    engine: EngineSpec = EngineSpec()
    thinking: Thinking = "strip"
    report_to: Annotated[list[str], BeforeValidator(tracker_names)] = Field(default=[], exclude=True)
    time_limit: float | None = Field(default=None, gt=0, le=MOST_MINUTES)
    prices: PriceSpec | None = None
    generation_batch_size: int = Field(default=64, gt=0, le=MOST_ROWS)
    scoring_batch_size: int = Field(default=16, gt=0, le=MOST_ROWS)

    @model_validator(mode="before")
    @classmethod
    def _default_oracle(cls, value: Any) -> Any:
        """Imported pairs need no oracle."""
        data = value.get("data") if isinstance(value, dict) else None
        imported = isinstance(data, dict) and data.get("task") == "preferences"
        return {"oracle": PairsSpec.default_oracle} | value if imported else value

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, value: Any) -> Any:
        """``dtype`` is the name that ``precision`` had."""
        if not isinstance(value, dict) or "dtype" not in value:
            return value
        names = {"float32": "float32", "bfloat16": "bf16"}
        if "precision" in value or value["dtype"] not in names:
            raise ValueError("dtype is called precision now: leave dtype out, and set float32, bf16-mixed or bf16")
        return {k: v for k, v in value.items() if k != "dtype"} | {"precision": names[value["dtype"]]}

    @model_validator(mode="after")
    def _adapter_on_bf16(self) -> Recipe:
        if self.precision == "bf16" and self.train.lora is None:
            raise ValueError(
                "precision: bf16 with train.lora: null would lose nearly every update to rounding: set precision: "
                "bf16-mixed, or train an adapter with train.lora"
            )
        return self

    @field_validator("budget")
    @classmethod
    def _budget_exists(cls, value: str, info: ValidationInfo) -> str:
        offered = list(dict.fromkeys([*info.data.get("budgets", {value: None}), *named_budgets()]))
        if value not in offered:
            near = get_close_matches(value, offered, n=1)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"budget {value!r} is not one of budgets: {', '.join(offered)}{hint}")
        return value

    @field_validator("method_options")
    @classmethod
    def _options_of_methods(cls, value: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        methods = info.data.get("methods", value)
        others = [name for name in value if name not in methods]
        if others:
            raise ValueError(f"{', '.join(others)} is not one of methods: {', '.join(methods)}")
        return value

    @property
    def arithmetic(self) -> str:
        """Precision as keys hold it, with what else changes rounding: TF32, and an attention that is named."""
        return ", ".join([self.precision, *(["tf32"] if self.tf32 else []), *filter(None, [self.train.attention])])

    @property
    def hash(self) -> str:
        """Hash of everything in the recipe but its name, its description and ``report_to``; ``chat_template``,
        ``chat_date`` and ``thinking`` are left out where they have their default."""
        defaults = {"chat_template": None, "chat_date": CHAT_DATE, "thinking": "strip"}
        unused = {name for name, default in defaults.items() if getattr(self, name) == default}
        return digest(self.model_dump(mode="json", exclude={"name", "description"} | unused))
