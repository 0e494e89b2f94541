"""A policy small enough to enumerate: three tokens (a, b and the end), at most three a response: 15 responses."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

A, B, END, LONGEST = 0, 1, 2, 3
PROMPTS = ((A,), (B, A))
RESPONSES = [
    (*body, END) for n in range(LONGEST) for body in itertools.product((A, B), repeat=n)
] + list(itertools.product((A, B), repeat=LONGEST))  # fmt: skip


def policy(seed: int) -> Any:
    """A random Llama over the three tokens, sharp enough that the responses differ in probability."""
    config = LlamaConfig(
        vocab_size=3, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=16, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=END, pad_token_id=END, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def tokenizer() -> Any:
    inner = Tokenizer(models.WordLevel({"a": A, "b": B, "<end>": END}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>")


def log_probabilities(model: Any) -> torch.Tensor:
    """log pi of every response to every prompt, one forward for each sequence: no padding. Shape (2, 15)."""
    rows = []
    for prompt in PROMPTS:
        row = []
        for response in RESPONSES:
            logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
            row.append(torch.log_softmax(logits.double(), -1)[range(len(response)), list(response)].sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)
