"""Memory that ``plan`` predicts under ``engine: vllm`` and ``attention: eager``, and advice that fits."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.budget.machines import DEVICES, machine_named
from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run.estimate import Estimate, estimate
from harness.run.outline import outline_of_recipe
from harness.run.spending import KNOWN_CONFIGS

EIGHT_BILLION = KNOWN_CONFIGS["meta-llama/Meta-Llama-3-8B-Instruct"]
WEIGHTS = 8_030_261_248 * 2
PAPER: dict[str, Any] = {
    "name": "paper",
    "model": "org/name",
    "dtype": "bfloat16",
    "data": {
        "task": "preferences",
        "train": f"org/pairs@{40 * '0'}:train",
        "test": f"org/pairs@{40 * '0'}:test",
        "tune_prompts": 1,
        "eval_prompts": 500,
    },
    "budget": "paper-steps",
    "train": {"batch_size": 2, "gradient_accumulation": 16, "max_length": 2048, "lora": {"r": 16}},
    "tune": {"learning_rates": [1.0e-5]},
    "methods": ["start", "sail-pr"],
    "benchmarks": {"mmlu": {}},
    "scoring_batch_size": 2,
}


def planned(machine: str, config: dict[str, Any] = EIGHT_BILLION, **changes: Any) -> Estimate:
    recipe = Recipe.model_validate(PAPER | changes)
    outline = outline_of_recipe(recipe, recipe.budget, recipe.methods, 1, list(recipe.benchmarks), config)
    return estimate(outline, machine_named(machine, 2), 1, None)


def vllm(**options: Any) -> dict[str, Any]:
    return {"name": "vllm", "options": options}


def advised(shortage: str) -> dict[str, str]:
    """The keys that a sentence advises, and their values."""
    keys, advice = r"([\w.]+): ([\w.]+|\{r: \d+\})", shortage.rpartition(": set ")[2]
    return dict(re.findall(keys, advice))


@pytest.mark.parametrize(("options", "share"), [({}, 0.4), ({"gpu_memory_utilization": 0.7}, 0.7)])
def test_vllm_has_its_share_beside_the_weights(options: dict[str, Any], share: float) -> None:
    predicted = planned("h100", engine=vllm(**options))
    sampling = {m.moment: m.parts for m in predicted.peaks if "vLLM's share" in m.parts}
    assert predicted.shortage is None and len(sampling) == 2
    assert sampling["sampling"] == {"weights": WEIGHTS, "vLLM's share": share * DEVICES["h100"].memory}
    in_training = sampling["sampling in training of sail-pr"]
    assert in_training["weights"] > WEIGHTS and in_training["optimiser"] > 0 and "key-value cache" not in in_training
    assert not any("vLLM's share" in m.parts for m in planned("h100").peaks)


@pytest.mark.parametrize(
    ("machine", "share", "reason"),
    [
        ("h100", 0.15, r"vLLM needs 15\.\d GiB .*gpu_memory_utilization \(0\.15\) gives it 11\.9 GiB on 1 x h100"),
        ("a100-40", 0.3, r"vLLM needs 15\.\d GiB"),
        ("h100", 0.9, r"sampling in training of sail-pr needs 8\d\.\d GiB"),
    ],
)
def test_a_share_that_does_not_fit_is_refused_with_one_that_does(machine: str, share: float, reason: str) -> None:
    shortage = planned(machine, engine=vllm(gpu_memory_utilization=share)).shortage
    assert shortage is not None and re.search(reason, shortage)
    advice = advised(shortage)
    assert list(advice) == ["engine.options.gpu_memory_utilization"]
    better = float(advice["engine.options.gpu_memory_utilization"])
    assert planned(machine, engine=vllm(gpu_memory_utilization=better)).shortage is None
    assert better * DEVICES[machine].memory > WEIGHTS


def test_no_share_is_advised_where_none_fits() -> None:
    """Two copies of 15 GiB on a device with 22."""
    shortage = planned("l4", engine=vllm()).shortage
    assert shortage is not None and "gpu_memory_utilization (0.4)" in shortage
    assert shortage.endswith("no settings would, so take a larger device or a smaller model")


def test_quantised_weights_of_vllm_are_not_counted_as_whole() -> None:
    assert planned("h100", engine=vllm(gpu_memory_utilization=0.15, quantization="fp8")).shortage is None


@pytest.mark.parametrize("share", [0, 1.5, "much", True, None])
def test_a_share_that_is_none_is_a_sentence(share: Any) -> None:
    with pytest.raises(UserError, match=r"engine\.options\.gpu_memory_utilization is .*: give a share above 0"):
        planned("h100", engine=vllm(gpu_memory_utilization=share))


def test_eager_attention_of_long_texts_is_counted_and_advised_against() -> None:
    """A block of Llama-3-8B keeps 6 bytes of each of 32 heads' scores: 3.2 GB a row of 4,096 tokens."""
    train = PAPER["train"] | {"max_length": 4096, "gradient_checkpointing": False, "batch_size": 1}
    plain = planned("h200", train=train, methods=["dpo"]).peaks[0]
    eager = planned("h200", train=train | {"attention": "eager"}, methods=["dpo"])
    scores = 2 * 32 * 4096**2 * 6 * 32
    assert eager.peaks[0].moment == "training step of dpo"
    assert eager.peaks[0].total - plain.total == pytest.approx(scores, rel=0.1)
    assert eager.shortage is not None
    assert advised(eager.shortage)["train.gradient_checkpointing"] == "true"
    checkpointed = train | {"attention": "eager", "gradient_checkpointing": True}
    assert planned("h200", train=checkpointed, methods=["dpo"]).shortage is None
    small = planned("rtx4090", train=checkpointed, methods=["dpo"]).shortage
    assert small is not None and advised(small)["train.attention"] == "sdpa"
