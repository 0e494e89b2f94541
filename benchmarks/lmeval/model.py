"""lm-eval's model interface around a policy in memory. It imports lm-eval and torch: import it inside functions.

``HFLM`` itself encodes, truncates, windows and stops, so that a number is plain lm-eval's by construction; only the
forwards are ours (shared prefixes and contexts, rows kept as they come).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from harness.errors import UserError
from harness.policy import Policy
from harness.store import digest

Request = tuple[Any, list[int], list[int]]


class PolicyLM(HFLM):  # type: ignore[misc]
    """A :class:`Policy` as lm-eval asks it: ``loglikelihood``, ``loglikelihood_rolling`` and ``generate_until``."""

    def __init__(
        self,
        policy: Policy,
        batch_size: int,
        progress: Callable[[int], None] = lambda done: None,
        expect: Callable[[int], None] = lambda total: None,
    ) -> None:
        super().__init__(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=batch_size)
        self.policy, self._rows, self._progress, self._expect = policy, batch_size, progress, expect

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Cut from the left to the model's length as ``HFLM`` cuts."""
        rows = []
        for _, context, continuation in requests:
            whole = (context + continuation)[-(self.max_length + 1) :]
            rows.append((whole[: -len(continuation)], continuation))
        self._expect(len(rows))
        return self.policy.continuation_logps(rows, self._rows, self._progress)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Longest contexts first, kept batch by batch; sampled answers are neither kept nor found again.

        Raises:
            UserError: the answers may be as long as the model's whole length.
        """
        asked = [request.args for request in requests]
        longest = max((normalize_gen_kwargs(s, self.max_gen_toks)["max_gen_toks"] for _, s in asked), default=0)
        if longest >= self.max_length:
            raise UserError(
                f"lm-eval's task asks for answers of up to {longest} tokens, but the model takes {self.max_length} in "
                "all: leave it out for this model"
            )
        if any(settings.get("do_sample") for _, settings in asked):
            texts: list[str] = super().generate_until(requests, disable_tqdm=True)
            return texts
        keys = [digest(["lm-eval generate", 1, self.policy.identity, text, settings]) for text, settings in asked]
        found = self.policy.kept(keys)
        missing = [i for i, key in enumerate(keys) if key not in found]
        missing.sort(key=lambda i: (-len(asked[i][0]), i))
        self._expect(len(missing))
        for start in range(0, len(missing), self._rows):
            part = missing[start : start + self._rows]
            fresh = super().generate_until([requests[i] for i in part], disable_tqdm=True)
            found |= dict(zip((keys[i] for i in part), fresh, strict=True))
            self.policy.keep({keys[i]: found[keys[i]] for i in part})
            self._progress(len(part))
        return [found[key] for key in keys]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """By the tokenizer's own template; a policy that is told something more is told it in every user turn."""
        told = self.policy.told(chat_history)
        text: str = super().apply_chat_template(told, add_generation_prompt=add_generation_prompt)
        return text

    def get_model_info(self) -> dict[str, Any]:
        """Nothing: the policy is named by our own results, and the Hub is not asked."""
        return {}
