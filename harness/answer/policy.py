"""A policy in memory: chat rendering, cached batched sampling, and log-probabilities of given answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

from harness.answer.chat import Messages, render
from harness.answer.continuations import ScoredContinuation, score_continuations
from harness.answer.final_answer import FinalAnswer, final_answer, opens_thoughts
from harness.answer.held_models import Held
from harness.answer.lower_blocks import LowerBlocks, part_of, read_prompts
from harness.answer.row_costs import RowCosts, charge_stored_costs
from harness.answer.scored_positions import PromptAndAnswer, answer_logps
from harness.answer.window import check_window
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.recipe.endpoint import Thinking
from harness.store.json_files import digest
from harness.store.row_cache import RowCache
from harness.store.versions import LOGPS_VERSION
from sail.prefill import prefill
from sail.sampling import end_ids, sample
from sail.types import SAMPLER_VERSION, Completion, Request

Progress = Callable[[int], None]
"""Called with the number of newly finished rows."""


OPENING_TOKENS = 16
"""Tokens at the end of a prompt that hold the tag of a thinking block, if its template opens one."""


class Policy:
    """A model with its tokenizer.

    Args:
        model: a causal language model of transformers, or a :class:`Held` one that says how it is computed with.
        tokenizer: its tokenizer, with a chat template.
        identity: names the weights in cache keys (a stage key).
        meter: is attached to the model and charged with all that it computes.
        cache: keeps answers and log-probabilities; None keeps nothing.
        batch_size: answers sampled at once.
        thinking: whether benchmarks judge answers without their thoughts.
        lower: the model's lowest blocks, if other policies share them and read the same texts.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        identity: str,
        *,
        meter: Meter,
        cache: RowCache | None,
        batch_size: int = 64,
        thinking: Thinking = "strip",
        lower: LowerBlocks | None = None,
    ) -> None:
        self.held = model if isinstance(model, Held) else Held(model)
        self.model = meter.attach(self.held.model)
        self.tokenizer = tokenizer
        self.identity = identity
        self._asker = ""
        self.instruction = ""
        self.meter = meter
        self._cache = cache
        self._batch_size = batch_size
        self.thinking = thinking
        self._lower = lower

    def with_instruction(self, instruction: str) -> Policy:
        """The same model in memory, with an instruction added to the end of each user turn."""
        other = copy(self)
        other.instruction = instruction
        other.identity = f"{self.identity}+{digest(instruction)}"
        return other

    def asked_by(self, identity: str) -> Policy:
        """The same model in memory, with scores that are cached for one policy under test.

        So what a row of a table costs does not depend on what other rows asked before. Its own answers stay shared.

        Args:
            identity: of the policy under test; "" for scores that all rows share.
        """
        other = copy(self)
        other._asker = identity
        if identity and self._lower is not None:
            other._lower = self._lower.of_prompts  # nobody else reads these answers
        return other

    def without_cache(self) -> Policy:
        """The same model in memory, computing everything anew."""
        other = copy(self)
        other._cache = other._lower = None
        return other

    def instructed(self, messages: Messages) -> Messages:
        """A conversation as this policy gets it: its instruction, if any, ends each user turn."""
        if not self.instruction:
            return messages
        return [
            m | {"content": f"{m['content']}\n\n{self.instruction}"} if m["role"] == "user" else m for m in messages
        ]

    def render(self, messages: Messages) -> tuple[int, ...]:
        """Token ids of a conversation as this policy gets it, with the assistant's turn opened."""
        return tuple(render(self.tokenizer, self.instructed(messages)))

    @property
    def sampler_identity(self) -> str:
        """Names the weights and the engine that samples from them, in cache keys."""
        return self.identity

    @property
    def _scorer(self) -> list[Any]:
        """What the keys of cached log-probabilities begin with."""
        return [LOGPS_VERSION, self.identity, *([self._asker] if self._asker else [])]

    @property
    def eos_ids(self) -> list[int]:
        """Ids that end an answer."""
        return end_ids(self.model, self.tokenizer)

    def text(self, completion: Completion) -> str:
        """Decoded answer, without special tokens."""
        decoded: str = self.tokenizer.decode(list(completion.ids), skip_special_tokens=True)
        return decoded.strip()

    def final(self, completion: Completion, request: Request) -> FinalAnswer:
        """What benchmarks judge of an answer. Labels for training see all of it (:meth:`text`)."""
        opened = opens_thoughts(self.tokenizer.decode(list(request.prompt[-OPENING_TOKENS:])))
        return final_answer(self.text(completion), completion.stopped, self.thinking, opened=opened)

    def sample(
        self,
        requests: Sequence[Request],
        progress: Progress | None = None,
        *,
        priced: bool = False,
        shared: bool = False,
    ) -> list[Completion]:
        """Answers in request order. New ones are cached batch by batch, with what they cost.

        Args:
            requests: prompts with their sampling settings.
            progress: called with the number of newly finished answers.
            priced: charge answers from the cache what they cost when they were sampled, for a price that does not
                depend on what the cache held. Otherwise they cost nothing.
            shared: the other policies of a comparison get the same prompts, so that what shared blocks give for them
                is kept.

        Raises:
            UserError: a prompt with its longest answer passes the model's window, or holds an id without an embedding.
        """
        self._check_window((len(r.prompt), r.max_new_tokens) for r in requests)
        self._check_embedded(r.prompt for r in requests)
        keys = [
            digest(["sample", SAMPLER_VERSION, self.sampler_identity, r.prompt, r.max_new_tokens, r.temperature, r.key])
            for r in requests
        ]
        cached = self.read_cache(keys)
        if priced:
            cached = {key: value for key, value in cached.items() if value[3:]}  # those that have a cost
            charge_stored_costs(self.meter, (value[3] for value in cached.values()))
        missing = [i for i, key in enumerate(keys) if key not in cached]
        answers = {i: _completion(cached[k]) for i, k in enumerate(keys) if k in cached}
        if progress is not None and answers:
            progress(len(answers))
        costs = RowCosts(self.meter)

        def keep(indices: list[int], batch: list[Completion]) -> None:
            cost = costs.of_batch(len(indices))
            if self._cache:
                rows = [
                    (keys[missing[i]], [c.ids, c.logps, c.stopped, cost]) for i, c in zip(indices, batch, strict=True)
                ]
                self._cache.put(rows, replace=priced)
            if progress is not None:
                progress(len(indices))

        lower = self._lower if shared else None
        new_answers = self._generate([requests[i] for i in missing], keep, lower) if missing else []
        answers.update(zip(missing, new_answers, strict=True))
        return [answers[i] for i in range(len(requests))]

    def _generate(
        self,
        requests: list[Request],
        on_rows: Callable[[list[int], list[Completion]], None],
        lower: LowerBlocks | None = None,
    ) -> list[Completion]:
        pad_id, size = self.tokenizer.pad_token_id, self._batch_size
        with self.held.computing():
            return sample(
                self.model,
                requests,
                eos_ids=self.eos_ids,
                pad_id=pad_id,
                batch_size=size,
                on_rows=on_rows,
                read=partial(read_prompts, lower),
            )

    def token_logps(
        self, rows: Sequence[PromptAndAnswer], batch_size: int = 16, progress: Progress | None = None
    ) -> list[list[float]]:
        """Log-probabilities (nats) of each answer token given the prompt and the tokens before it. Cached.

        Args:
            rows: (prompt ids, answer ids).
            batch_size: rows of a forward pass.
            progress: called with the number of newly computed rows.

        Returns:
            For each row one number a token of the answer.

        Raises:
            UserError: a row passes the model's window, or holds an id without an embedding.
        """
        self._check_window((len(prompt), len(answer)) for prompt, answer in rows)
        self._check_embedded(ids for row in rows for ids in row)
        keys = [digest(["logps", *self._scorer, list(prompt), list(answer)]) for prompt, answer in rows]
        results: dict[str, list[float]] = self.read_cache(keys)
        missing = [i for i, key in enumerate(keys) if key not in results]
        missing.sort(key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            with self.held.computing():
                logps = answer_logps(self.model, [rows[i] for i in batch], self.tokenizer.pad_token_id)
            new_results = {keys[i]: values for i, values in zip(batch, logps, strict=True)}
            results.update(new_results)
            self.write_cache(new_results)
            if progress is not None:
                progress(len(batch))
        return [results[key] for key in keys]

    def summed_logps(
        self, rows: Sequence[PromptAndAnswer], batch_size: int = 16, progress: Progress | None = None
    ) -> list[float]:
        """Summed log-probability (nats) of each answer given its prompt. Cached.

        Args:
            rows: (prompt ids, answer ids).
            batch_size: sequences in one forward pass.
            progress: called with the number of newly finished rows.

        Raises:
            UserError: a row passes the model's window, or holds an id without an embedding.
        """
        return [scored.logp for scored in self.continuation_logps(rows, batch_size, progress)]

    def continuation_logps(
        self, rows: Sequence[PromptAndAnswer], batch_size: int = 16, progress: Progress | None = None
    ) -> list[ScoredContinuation]:
        """Summed log-probability (nats) of each completion given its prompt, and whether it is the greedy one. Cached.

        What rows share is computed once (:mod:`harness.answer.continuations`).

        Args:
            rows: (prompt ids, completion ids).
            batch_size: sequences in one forward pass.
            progress: called with the number of newly finished rows.

        Raises:
            UserError: a row passes the model's window, or holds an id without an embedding.
        """
        self._check_window((len(prompt), len(answer) - 1) for prompt, answer in rows)  # the last token is not read
        self._check_embedded(ids for row in rows for ids in row)
        keys = self._keys("continuation", rows)
        results = {k: ScoredContinuation(v[0], v[1]) for k, v in self.read_cache(keys).items()}
        missing = [i for i, key in enumerate(keys) if key not in results]
        if progress is not None and len(missing) < len(rows):
            progress(len(rows) - len(missing))

        def keep(indices: list[int], values: list[ScoredContinuation]) -> None:
            new_results = {keys[missing[i]]: value for i, value in zip(indices, values, strict=True)}
            results.update(new_results)
            self.write_cache(new_results)
            if progress is not None:
                progress(len(indices))

        left, pad_id = [rows[i] for i in missing], self.tokenizer.pad_token_id
        with self.held.computing():
            score_continuations(self.model, left, pad_id=pad_id, batch_size=batch_size, on_rows=keep, lower=self._lower)
        return [results[key] for key in keys]

    def _check_window(self, lengths: Iterable[tuple[int, int]]) -> None:
        """Lengths: of prompts and of their answers."""
        check_window(self.model.config, *max(lengths, key=sum, default=(0, 0)))

    def _check_embedded(self, sequences: Iterable[Sequence[int]]) -> None:
        """Refuse an id without an embedding: a special token that the model does not know, in a text."""
        largest = max((max(ids, default=0) for ids in sequences), default=0)
        if largest >= self.model.get_input_embeddings().weight.shape[0]:
            token = self.tokenizer.convert_ids_to_tokens(largest)
            raise UserError(
                f"A text holds {token!r}, a token without an embedding in the model: take it out of the data"
            )

    def _keys(self, kind: str, rows: Sequence[PromptAndAnswer]) -> list[str]:
        """Cache keys of rows. Each prompt is hashed once."""
        prompt_digests: dict[tuple[int, ...], str] = {}
        for prompt, _ in rows:
            if tuple(prompt) not in prompt_digests:
                prompt_digests[tuple(prompt)] = digest(list(prompt))
        begin = [kind, *self._scorer]
        return [digest([*begin, prompt_digests[tuple(prompt)], list(answer)]) for prompt, answer in rows]

    def next_token_logps(
        self, contexts: Sequence[Sequence[int]], candidates: Sequence[int], batch_size: int = 16
    ) -> list[list[float]]:
        """Log-probabilities (nats) of each candidate id as the next token of each context. Cached.

        Args:
            contexts: token ids.
            candidates: token ids, the same for every context.
            batch_size: contexts of a forward pass.

        Returns:
            For each context one number a candidate.

        Raises:
            UserError: a context passes the model's window.
        """
        import torch

        self._check_window((len(context), 0) for context in contexts)
        keys = [digest(["next", *self._scorer, list(c), list(candidates)]) for c in contexts]
        results = self.read_cache(keys)
        missing = [i for i, key in enumerate(keys) if key not in results]
        missing.sort(key=lambda i: len(contexts[i]))
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            prompts, pad_id = [tuple(contexts[i]) for i in batch], self.tokenizer.pad_token_id
            with self.held.computing(), part_of(self._lower, "next", prompts, pad_id).running(), torch.no_grad():
                key_values, tokens, mask, place = prefill(self.model, prompts, pad_id)
                logits = self.model(
                    input_ids=tokens,
                    attention_mask=mask,
                    position_ids=place,
                    past_key_values=key_values,
                    use_cache=True,
                ).logits[:, -1]
                values = torch.log_softmax(logits.float(), -1)[:, list(candidates)].tolist()
            new_results = {keys[i]: v for i, v in zip(batch, values, strict=True)}
            results.update(new_results)
            self.write_cache(new_results)
        return [results[key] for key in keys]

    def read_cache(self, keys: Sequence[str]) -> dict[str, Any]:
        """Cached results by key; absent keys are left out."""
        return self._cache.get(keys) if self._cache else {}

    def write_cache(self, results: Mapping[str, Any]) -> None:
        """Cache results by key."""
        if self._cache:
            self._cache.put(results.items())


def _completion(value: Any) -> Completion:
    """The answer of a cache entry: ids, log-probabilities, whether it stopped, and its cost."""
    ids, logps, stopped = value[:3]
    return Completion(tuple(ids), tuple(logps), bool(stopped))
