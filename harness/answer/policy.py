"""A policy in memory: chat rendering, cached batched sampling, and log-probabilities of given answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from harness.answer.chat import Messages, render
from harness.answer.continuations import score
from harness.budget.meter import Meter
from harness.store.json_files import digest
from harness.store.row_cache import RowCache
from sail.prefill import left_pad, positions, prefill
from sail.sampling import sample
from sail.types import SAMPLER_VERSION, Completion, Request

Progress = Callable[[int], None]


class Policy:
    """A model with its tokenizer; ``identity`` (a stage key) names its weights in caches."""

    def __init__(
        self, model: Any, tokenizer: Any, identity: str, *, meter: Meter, cache: RowCache | None, batch_size: int = 64
    ) -> None:
        self.model = meter.attach(model)
        self.tokenizer = tokenizer
        self.identity = identity
        self.instruction = ""
        self.meter = meter
        self._cache = cache
        self._batch_size = batch_size

    def instructed(self, instruction: str) -> Policy:
        """The same model in memory, asked something more at the end of each user turn."""
        other = copy(self)
        other.instruction = instruction
        other.identity = f"{self.identity}+{digest(instruction)}"
        return other

    def told(self, messages: Messages) -> Messages:
        """A conversation as this policy is asked: its instruction ends each user turn."""
        if not self.instruction:
            return messages
        return [
            m | {"content": f"{m['content']}\n\n{self.instruction}"} if m["role"] == "user" else m for m in messages
        ]

    def render(self, messages: Messages) -> tuple[int, ...]:
        """Token ids of a conversation with the assistant's turn opened, as this policy is asked."""
        return tuple(render(self.tokenizer, self.told(messages)))

    @property
    def sampler(self) -> str:
        """Name of the weights and of what samples from them, in caches."""
        return self.identity

    @property
    def eos_ids(self) -> list[int]:
        """Ids that end an answer."""
        configured = self.model.generation_config.eos_token_id
        if configured is None:
            configured = self.tokenizer.eos_token_id
        return list(configured) if isinstance(configured, list) else [configured]

    def text(self, completion: Completion) -> str:
        """Decoded answer, special tokens left out."""
        decoded: str = self.tokenizer.decode(list(completion.ids), skip_special_tokens=True)
        return decoded.strip()

    def sample(
        self, requests: Sequence[Request], progress: Progress | None = None, *, priced: bool = False
    ) -> list[Completion]:
        """Answers in request order; new ones are stored batch by batch, with what they cost.

        Those already in the cache cost nothing; with ``priced`` they are charged what they cost when they were made,
        for a price that must not depend on what happened to be there.
        """
        keys = [
            digest(["sample", SAMPLER_VERSION, self.sampler, r.prompt, r.max_new_tokens, r.temperature, r.key])
            for r in requests
        ]
        found = self._cache.get(keys) if self._cache else {}
        if priced:
            found = {key: value for key, value in found.items() if value[3:]}
            for value in found.values():
                for quantity, amount in value[3].items():
                    self.meter.charge(quantity, amount)
        missing = [i for i, key in enumerate(keys) if key not in found]
        done: dict[int, Completion] = {i: _restore(found[k]) for i, k in enumerate(keys) if k in found}
        if progress is not None and done:
            progress(len(done))

        before = self.meter.reading()

        def keep(rows: list[int], batch: list[Completion]) -> None:
            nonlocal before
            now = self.meter.reading()
            cost = {q: round((now[q] - before.get(q, 0)) / len(rows), 6) for q in now if now[q] != before.get(q, 0)}
            before = now
            if self._cache:
                kept = [(keys[missing[r]], [c.ids, c.logps, c.stopped, cost]) for r, c in zip(rows, batch, strict=True)]
                self._cache.put(kept, replace=priced)
            if progress is not None:
                progress(len(rows))

        answers = self._generate([requests[i] for i in missing], keep) if missing else []
        done.update(zip(missing, answers, strict=True))
        return [done[i] for i in range(len(requests))]

    def _generate(
        self, requests: list[Request], keep: Callable[[list[int], list[Completion]], None]
    ) -> list[Completion]:
        pad = self.tokenizer.pad_token_id
        return sample(self.model, requests, eos_ids=self.eos_ids, pad_id=pad, batch_size=self._batch_size, on_rows=keep)

    def token_logps(
        self,
        rows: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> list[list[float]]:
        """Log-probabilities (nats) of each completion token given (prompt ids, completion ids). Cached."""
        import torch

        keys = [digest(["logps", 1, self.identity, list(prompt), list(answer)]) for prompt, answer in rows]
        found: dict[str, list[float]] = self._cache.get(keys) if self._cache else {}
        order = [i for i, key in enumerate(keys) if key not in found]
        order.sort(key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            sequences = [[*rows[i][0], *rows[i][1]] for i in part]
            keep = max(len(rows[i][1]) for i in part) + 1
            ids, mask = left_pad(sequences, self.tokenizer.pad_token_id, self.model.device)
            with torch.no_grad():
                logits = self.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions(mask),
                    use_cache=False,
                    logits_to_keep=keep,
                ).logits.float()
                logps = torch.log_softmax(logits[:, :-1], -1)
                chosen = logps.gather(-1, ids[:, -logits.shape[1] + 1 :, None])[..., 0].tolist()
            fresh = {keys[i]: v[len(v) - len(rows[i][1]) :] for i, v in zip(part, chosen, strict=True)}
            found.update(fresh)
            if self._cache:
                self._cache.put(fresh.items())
            if progress is not None:
                progress(len(part))
        return [found[key] for key in keys]

    def continuation_logps(
        self,
        rows: Sequence[tuple[Sequence[int], Sequence[int]]],
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> list[tuple[float, bool]]:
        """Summed log-probability (nats) of each completion given (prompt ids, completion ids), and whether it is the
        greedy one; what rows share is computed once (:mod:`harness.answer.continuations`). Cached."""
        keys = self._keys("continuation", rows)
        found: dict[str, tuple[float, bool]] = {k: (v[0], v[1]) for k, v in self.kept(keys).items()}
        missing = [i for i, key in enumerate(keys) if key not in found]
        if progress is not None and len(missing) < len(rows):
            progress(len(rows) - len(missing))

        def keep(places: list[int], values: list[tuple[float, bool]]) -> None:
            fresh = {keys[missing[place]]: value for place, value in zip(places, values, strict=True)}
            found.update(fresh)
            self.keep(fresh)
            if progress is not None:
                progress(len(places))

        score(
            self.model,
            [rows[i] for i in missing],
            pad_id=self.tokenizer.pad_token_id,
            batch_size=batch_size,
            on_rows=keep,
        )
        return [found[key] for key in keys]

    def _keys(self, kind: str, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[str]:
        """Keys of rows; a prompt is hashed once."""
        prompts: dict[tuple[int, ...], str] = {}
        for prompt, _ in rows:
            if tuple(prompt) not in prompts:
                prompts[tuple(prompt)] = digest(list(prompt))
        return [digest([kind, 1, self.identity, prompts[tuple(prompt)], list(answer)]) for prompt, answer in rows]

    def kept(self, keys: Sequence[str]) -> dict[str, Any]:
        """Stored results by key; absent keys are left out."""
        return self._cache.get(keys) if self._cache else {}

    def uncached(self) -> Policy:
        """The same model in memory, computing everything anew."""
        other = copy(self)
        other._cache = None
        return other

    def keep(self, rows: Mapping[str, Any]) -> None:
        """Store results by key."""
        if self._cache:
            self._cache.put(rows.items())

    def next_token_logps(
        self, contexts: Sequence[Sequence[int]], candidates: Sequence[int], batch_size: int = 16
    ) -> list[list[float]]:
        """Log-probabilities (nats) of each candidate id as the next token of each context. Cached."""
        import torch

        keys = [digest(["next", 1, self.identity, list(c), list(candidates)]) for c in contexts]
        found = self._cache.get(keys) if self._cache else {}
        missing = [i for i, key in enumerate(keys) if key not in found]
        missing.sort(key=lambda i: len(contexts[i]))
        for start in range(0, len(missing), batch_size):
            part = missing[start : start + batch_size]
            cache, tokens, mask, place = prefill(
                self.model, [tuple(contexts[i]) for i in part], self.tokenizer.pad_token_id
            )
            with torch.no_grad():
                logits = self.model(
                    input_ids=tokens, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True
                ).logits[:, -1]
                values = torch.log_softmax(logits.float(), -1)[:, list(candidates)].tolist()
            fresh = {keys[i]: v for i, v in zip(part, values, strict=True)}
            found.update(fresh)
            if self._cache:
                self._cache.put(fresh.items())
        return [found[key] for key in keys]


def _restore(value: Any) -> Completion:
    ids, logps, stopped = value[:3]
    return Completion(tuple(ids), tuple(logps), bool(stopped))
