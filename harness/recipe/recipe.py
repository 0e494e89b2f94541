"""Recipes: a YAML file that says what is compared, from which start, under which budget, and how it is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)

from harness.budget.spec import BudgetSpec, Strict
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import digest

TASKS = ("constraints", "preferences")

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class DataSpec(Strict):
    """Which of the task's prompts are used, and how the preference pairs are sampled from the start policy."""

    task: Literal["constraints"] = "constraints"
    train_prompts: int = Field(gt=0)
    tune_prompts: int = Field(gt=0)
    eval_prompts: int = Field(gt=0)
    heldout_prompts: int = Field(gt=0)
    samples: int = Field(default=4, ge=2)
    max_new_tokens: int = Field(default=48, gt=0)
    seed: int = 0
    free: bool = Field(default=False, description="count the stored pairs towards no budget; the page then says so")


class PairsSpec(Strict):
    """Preference pairs that somebody brings (docs/data.md), instead of pairs sampled for the project's own task.

    ``train``, ``test``: a JSONL, JSON or Parquet file, or ``org/name@COMMIT:split`` of the Hub. ``label``: which choice
    of PKU-SafeRLHF counts. ``max_prompt_length`` (tokens, 0: what the model holds) bounds prompts of all parts; a pair
    longer than ``train.max_length`` is dropped or, as TRL does, cut. ``train_prompts`` and ``heldout_prompts`` count
    rows; 0 takes all that are left. ``max_new_tokens``: of what online methods and the search sample.
    """

    task: Literal["preferences"]
    train: str
    test: str
    format: Literal["auto", "trl", "ultrafeedback", "pku-saferlhf", "hh-rlhf"] = "auto"
    label: Literal["better", "safer"] = "better"
    too_long: Literal["drop", "cut"] = "drop"
    max_prompt_length: int = Field(default=0, ge=0)
    train_prompts: int = Field(default=0, ge=0)
    tune_prompts: int = Field(gt=0)
    eval_prompts: int = Field(gt=0)
    heldout_prompts: int = Field(default=0, ge=0)
    max_new_tokens: int = Field(default=128, gt=0)
    seed: int = 0
    free: bool = Field(default=False, description="count the stored pairs towards no budget; the page then says so")
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """Where the recipe's file lies, if it came from one; part of no key."""
        return self._folder


class LoraSpec(Strict):
    """Low-rank adapter on the linear layers of the top ``layers`` blocks (all blocks if 0)."""

    r: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0)
    layers: int = Field(default=0, ge=0)


class TrainSpec(Strict):
    """Settings that every method shares. ``lora: null`` trains all weights."""

    batch_size: int = Field(default=8, gt=0)
    gradient_accumulation: int = Field(default=1, gt=0)
    beta: float = Field(default=0.1, gt=0)
    max_length: int = Field(default=512, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    lora: LoraSpec | None = LoraSpec()
    checkpoints: int = Field(default=4, gt=0, description="checkpoints written over one run")


class TuneSpec(Strict):
    """The recorded search: the same number of trials for each method, which keeps the best by gold reward.

    Without ``trials`` that is one a learning rate. With it, each method gets that many points of the product of the
    learning rates and its own grid (``grids`` in place of the one that the method comes with), spread evenly.

    A trial whose answers have more than ``max_perplexity_ratio`` times the perplexity (under the start policy) of the
    start policy's own answers is not eligible, unless no trial is.
    """

    learning_rates: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(min_length=1)
    trials: int | None = Field(default=None, gt=0)
    grids: dict[str, dict[str, list[Any]]] = {}
    max_perplexity_ratio: float = Field(default=2.0, gt=1)

    def key(self) -> dict[str, Any]:
        """What two runs must share to stand in one table: as earlier versions wrote it where nothing new is used."""
        new = {name for name in ("trials", "grids") if getattr(self, name) in (None, {})}
        return self.model_dump(mode="json", exclude=new)


class OracleSpec(Strict):
    """An oracle with its options; a bare name stands for one without."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class PriceSpec(Strict):
    """What things cost, for the money column. ``device_hour``: of the machine that trains and evaluates."""

    currency: str = "USD"
    device_hour: float = Field(default=0, ge=0)
    oracle_call: float = Field(default=0, ge=0)
    judge_call: float = Field(default=0, ge=0)


class VariantSpec(Strict):
    """A row of its own for a method under other options: ``c-0: {method: sail-pr, options: {coefficient: 0}}``."""

    method: str
    options: dict[str, Any] = {}
    summary: str = ""


JudgeSpec = Annotated[
    Annotated[Literal["local"], Tag("name")] | Annotated[Endpoint, Tag("endpoint")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "endpoint"),
]


class EngineSpec(Strict):
    """What samples the answers of evaluation; a bare name stands for one without ``options`` (keywords of
    ``vllm.LLM``, such as ``gpu_memory_utilization`` or ``max_model_len``). Training samples with transformers."""

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
    """One comparison. Unknown keys are errors. ``reference`` names the row that the others are compared with.

    ``judge`` grades the official sets: a model behind an OpenAI-compatible endpoint (the mini sets have the local one).
    ``oracle`` labels the training pairs; ``eval_oracle`` (the same if absent) gives the reward in evaluation.
    ``chat_template`` is for a model that comes without one: a Jinja file, or ``fastchat:NAME``.
    ``time_limit`` ends a run whose process works longer (minutes); it fails, the others go on.
    """

    name: str = Field(pattern=NAME)
    description: str = ""
    model: str
    chat_template: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    data: AnyData
    oracle: OracleSpec = OracleSpec(name="constraints")
    eval_oracle: OracleSpec | None = None
    budgets: dict[Annotated[str, Field(pattern=NAME)], BudgetSpec] = {}
    budget: str
    train: TrainSpec = TrainSpec()
    tune: TuneSpec
    methods: list[str] = Field(min_length=1)
    method_options: dict[str, dict[str, Any]] = {}
    variants: dict[Annotated[str, Field(pattern=NAME)], VariantSpec] = {}
    endpoints: dict[Annotated[str, Field(pattern=NAME)], Endpoint] = {}
    reference: str = "dpo"
    seeds: int = Field(default=1, gt=0)
    benchmarks: dict[str, dict[str, Any]] = Field(min_length=1)
    judge: JudgeSpec = "local"
    engine: EngineSpec = EngineSpec()
    time_limit: float | None = Field(default=None, gt=0)
    prices: PriceSpec | None = None
    generation_batch_size: int = Field(default=64, gt=0)
    scoring_batch_size: int = Field(default=16, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _asks_nobody(cls, value: Any) -> Any:
        """Pairs that somebody brings need no oracle."""
        data = value.get("data") if isinstance(value, dict) else None
        brought = isinstance(data, dict) and data.get("task") == "preferences"
        return {"oracle": "none"} | value if brought else value

    @model_validator(mode="after")
    def _budget_exists(self) -> Recipe:
        from harness.budget.spec import named_budgets

        if self.budget not in self.budgets and self.budget not in named_budgets():
            known = ", ".join([*self.budgets, *named_budgets()])
            raise ValueError(f"budget {self.budget!r} is not one of budgets: {known}")
        for name in self.method_options:
            if name not in self.methods:
                raise ValueError(
                    f"method_options names {name!r}, which is not one of methods: {', '.join(self.methods)}"
                )
        return self

    @property
    def hash(self) -> str:
        """Hash of everything in the recipe but its name and description (and keys that are newer, where they are not
        used)."""
        new = {"chat_template"} if self.chat_template is None else set()
        return digest(self.model_dump(mode="json", exclude={"name", "description"} | new))
