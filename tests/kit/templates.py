"""Chat templates after those of well-known model families, in our own words, and tokenizers that have them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EACH, DONE = "{% for m in messages %}", "{% endfor %}"
ASKED = "{% if add_generation_prompt %}"
ROLE, TEXT = "{{ m['role'] }}", "{{ m['content'] }}"


def chat_ml(opening: str = "", closing: str = "<|im_end|>\n") -> str:
    """ChatML; ``opening`` follows the line of the opened turn."""
    header = "<|im_start|>assistant\n"
    return f"{EACH}<|im_start|>{ROLE}\n{TEXT}{closing}{DONE}{ASKED}{header}{opening}{{% endif %}}"


@dataclass(frozen=True)
class Family:
    """A template with its special tokens.

    Attributes:
        template: Jinja.
        ends: tokens of the model's ``eos_token_id``.
        eos: the tokenizer's end-of-sequence token.
        special: further special tokens.
        bos: the tokenizer's begin-of-sequence token.
        end: what ends a trained answer.
    """

    template: str
    ends: tuple[str, ...]
    eos: str
    special: tuple[str, ...] = ()
    bos: str | None = None
    end: str = ""

    def tokenizer(self, plain: Any) -> Any:
        """A copy of a tokenizer with the tokens and the template of the family."""
        other = copy.deepcopy(plain)
        other.add_special_tokens({"eos_token": self.eos})
        if self.bos:
            other.add_special_tokens({"bos_token": self.bos})
        other.add_tokens([*self.special, *self.ends], special_tokens=True)
        other.chat_template = self.template
        return other

    def save_model(self, out: Path) -> None:
        """Save a small random model of the family, with the byte tokenizer of the tiny policy."""
        from transformers import LlamaConfig, LlamaForCausalLM

        from harness.answer.tiny_model import build_tokenizer

        tokenizer = self.tokenizer(build_tokenizer())
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=4096,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=self.end_ids(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.1,
        )
        LlamaForCausalLM(config).save_pretrained(out)
        tokenizer.save_pretrained(out)

    def end_ids(self, tokenizer: Any) -> list[int]:
        """Ids of ``ends``."""
        ids: list[int] = tokenizer.convert_tokens_to_ids(list(self.ends))
        return ids


FAMILIES = {
    "llama-3.1": Family(
        "{{ bos_token }}" + EACH + "<|h|>" + ROLE + "<|/h|>\n\n{{ m['content'] | trim }}<|eot_id|>" + DONE
        + ASKED + "<|h|>assistant<|/h|>\n\n{% endif %}",
        ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"), "<|eot_id|>", ("<|h|>", "<|/h|>"), "<|begin|>", "<|eot_id|>",
    ),
    "qwen2.5": Family(
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + chat_ml(),
        ("<|im_end|>", "<|endoftext|>"), "<|im_end|>", ("<|im_start|>",), None, "<|im_end|>",
    ),
    "qwen3": Family(
        EACH + "<|im_start|>" + ROLE + "\n{% if loop.last and m['role'] == 'assistant' %}<think>\n\n</think>\n\n"
        "{% endif %}" + TEXT + "<|im_end|>\n" + DONE + ASKED + "<|im_start|>assistant\n{% endif %}",
        ("<|im_end|>", "<|endoftext|>"), "<|im_end|>", ("<|im_start|>",), None, "<|im_end|>",
    ),
    "zephyr": Family(
        EACH + "<|" + ROLE + "|>\n" + TEXT + "{{ eos_token }}\n" + DONE + ASKED + "<|assistant|>\n{% endif %}",
        ("</s>",), "</s>", (), "<s>", "</s>",
    ),
    "glm-4": Family(
        "[gMASK]<sop>" + EACH + "<|" + ROLE + "|>\n" + TEXT + DONE + ASKED + "<|assistant|>{% endif %}",
        ("<|endoftext|>", "<|user|>", "<|observation|>"), "<|endoftext|>", ("[gMASK]", "<sop>", "<|assistant|>"), None,
        "<|user|>",
    ),
    "llama-2": Family(
        EACH + "{% if m['role'] == 'user' %}{{ bos_token }}[INST] {{ m['content'] | trim }} [/INST]{% elif "
        "m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% else %}"
        "{{ raise_exception('only user and assistant') }}{% endif %}" + DONE,
        ("</s>",), "</s>", (), "<s>", "</s>",
    ),
    "phi-4-mini": Family(
        EACH + "<|" + ROLE + "|>" + TEXT + "<|end|>" + DONE
        + ASKED + "<|assistant|>{% else %}{{ eos_token }}{% endif %}",
        ("<|endoftext|>", "<|end|>"), "<|endoftext|>", ("<|user|>", "<|assistant|>"), None, "<|end|>",
    ),
    "smollm3": Family(
        chat_ml("<think>\n\n</think>\n"), ("<|im_end|>",), "<|im_end|>", ("<|im_start|>",), None, "<|im_end|>"
    ),
    "gpt-oss": Family(
        EACH + "<|start|>" + ROLE + "{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}<|message|>" + TEXT
        + "{% if m['role'] == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}" + DONE
        + ASKED + "<|start|>assistant{% endif %}",
        ("<|return|>", "<|call|>"), "<|return|>", ("<|start|>", "<|channel|>", "<|message|>", "<|end|>"), None,
        "<|return|>",
    ),
}  # fmt: skip
"""Families by name; templates of others come with the training cases."""
