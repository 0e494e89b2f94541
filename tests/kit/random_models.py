"""Small causal language models with random weights, by architecture, and what a plain forward says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

VOCABULARY, PAD, WINDOW = 200, 0, 16

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "pad_token_id": PAD,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
BOTH_KINDS = {"layer_types": ["sliding_attention", "full_attention"]}
SMALL_STATES = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_expand": 2, "mamba_chunk_size": 8}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "GPT2": {},
    "Qwen3": {"head_dim": 8},
    "Gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW} | BOTH_KINDS,
    "Gemma3": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW} | BOTH_KINDS,
    "Mistral": {"sliding_window": WINDOW},
    "Phi3": {"sliding_window": WINDOW},
    "Qwen2": {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    "Llama4": {"head_dim": 8, "attention_chunk_size": WINDOW, "intermediate_size_mlp": 64, "moe_layers": []},
    "Mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},  # ALiBi counts places
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Mamba": {"state_size": 8},
    "Bamba": {"attn_layer_indices": [1]} | SMALL_STATES,
    "FalconH1": {"mamba_d_ssm": 64} | SMALL_STATES,
    "Lfm2": {"layer_types": ["conv", "full_attention"]},
}


def random_model(name: str, **changes: Any) -> Any:
    """A model of an architecture, the same at every call.

    Args:
        name: key of :data:`ARCHITECTURES`.
        changes: of its configuration.
    """
    kind = getattr(transformers, f"{name}TextConfig", None) or getattr(transformers, f"{name}Config")
    head = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, head)(kind(**SIZES | ARCHITECTURES[name] | changes))
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.data.normal_(0, 0.25)  # sharp enough for wrong attention to be seen
    return model.eval()


def random_ids(count: int, seed: int) -> tuple[int, ...]:
    """Token ids above those with a meaning."""
    drawn = torch.randint(3, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed))
    return tuple(drawn.tolist())


@torch.no_grad()
def plain_logps(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of every next token, by one forward without cache, padding or mask. Shape (L, V)."""
    logits: torch.Tensor = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return logits.float().log_softmax(-1)


def answer_logps(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
    """Log-probabilities of the tokens of an answer, by :func:`plain_logps`."""
    logps = plain_logps(model, [*prompt, *answer])[len(prompt) - 1 : -1]
    return logps[torch.arange(len(answer)), torch.tensor(list(answer))].tolist()
