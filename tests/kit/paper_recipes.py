"""The paper-scale recipes shrunk to a CPU: only sizes and addresses change, which :func:`changed_keys` asserts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.answer.tiny_model import build_tokenizer
from harness.recipe.load import builtin_recipes
from kit.official_data import scripted, write_official_data
from kit.questions import Writer
from kit.questions import write_data as write_questions
from kit.rows import write_rows

ARCHITECTURES = {
    "qwen-0.5b-safe": "Qwen2ForCausalLM",
    "zephyr-7b-ultrafeedback": "MistralForCausalLM",
    "llama3-8b-ultrafeedback": "LlamaForCausalLM",
}
"""Of the model that each recipe names."""

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.1,
}

LOCAL = "-local-judge"

SIZES: dict[str, Any] = {
    "data.train_prompts": 16,
    "data.tune_prompts": 2,
    "data.eval_prompts": 3,
    "data.heldout_prompts": 3,
    "data.max_prompt_length": 160,
    "data.max_new_tokens": 8,
    "oracle.options.max_length": 512,
    "eval_oracle.options.max_length": 512,
    "train.batch_size": 2,
    "train.gradient_accumulation": 2,
    "train.max_length": 256,
    "train.warmup": 1,
    "train.lora.r": 4,
    "benchmarks.preference.max_new_tokens": 6,
    "benchmarks.mt_bench_official.max_new_tokens": 6,
    "benchmarks.alpaca_eval_2.max_new_tokens": 6,
    "benchmarks.arena_hard_v0.1.max_new_tokens": 6,
    "benchmarks.mmlu_official.limit": 3,
    "benchmarks.arc_challenge_official.limit": 2,
    "generation_batch_size": 8,
    "scoring_batch_size": 4,
}
"""What is smaller, by key. The limit of the budget is as well: three steps."""

UNREACHABLE = {"benchmarks.arena_hard_v0.1.length": "characters"}
"""The official tokenizer's file is fetched from the network, which tests have not."""

ADDRESSES = {
    "model",
    "data.train",
    "data.test",
    "oracle.options.model",
    "eval_oracle.options.model",
    "judge.base_url",
    "name",
}
"""Where things are."""


def published(name: str) -> dict[str, Any]:
    """A built-in recipe as its file holds it."""
    raw: dict[str, Any] = yaml.safe_load(builtin_recipes()[name].read_text(encoding="utf-8"))
    return raw


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by their dotted key; an empty mapping is one."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{prefix}.{key}" if prefix else key).items()}


def with_key(recipe: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; the names of benchmarks may hold a dot."""
    *parts, last = key.replace("v0.1", "v0_1").split(".")
    for part in parts:
        recipe = recipe.setdefault(part.replace("v0_1", "v0.1"), {})
    recipe[last] = value


def shrunk(name: str, addresses: Mapping[str, str]) -> dict[str, Any]:
    """A recipe with its sizes made small and its addresses local.

    Args:
        name: of a built-in recipe.
        addresses: by dotted key.
    """
    recipe = published(name)
    limits = {f"budgets.{budget}.limit": 3 for budget in recipe["budgets"]}
    for key, value in (SIZES | UNREACHABLE | limits | dict(addresses)).items():
        with_key(recipe, key, value)
    return recipe


def changed_keys(name: str, recipe: Mapping[str, Any]) -> set[str]:
    """Keys in which a recipe differs from the built-in one, each shown to be a smaller size or an address.

    Args:
        name: of the built-in recipe.
        recipe: the shrunk one.
    """
    before, after = flat(published(name)), flat(recipe)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    for key in changed - ADDRESSES - UNREACHABLE.keys():
        was, now = before.get(key), after.get(key)
        if was == {} and now is None:
            assert any(k.startswith(f"{key}.") and k in SIZES for k in after), key
            continue
        assert key in SIZES or (key.startswith("budgets.") and key.endswith(".limit")), f"{key} is no size"
        unbounded = was is None or was == 0
        assert unbounded or now < was, f"{key} has grown from {was} to {now}"
    return changed


def write_model(folder: Path, architecture: str) -> Path:
    """A random model of an architecture, with the tiny policy's tokenizer; in bfloat16, as such models are saved."""
    import torch
    import transformers

    tokenizer = build_tokenizer()
    kind = getattr(transformers, architecture)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    more = {"num_labels": 1} if architecture.endswith("SequenceClassification") else {}
    rows = len(tokenizer) + 11  # a class of tokenizer may add tokens of its own, and these models have rows to spare
    config = kind.config_class(vocab_size=rows, **SHAPE, **ids, **more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pku_row(say: Writer, number: int) -> dict[str, Any]:
    """A row in the schema of PKU-SafeRLHF-10K."""
    row: dict[str, Any] = {"prompt": f"{number} {say(3, 8)}"}
    row |= {f"response_{i}": f"{say(2, 9)} {i}" for i in (0, 1)}
    row |= {f"is_response_{i}_safe": bool((number + i) % 2) for i in (0, 1)}
    return row | {"better_response_id": number % 2, "safer_response_id": (number + 1) % 2}


def ultrafeedback_row(say: Writer, number: int) -> dict[str, Any]:
    """A row in the schema of ultrafeedback_binarized."""
    prompt = f"{number} {say(3, 8)}"
    sides = {
        side: [{"role": "user", "content": prompt}, {"role": "assistant", "content": f"{say(2, 9)} {side}"}]
        for side in ("chosen", "rejected")
    }
    row = {"prompt": prompt, "prompt_id": f"{number:064x}", **sides, "messages": sides["chosen"]}
    return row | {"score_chosen": 8.0, "score_rejected": 5.5}


def write_pairs(folder: Path, name: str) -> dict[str, str]:
    """A few dozen rows in the schema that a recipe reads; returns the addresses."""
    say, row = Writer(1), pku_row if "safe" in name else ultrafeedback_row
    write_rows(folder / "train.jsonl", (row(say, number) for number in range(30)))
    write_rows(folder / "test.jsonl", (row(say, number) for number in range(100, 112)))
    return {"data.train": str(folder / "train.jsonl"), "data.test": str(folder / "test.jsonl")}


def write_official(folder: Path) -> Path:
    """Small sets in the layouts of MT-Bench, AlpacaEval 2, Arena-Hard v0.1, MMLU and ARC."""
    write_official_data(folder)
    write_questions(folder)
    arena = folder / "arena_hard"
    write_rows(arena / "question_v0.1.jsonl", [{"uid": f"q{i}", "prompt": f"Hard {i}?"} for i in range(2)])
    answers = [{"question_id": f"q{i}", "choices": [{"turns": [{"content": f"baseline {i}"}]}]} for i in range(2)]
    write_rows(arena / "model_answer_v0.1/gpt-4-0314.jsonl", answers)
    template = "Q: {question_1}\nA: {answer_1}\nB: {answer_2}"
    (arena / "judge_prompt_v0.1.yaml").write_text(
        yaml.safe_dump({"system_prompt": "Arena.", "prompt_template": [template]})
    )
    return folder


def judge(handler: Any, body: dict[str, Any], n: int) -> None:
    """The scripted judge of the official sets, and of Arena-Hard."""
    from kit.judge_server import completion

    if body["messages"][0]["content"] == "Arena.":
        handler.send(completion("Fine. [[A>B]]"))
    else:
        scripted(handler, body, n)
