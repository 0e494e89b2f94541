"""Which stage each piece of work is: everything that can change its content, and nothing else, enters its key.

Pure functions of settings, of versions (:mod:`harness.store.versions`) and of the keys of earlier stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.benchmark import Benchmark
from harness.budget.budget import Budget
from harness.judge.prompts import identity
from harness.methods.base import Method
from harness.methods.endpoint import Remote
from harness.pairs.imported import imported_stage
from harness.pairs.prompts import splits
from harness.recipe.endpoint import Thinking
from harness.recipe.recipe import CHAT_DATE, Recipe
from harness.recipe.search import Point
from harness.run.plugin_check import own_protocol
from harness.store.json_files import digest
from harness.store.stages import Stage
from harness.store.versions import (
    IMPORTED_VERSION,
    LOGPS_VERSION,
    PAIRS_VERSION,
    TRAIN_VERSION,
    TUNE_VERSION,
    VERSUS_VERSION,
)
from sail.types import SAMPLER_VERSION

OWN_DATA = "own data"


def oracle_in_keys(oracle: dict[str, Any]) -> Any:
    """An oracle's identity as keys hold it: name and version alone where it has no other settings."""
    return [oracle["oracle"], oracle["version"]] if set(oracle) == {"oracle", "version"} else oracle


def pairs_stage(recipe: Recipe, start: Stage, oracle: dict[str, Any]) -> Stage:
    """The preference pairs: sampled from the start policy and labelled by the oracle, or imported.

    Args:
        recipe: its data are used.
        start: the start policy.
        oracle: identity of the training oracle. Imported pairs have labels of their own and do not depend on it.
    """
    data = recipe.data
    if data.imported:
        return Stage(
            "pairs",
            {
                "version": IMPORTED_VERSION,
                "precision": recipe.arithmetic,
                "start": start.key,
                "data": data.key(),
                "files": imported_stage(data).inputs["files"],
                "max_length": recipe.train.max_length,
            },
        )
    parts = splits(data)
    return Stage(
        "pairs",
        {
            "version": [PAIRS_VERSION, SAMPLER_VERSION],
            "precision": recipe.arithmetic,
            "start": start.key,
            "data": data.key(),
            "prompts": {part: _prompts_digest(parts[part]) for part in ("train", "heldout")},
            "oracle": oracle_in_keys(oracle),
            **engine_in_keys(recipe),
        },
    )


def _prompts_digest(prompts: Sequence[Mapping[str, Any]]) -> str:
    return digest([p["prompt"] for p in prompts])


def engine_in_keys(recipe: Recipe) -> dict[str, Any]:
    """The engine that samples, unless it is the default: another one gives other answers."""
    engine = recipe.engine
    return {} if engine.name == "transformers" else {"engine": engine.model_dump(mode="json")}


def training_labels(recipe: Recipe, oracle: dict[str, Any]) -> list[Any]:
    """The training oracle, where the key of the pairs does not hold it already."""
    return [oracle_in_keys(oracle)] if recipe.data.imported else []


@dataclass(frozen=True)
class Training:
    """What all trainings of a run share.

    Attributes:
        start: the start policy; pairs: the preference pairs.
        fractions: shares of the budget at which a policy is kept on the way.
        labels: see :func:`training_labels`.
    """

    recipe: Recipe
    budget: Budget
    start: Stage
    pairs: Stage
    fractions: Sequence[float]
    labels: Sequence[Any]


def train_stage(shared: Training, method: Method, point: Point, seed: int) -> Stage:
    """Training of a method at one point of the search.

    Args:
        shared: what all trainings of the run share.
        method: configured with the options of the point.
        point: gives the learning rate.
        seed: of the training run.
    """
    train = shared.recipe.train
    return Stage(
        "train",
        {
            "version": [TRAIN_VERSION, SAMPLER_VERSION],
            "start": shared.start.key,
            "precision": shared.recipe.arithmetic,
            "method": [method.name, method.version, method.config.model_dump(mode="json")],
            "pairs": shared.pairs.key,
            "budget": shared.budget.trains_like(train.pairs_per_step),
            "train": train.model_dump(mode="json"),
            "learning_rate": point.learning_rate,
            "seed": seed,
            "max_new_tokens": shared.recipe.data.max_new_tokens,
            **({"fractions": list(shared.fractions)} if shared.fractions else {}),
            **({"oracle": list(shared.labels)} if shared.labels else {}),
            **(engine_in_keys(shared.recipe) if method.spending().sampled else {}),
        },
    )


def tune_stage(recipe: Recipe, policy: Stage) -> Stage:
    """Gold reward of a trial on the tuning prompts (disjoint from training and from evaluation)."""
    prompts = _prompts_digest(splits(recipe.data)["tune"])
    versions = [TUNE_VERSION, SAMPLER_VERSION]
    return Stage("tune", {"version": versions, "policy": policy.key, "prompts": prompts, **engine_in_keys(recipe)})


def judge_of(benchmark: Benchmark, recipe: Recipe, start: Stage) -> dict[str, Any] | None:
    """Identity of a benchmark's judge; None if it needs none.

    Args:
        benchmark: says who judges it.
        recipe: names the judge behind an endpoint.
        start: the start policy, which is the local judge.
    """
    if benchmark.judged_by == "none":
        return None
    if benchmark.judged_by == "endpoint" and recipe.judge != "local":
        return {"kind": "endpoint", **recipe.judge.identity()}
    return identity(start.key)


def protocol_of(
    benchmark: Benchmark, recipe: Recipe, start: Stage, pairs: Stage, eval_oracle: dict[str, Any]
) -> dict[str, Any]:
    """Everything but the policy that can change a score: two different hashes never share a column.

    Args:
        benchmark: gives its own part.
        recipe: gives engine, judge, evaluation prompts, the date in prompts, and what becomes of thoughts.
        start: the start policy (baseline, reference of the KL, local judge).
        pairs: the preference pairs, whose held-out part a benchmark may score.
        eval_oracle: identity of the oracle that evaluates.
    """
    protocol = own_protocol(benchmark)
    protocol |= engine_in_keys(recipe)
    if recipe.thinking != "strip":
        protocol |= {"thinking": recipe.thinking}
    if recipe.chat_date != CHAT_DATE:
        protocol |= {"chat_date": recipe.chat_date.isoformat()}
    if benchmark.judged_by != "none":
        protocol |= {"judge": judge_of(benchmark, recipe, start)}
    if "start" in benchmark.needs or benchmark.judged_by == "local":
        protocol |= {"baseline_policy": start.key}
    if "task" in benchmark.needs:
        protocol |= {
            "prompts": _prompts_digest(splits(recipe.data)["eval"]),
            "heldout": pairs.key,
            "oracle": oracle_in_keys(eval_oracle),
            "start": start.key,
            **({"label": OWN_DATA} if recipe.data.imported else {}),
        }
    return protocol


def thinking_of(recipe: Recipe, method: Method) -> Thinking:
    """Whether benchmarks judge a policy's answers without their thoughts."""
    own = method.config.thinking if isinstance(method, Remote) else None
    return own or recipe.thinking


def answers_stage(recipe: Recipe, method: Method, policy: Stage, protocol: Mapping[str, Any]) -> Stage:
    """Answers of a policy to a benchmark.

    Args:
        recipe: gives the precision.
        method: gives the instruction of a control, or the endpoint.
        policy: the policy that answers.
        protocol: of the benchmark; the judge does not change an answer.
    """
    unjudged = {k: v for k, v in protocol.items() if k != "judge"}
    version = [SAMPLER_VERSION, LOGPS_VERSION]
    inputs = {"policy": policy.key, "protocol": unjudged, "version": version, "precision": recipe.arithmetic}
    if method.instruction:
        inputs["instruction"] = method.instruction
    if isinstance(method, Remote):
        inputs["endpoint"] = method.config.identity()
        if method.config.thinking not in (None, recipe.thinking):
            inputs["thinking"] = method.config.thinking
    return Stage("answers", inputs)


def judgments_stage(answers: Stage, judge: dict[str, Any] | None) -> Stage:
    """Judged answers; ``judge``: its identity, if there is one."""
    return Stage("judgments", {"answers": answers.key, "judge": judge})


def versus_stage(ours: Stage, theirs: Stage, oracle: dict[str, Any]) -> Stage:
    """Verdicts of a pairwise oracle on a policy's answers and those of the reference method.

    Args:
        ours: answers of the policy; theirs: of the reference method.
        oracle: identity of the oracle that evaluates.
    """
    inputs = {"version": VERSUS_VERSION, "ours": ours.key, "theirs": theirs.key, "oracle": oracle_in_keys(oracle)}
    return Stage("versus", inputs)
