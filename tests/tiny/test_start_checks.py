"""What is refused before any work: ids without an embedding, adapters that do not fit, prompts beyond the window."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model

from harness.answer.policy import Policy
from harness.answer.start_checks import check_start
from harness.answer.start_policy import build_start
from harness.answer.window import UNBOUNDED, window_of
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.train import LoraSpec
from harness.store.stages import Store
from harness.train.checks import check_lora
from harness.train.settings import lora_config
from sail.types import Request

SMALL = {"vocab_size": 261, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
IDS = torch.tensor([[3, 8, 200, 17, 33]])


@pytest.fixture
def small(tokenizer: Any) -> tuple[Any, Any]:
    """A random Llama and its tokenizer, to be spoilt."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, **HEADS, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    return transformers.LlamaForCausalLM(config), copy.deepcopy(tokenizer)


def refused(model: Any, tokenizer: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_start("mine", model, tokenizer)
    return str(caught.value)


def test_a_sound_model_passes(small: tuple[Any, Any]) -> None:
    """So does one whose tokenizer has a token for images that no text holds, as Gemma 3's has."""
    model, tokenizer = small
    check_start("mine", model, tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]}, replace_extra_special_tokens=False)
    assert len(tokenizer) == 262
    check_start("mine", model, tokenizer)


@pytest.mark.parametrize("kind", ["pad_token", "eos_token", "bos_token", "unk_token"])
def test_special_tokens_need_an_embedding(kind: str, small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    tokenizer.add_special_tokens({kind: "[OUT]"})
    sentence = f"The model mine has 261 embeddings, and its {kind} is '[OUT]' with the id 261: call"
    assert refused(model, tokenizer).startswith(sentence)
    model.resize_token_embeddings(len(tokenizer))
    if kind == "pad_token":
        check_start("mine", model, tokenizer)


def test_other_tokens_need_an_embedding_where_they_are_used(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    model.generation_config.eos_token_id = [256, 300]
    assert "eos_token_id holds None with the id 300" in refused(model, tokenizer)
    model.generation_config.eos_token_id = 256
    tokenizer.add_tokens(["<think>"])
    assert "its tokenizer has the added word '<think>' with the id 261" in refused(model, tokenizer)


def test_a_template_writes_known_tokens(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]}, replace_extra_special_tokens=False)
    tokenizer.chat_template = "<turn>" + tokenizer.chat_template
    assert "its chat template writes '<turn>' with the id 261" in refused(model, tokenizer)


def test_a_text_with_an_unknown_token_is_refused(small: tuple[Any, Any]) -> None:
    model, tokenizer = small
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]}, replace_extra_special_tokens=False)
    policy = Policy(model.eval(), tokenizer, "mine", meter=Meter(Ledger()), cache=None)
    ids = policy.render([{"role": "user", "content": "What is <image>?"}])
    for ask in (lambda: policy.sample([Request(ids, 4)]), lambda: policy.token_logps([(ids[:3], ids[3:])])):
        with pytest.raises(UserError, match="A text holds '<image>', a token without an embedding"):
            ask()


def test_a_faulty_template_leaves_no_start_policy(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages[-1]['content'] }}<|end|>")
    with pytest.raises(UserError, match="leaves out turn"):
        build_start("tiny", Store(tmp_path / "store"), str(tmp_path / "mine.jinja"))
    assert not (tmp_path / "store/stages").exists()


# adapters


CONFIGS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=261, n_positions=64, n_embd=32, n_layer=2, n_head=4),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**SMALL, num_attention_heads=4),
    "opt": lambda: transformers.OPTConfig(
        **{"vocab_size": 261, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"word_embed_proj_dim": 32, "max_position_embeddings": 64},
    ),
    "mixtral": lambda: transformers.MixtralConfig(**SMALL, **HEADS, num_local_experts=4),
    "qwen3-moe": lambda: transformers.Qwen3MoeConfig(
        **SMALL, **HEADS, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2, head_dim=8
    ),
}

ADAPTED = {
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "gpt-neox": {"dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"},
    "opt": {"fc1", "fc2", "k_proj", "out_proj", "q_proj", "v_proj"},
    "mixtral": {"k_proj", "o_proj", "q_proj", "v_proj"},
    "qwen3-moe": {"k_proj", "o_proj", "q_proj", "v_proj"},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_adapter_reaches_all_linear_weights_of_its_blocks(kind: str, tmp_path: Path) -> None:
    """On the top block alone: it changes the policy, is off in the reference, and can be saved, loaded and merged."""

    def fresh() -> Any:
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]()).eval()

    spec, model = LoraSpec(r=4, layers=1), fresh()
    config = lora_config(spec, model)
    assert set(config.target_modules) == ADAPTED[kind]
    assert config.fan_in_fan_out == (kind == "gpt2")
    with torch.no_grad():
        before = model(IDS).logits
        policy = get_peft_model(model, config)
        trained = {name for name, weight in policy.named_parameters() if weight.requires_grad}
        assert trained
        assert all(".1." in name for name in trained)
        if kind in ("mixtral", "qwen3-moe"):  # two weights of the experts, with two factors each
            assert sum(".experts." in name for name in trained) == 4
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
        after = policy(IDS).logits
        assert (after - before).abs().max() > 0.05
        with policy.disable_adapter():
            torch.testing.assert_close(policy(IDS).logits, before)
        policy.save_pretrained(tmp_path / "adapter")
        merged = PeftModel.from_pretrained(fresh(), tmp_path / "adapter").merge_and_unload()
        torch.testing.assert_close(merged(IDS).logits, after, rtol=1e-4, atol=1e-5)
    CONFIGS[kind]().save_pretrained(tmp_path)
    check_lora(spec, tmp_path)
    with pytest.raises(UserError, match="train.lora.layers is 3, but the model has 2 blocks: lower it"):
        check_lora(LoraSpec(r=4, layers=3), tmp_path)


def test_a_model_that_takes_no_adapter_is_refused(tmp_path: Path) -> None:
    transformers.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="LoRA does not fit the model MambaForCausalLM .* set train.lora: null"):
        check_lora(LoraSpec(r=4), tmp_path)


# windows


def test_windows_of_configurations() -> None:
    assert window_of(transformers.GPT2Config(n_positions=512)) == 512
    assert window_of(transformers.LlamaConfig(max_position_embeddings=4096)) == 4096
    assert window_of(transformers.BloomConfig()) == UNBOUNDED
    roberta = transformers.RobertaConfig(max_position_embeddings=514, pad_token_id=1)
    assert window_of(roberta) == 512


def test_what_passes_the_window_is_a_sentence(tokenizer: Any) -> None:
    """GPT-2 has a table of positions: 16 tokens pass, 17 would be an IndexError."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=261, n_positions=16, n_embd=32, n_layer=1, n_head=4, eos_token_id=256, bos_token_id=None
    )
    policy = Policy(transformers.GPT2LMHeadModel(config).eval(), tokenizer, "m", meter=Meter(Ledger()), cache=None)
    ids = list(range(5, 15))
    assert len(policy.sample([Request(tuple(ids), 6)])[0].ids) <= 6
    assert len(policy.token_logps([(ids, ids[:6])])[0]) == 6
    assert len(policy.continuation_logps([(ids, ids[:7])])) == 1  # the last token is not read
    assert len(policy.next_token_logps([ids + ids[:6]], [3])) == 1
    calls: list[Callable[[], object]] = [
        lambda: policy.sample([Request(tuple(ids), 4), Request(tuple(ids), 7)]),
        lambda: policy.token_logps([(ids, ids[:7])]),
        lambda: policy.continuation_logps([(ids, ids[:8])]),
    ]
    for call in calls:
        with pytest.raises(UserError, match="A prompt of 10 tokens with an answer of 7 passes the 16 tokens that the"):
            call()
    with pytest.raises(UserError, match="A prompt of 17 tokens passes the 16"):
        policy.next_token_logps([ids + ids[:7]], [3])
