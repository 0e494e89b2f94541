"""lm-eval's model interface around a policy in memory. It imports lm-eval and torch: import it inside functions.

``HFLM`` itself encodes, truncates, windows and stops, so that a number is plain lm-eval's by construction; only the
forwards are ours (shared prefixes and contexts, rows kept as they come).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from harness.answer.policy import Policy
from harness.errors import UserError
from harness.store.json_files import digest

TokenRequest = tuple[Any, list[int], list[int]]
"""As lm-eval passes it on: key of its own cache, context ids, continuation ids."""


class PolicyLM(HFLM):  # type: ignore[misc]
    """A :class:`Policy` as lm-eval asks it: ``loglikelihood``, ``loglikelihood_rolling`` and ``generate_until``.

    ``cut``: by task and place of an item among those asked, how many tokens of its prompt the model's length left no
    room for (those from the left). Texts for a perplexity are windowed, not cut.

    Args:
        policy: who answers; its rows are kept as they come.
        batch_size: rows of a forward pass.
        progress: called with the number of rows that a batch has finished.
        expect: called with the number of rows to come, before ``progress`` counts them.
    """

    def __init__(
        self,
        policy: Policy,
        batch_size: int,
        progress: Callable[[int], None] = lambda done: None,
        expect: Callable[[int], None] = lambda total: None,
    ) -> None:
        with policy.held.computing():  # HFLM works where it finds the model
            super().__init__(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=batch_size)
        self.policy, self._batch_rows, self._progress, self._expect = policy, batch_size, progress, expect
        self.cut: dict[tuple[str, int], int] = {}
        self._cuts: list[int] = []

    def _loglikelihood_tokens(
        self, requests: Sequence[TokenRequest], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Cut from the left to the model's length as ``HFLM`` cuts.

        Raises:
            UserError: an option alone is longer than that, or has no token.
        """
        rows, longest = [], self.max_length + 1
        for _, context, continuation in requests:
            if not 0 < len(continuation) < longest:
                raise UserError(
                    f"An option of lm-eval's task has {len(continuation):,} tokens, but the model takes 1 to "
                    f"{self.max_length:,}: leave its question out, or the benchmark for this model"
                )
            whole = (context + continuation)[-longest:]
            rows.append((whole[: -len(continuation)], continuation))
        self._cuts = [max(0, len(context) + len(continuation) - longest) for _, context, continuation in requests]
        self._expect(len(rows))
        return [*self.policy.continuation_logps(rows, self._batch_rows, self._progress)]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As ``HFLM``'s, with :attr:`cut`."""
        results: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)
        self._record_cuts(requests, self._cuts)
        return results

    def _record_cuts(self, requests: Sequence[Any], cuts: Sequence[int]) -> None:
        for request, tokens in zip(requests, cuts, strict=True):
            if tokens:
                place = (request.task_name, request.doc_id)
                self.cut[place] = max(tokens, self.cut.get(place, 0))

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Longest contexts first, kept batch by batch; sampled answers are neither kept nor found again.

        Raises:
            UserError: the answers may be as long as the model's whole length.
        """
        prompts = [request.args for request in requests]  # (text, settings)
        new_tokens = [normalize_gen_kwargs(settings, self.max_gen_toks)["max_gen_toks"] for _, settings in prompts]
        longest = max(new_tokens, default=0)
        if longest >= self.max_length:
            raise UserError(
                f"lm-eval's task asks for answers of up to {longest} tokens, but the model takes {self.max_length} in "
                "all: leave it out for this model"
            )
        lengths = [len(self.tok_encode(text)) for text, _ in prompts]
        self._record_cuts(
            requests, [max(0, n + new - self.max_length) for n, new in zip(lengths, new_tokens, strict=True)]
        )
        if any(settings.get("do_sample") for _, settings in prompts):
            return self._generated(requests)
        keys = [digest(["lm-eval generate", 1, self.policy.identity, text, settings]) for text, settings in prompts]
        answers = self.policy.read_cache(keys)
        missing = [i for i, key in enumerate(keys) if key not in answers]
        missing.sort(key=lambda i: (-len(prompts[i][0]), i))
        self._expect(len(missing))
        for start in range(0, len(missing), self._batch_rows):
            part = missing[start : start + self._batch_rows]
            fresh = self._generated([requests[i] for i in part])
            answers |= dict(zip((keys[i] for i in part), fresh, strict=True))
            self.policy.write_cache({keys[i]: answers[keys[i]] for i in part})
            self._progress(len(part))
        return [answers[key] for key in keys]

    def _generated(self, requests: Sequence[Any]) -> list[str]:
        """As ``HFLM``'s, with the model as the policy computes with it."""
        with self.policy.held.computing():
            texts: list[str] = super().generate_until(list(requests), disable_tqdm=True)
        return texts

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """By the tokenizer's own template. What a policy adds to each turn of the user is added here too."""
        messages = self.policy.instructed(chat_history)
        text: str = super().apply_chat_template(messages, add_generation_prompt=add_generation_prompt)
        return text

    def get_model_info(self) -> dict[str, Any]:
        """Nothing: the policy is named by our own results, and the Hub stays out of it."""
        return {}
