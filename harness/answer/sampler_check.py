"""Whether a model can be sampled exactly: its own answers, scored by a plain forward.

Models keep their past in many ways: recurrent and hybrid ones in states that padding and shared prefixes would spoil,
prompt-tuned ones in tokens that no request holds. What the sampler returns for them would be wrong without a sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import UserError
from sail.rotary import constant_rotary_length
from sail.sampling import sample
from sail.types import Completion, Request

ANSWER_TOKENS = 64

PREFIX_TOKENS = 24
"""Tokens that the prompts share, unless a window makes it more."""

LARGEST_WINDOW = 512
"""A window of at most so many tokens is passed by the prompts."""

TOLERANCE = 1e-4
"""Nats by which the log-probability of any one token may differ, in float32 and float64."""

HALF_TOLERANCE = 2e-2
"""Nats by which log-probabilities may differ on the mean of all tokens, in bfloat16 and float16.

A logit of 20 is exact to 0.06 in bfloat16, so that single tokens differ by 0.1 to 0.3 without any error (SmolLM2). The
mean over tokens that the sampler drew itself estimates the divergence of the two distributions, which is not negative.
"""

HALF_ANSWERS = 4
"""Answers to each prompt in half precision: the mean of their tokens differs by 0.002 without any error (SmolLM2)."""

NO_END = (-1,)
"""An id that no token has, so that no answer ends early."""

TEXT = """The harbour was quiet that morning, and the first boats had not yet come back with their catch. A woman in
a yellow coat walked along the wall, counted the empty baskets twice and wrote the number into a small book. """


def check_sampler(model: Any, tokenizer: Any, eos_ids: Sequence[int]) -> None:
    """Sample answers of 64 tokens and compare their log-probabilities with a plain forward of the whole sequence.

    The prompts share a prefix and differ in length, and one occurs twice, so that padding, shared prefixes and the
    cache take part. Their prefix passes the model's window if that is short.

    Args:
        model: a causal language model of transformers (also wrapped by PEFT).
        tokenizer: its tokenizer, with a padding token.
        eos_ids: ids that end an answer; the prompts hold none.

    Raises:
        UserError: the two differ by more than the tolerance of the model's data type, or the model cannot do one of
            them.
    """
    was_training = model.training
    model.eval()
    try:
        requests = _requests(model, tokenizer, set(eos_ids))
        completions = sample(model, requests, eos_ids=NO_END, pad_id=tokenizer.pad_token_id)
        difference = _difference(model, requests, completions)
    except Exception as error:  # each architecture fails in its own way
        lines = str(error).strip().split("\n")
        raise UserError(_sentence(model, f"it raises {type(error).__name__}: {lines[0]}")) from error
    finally:
        model.train(was_training)
    limit = HALF_TOLERANCE if _is_half(model) else TOLERANCE
    if not difference <= limit:  # true for NaN too
        off = f"off a plain forward by {difference:.2g} nats a token, over {limit:g}"
        raise UserError(_sentence(model, f"the log-probabilities of what it samples are {off}"))


def _sentence(model: Any, reason: str) -> str:
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner = "" if bare is model else f" around {type(bare).__name__}"
    return (
        f"The model {type(model).__name__}{inner} cannot be sampled exactly ({reason}): set 'model:' to another one, "
        "whose layers all attend to a key-value cache"
    )


def _requests(model: Any, tokenizer: Any, ends: set[int]) -> list[Request]:
    """A long prompt, a short one that begins like it, and the long one again."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    limits.append(constant_rotary_length(config))
    room = min((n for n in limits if isinstance(n, int) and n > 0), default=1 << 16)
    answer = max(1, min(ANSWER_TOKENS, room // 2))
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    prefix = max(PREFIX_TOKENS, *(n + 8 for n in windows if isinstance(n, int) and n <= LARGEST_WINDOW), 0)
    longest = max(2, min(prefix + 8, room - answer))
    ids = [i for i in tokenizer(TEXT)["input_ids"] if i not in ends] or [0]
    text = tuple(ids * (longest // len(ids) + 1))
    prompts = (text[:longest], text[: max(1, longest - 7)], text[:longest]) * (HALF_ANSWERS if _is_half(model) else 1)
    return [Request(prompt, answer, 1.0, ("sampler check", i)) for i, prompt in enumerate(prompts)]


def _is_half(model: Any) -> bool:
    return bool(model.dtype.itemsize < 4)


def _difference(model: Any, requests: Sequence[Request], completions: Sequence[Completion]) -> float:
    """Nats a token between the sampler and a plain forward of each sequence, without padding and cache: the largest of
    all tokens, in half precision their mean."""
    import torch

    apart = [
        torch.tensor(completion.logps) - plain_logps(model, request.prompt, completion.ids)
        for request, completion in zip(requests, completions, strict=True)
    ]
    tokens = torch.cat(apart)
    return float(tokens.mean().abs() if _is_half(model) else tokens.abs().max())


def plain_logps(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> Any:
    """Log-probabilities (nats) of an answer's tokens by a plain forward, without padding and cache: a tensor (n,).

    Args:
        model: of transformers.
        prompt: token ids.
        answer: token ids.
    """
    import torch

    sequence = torch.tensor([[*prompt, *answer]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=sequence, use_cache=False).logits[0, -len(answer) - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, sequence[0, -len(answer) :, None])[:, 0].cpu()
