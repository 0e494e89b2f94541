"""The guard that refuses models whose sampled log-probabilities are not those of a plain forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kit.random_models import PAD, VOCABULARY, WINDOW, random_model

from harness.answer import sampler_check
from harness.answer.sampler_check import check_sampler
from harness.errors import UserError
from sail.sampling import sample


class Words:
    """A tokenizer as far as the guard needs one: an id from 3 on for each word."""

    pad_token_id = PAD

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [3 + hash_of(word) % (VOCABULARY - 3) for word in text.split()]}


def hash_of(word: str) -> int:
    return sum(ord(letter) * 7**at for at, letter in enumerate(word))


def refusal(model: Any) -> str:
    with pytest.raises(UserError) as refused:
        check_sampler(model, Words(), [2])
    return str(refused.value)


@pytest.mark.parametrize("name", ["Llama", "GPT2", "Qwen3", "Gemma2", "Gemma3", "Mistral", "Phi3", "Mpt", "Llama4"])
def test_attention_over_a_cache_is_accepted(name: str) -> None:
    check_sampler(random_model(name), Words(), [2])


@pytest.mark.parametrize("name", ["Llama", "Gemma3"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_is_accepted(name: str, dtype: torch.dtype) -> None:
    model = random_model(name).to(dtype).train()
    check_sampler(model, Words(), [2])
    assert model.training


def test_models_of_recipes_are_accepted(load: Callable[[], Any], tokenizer: Any) -> None:
    check_sampler(load(), tokenizer, [tokenizer.eos_token_id])


@pytest.mark.parametrize("name", ["Mamba", "Bamba", "FalconH1", "Lfm2"])
def test_recurrent_and_hybrid_models_are_refused(name: str) -> None:
    sentence = refusal(random_model(name))
    assert sentence.startswith(f"The model {name}ForCausalLM cannot be sampled exactly (")
    assert "set 'model:' to another one" in sentence and "\n" not in sentence


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_prompt_tuned_model_is_refused_and_lora_is_not(dtype: torch.dtype) -> None:
    from peft import LoraConfig, PromptTuningConfig, get_peft_model

    tuned = get_peft_model(random_model("Llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    assert "PeftModelForCausalLM around LlamaForCausalLM" in refusal(tuned.to(dtype))
    lora = get_peft_model(random_model("Llama"), LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False))
    check_sampler(lora.to(dtype), Words(), [2])


def test_a_window_that_the_cache_does_not_keep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Padding between a shared prefix and the rest of a prompt, as once, is seen."""
    check_sampler(random_model("Mistral"), Words(), [2])
    model = random_model("Mistral")
    forward = type(model).forward

    def narrower(self: Any, *args: Any, **kwargs: Any) -> Any:
        """A cached forward whose window is one place too short."""
        self.model.config.sliding_window = WINDOW - int(kwargs.get("past_key_values") is not None)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", narrower)
    assert "nats a token, over 0.0001" in refusal(model)


def test_the_difference_is_the_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that is off by a known amount at one token is refused with that amount; in bfloat16 its mean counts."""

    def off(nats: float, every: int) -> Callable[..., Any]:
        def wrong(*args: Any, **kwargs: Any) -> Any:
            answers = sample(*args, **kwargs)
            return [
                type(a)(a.ids, tuple(v + nats * (i % every == 0) for i, v in enumerate(a.logps)), a.stopped)
                for a in answers
            ]

        return wrong

    monkeypatch.setattr(sampler_check, "sample", off(0.25, 64))
    assert "by 0.25 nats a token, over 0.0001" in refusal(random_model("Llama"))
    check_sampler(random_model("Llama").to(torch.bfloat16), Words(), [2])  # 0.25 / 64 on the mean
    monkeypatch.setattr(sampler_check, "sample", off(0.5, 4))
    assert "nats a token, over 0.02" in refusal(random_model("Llama").to(torch.bfloat16))


def test_a_model_that_is_not_finite_is_refused() -> None:
    model = random_model("Llama")
    model.model.norm.weight.data[0] = torch.nan
    assert "off a plain forward by nan nats" in refusal(model)


@pytest.mark.parametrize("positions", [4, 16, 40, 100])
def test_short_contexts_are_respected(positions: int) -> None:
    """GPT-2 has a position embedding for each place and fails beyond the last."""
    check_sampler(random_model("GPT2", max_position_embeddings=positions), Words(), [2])


def test_prompts_hold_no_end_id(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def spy(model: Any, requests: Any, **options: Any) -> Any:
        seen.extend(requests)
        return sample(model, requests, **options)

    monkeypatch.setattr(sampler_check, "sample", spy)
    ends = Words()(sampler_check.TEXT)["input_ids"][:3]
    check_sampler(random_model("Mistral", sliding_window=40), Words(), ends)
    assert not {token for request in seen for token in request.prompt} & set(ends)
    assert {request.max_new_tokens for request in seen} == {64}
    longest = max(len(request.prompt) for request in seen)
    assert longest > 40 and len({request.prompt for request in seen}) < len(seen)
