"""A small random model that vLLM takes: it has no kernel on a CPU for the head size of the model `tiny`."""

from __future__ import annotations

from pathlib import Path

import torch

VLLM_OPTIONS = {"max_model_len": 512, "enforce_eager": True, "kv_cache_memory_bytes": 2**26}


def save_served_model(folder: Path) -> Path:
    """Three layers of width 128 with heads of 64, the tokenizer of `tiny`, and a distribution with some shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness.answer.tiny_model import build_tokenizer

    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
