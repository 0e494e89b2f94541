"""The meter that fills a ledger: it sits on the model's backbone and LM head, the optimisers and the oracle, not in the
method, so that a method cannot spend unseen."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from harness.budget.budget import Budget
from harness.budget.enforcement import BudgetExceededError, BudgetGuard
from harness.budget.flops import Shape, backward, forward, head, head_backward
from harness.budget.fused_head import watch_fused_head
from harness.budget.ledger import Ledger
from harness.budget.stored_pairs import StoredPairs
from harness.budget.watched_model import WatchedModel, backbone_of, recomputes_activations


class _Forward(NamedTuple):
    """A forward pass: the phase that it is charged to, whether it used a cache and how many of its positions, and its
    kind for the FLOPs."""

    phase: str
    cached: bool
    kind: str
    positions: int = 0


def _inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Token ids of a forward (N, L), or its embeddings (N, L, width), and its attention mask, if any: of the new
    positions (N, L), or of all pairs of positions (N, 1, L, L)."""
    ids = kwargs.get("input_ids", args[0] if args else None)
    ids = kwargs["inputs_embeds"] if ids is None else ids
    mask = kwargs.get("attention_mask")
    return ids, mask[:, -ids.shape[1] :] if mask is not None and mask.dim() == 2 else mask


def _tokens(ids: Any, mask: Any) -> int:
    """Positions of a forward without padding, which a mask of pairs of positions does not let see itself.

    Args:
        ids: see :func:`_inputs`.
        mask: see :func:`_inputs`.
    """
    if mask is None:
        return int(ids.shape[:2].numel())
    if mask.dim() == 2:
        return int(mask.sum())
    if mask.shape[-1] != ids.shape[1]:  # with a cache
        return int(ids.shape[:2].numel())
    sees_itself = mask[:, 0].diagonal(dim1=-2, dim2=-1)
    return int((sees_itself == 0 if sees_itself.is_floating_point() else sees_itself).sum())


class Meter:
    """Counts what passes through a model into a ledger.

    A forward with gradient is training; one that fills a key-value cache is generation; any other is the reference
    (or what ``phase`` says, in evaluation). A token counts as generated when the LM head scores a position of a
    forward that used a cache. Backward passes are counted when they run. Two rows of a training forward are one pair.
    While a method trains, time belongs to the phase of the last forward. A copy of a metered model is metered too.

    Attributes:
        ledger: what it fills.
        trained: shape of the model in the last training forward; None before one.
        trains_stored: whether all rows of the last training forward are those of stored pairs.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.trained: Shape | None = None
        self.trains_stored = False
        self._models: list[WatchedModel] = []
        self._copies: list[weakref.ref[Any]] = []
        self._guard: BudgetGuard | None = None
        self._stored_pairs: StoredPairs | None = None
        self._phase: str | None = None
        self._timed_phase: str | None = None
        self._since = time.perf_counter()
        self._last = _Forward("reference", False, "forward")

    def __deepcopy__(self, memo: Any) -> Meter:
        return self

    def attach(self, model: Any) -> Any:
        """Meter a transformers model and return it. One that is metered already stays as it is."""
        if any(watched.model() is model for watched in self._models):
            return model
        backbone = backbone_of(model)
        backbone.register_forward_pre_hook(self._before_forward, with_kwargs=True)
        backbone.register_forward_hook(self._after_forward, with_kwargs=True)
        self._models = [w for w in self._models if w.model() is not None] + [WatchedModel(model)]
        output = model.get_output_embeddings()
        if output is not None:  # a reward model has none
            output.register_forward_hook(self._head_scored)
        return model

    # Training within a budget

    def charge_stored_pairs(self, pairs: Sequence[dict[str, Any]], price: Mapping[str, float], max_length: int) -> None:
        """Charge each stored pair at its first use in a training forward, until :meth:`enforce` ends.

        Args:
            pairs: rows with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.
            price: of one pair, by quantity, as in the ledger.
            max_length: tokens at which training cuts a row.
        """
        self._stored_pairs = StoredPairs(pairs, price, max_length) if pairs else None

    @contextmanager
    def enforce(self, budget: Budget) -> Iterator[None]:
        """Count every optimiser's updates of metered weights while a method trains, and stop one that goes on after the
        budget is spent: at the end of the first step that it should not have taken.

        Raises:
            BudgetExceededError: the method did; also if it swallowed the first exception.
        """
        from torch.optim.optimizer import register_optimizer_step_post_hook

        watch_fused_head(self)
        guard = self._guard = BudgetGuard(budget, self.ledger, self._alive)
        handle = register_optimizer_step_post_hook(guard.after_update)
        self._time("setup")
        try:
            yield
        finally:
            handle.remove()
            self._time(None)
            self._guard = self._stored_pairs = None
        if guard.stopped:
            raise BudgetExceededError(guard.stopped)

    # Phases

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time, and all forwards inside, to one phase."""
        before, timed_before = self._phase, self._timed_phase
        self._time(name)
        self._phase = name
        try:
            yield
        finally:
            self._phase = before
            self._time(timed_before)

    @property
    def current(self) -> str | None:
        """The phase that :meth:`phase` has set; None outside of it."""
        return self._phase

    def reading(self) -> dict[str, float]:
        """What the current phase was charged so far, by quantity; outside of :meth:`phase`, what sampling was."""
        self.flush()
        return dict(self.ledger.entries.get(self._phase or "generate", {}))

    def charge(self, quantity: str, amount: float) -> None:
        """Charge the current phase (outside of :meth:`phase`, sampling) with something that no forward shows."""
        self.ledger.add(self._phase or "generate", quantity, amount)

    def charge_step(self, seconds: float) -> None:
        """Charge training with seconds that an earlier one took for a part of the same step."""
        for phase in (self._phase or "train", "wall"):
            self.ledger.add(phase, "seconds", seconds)

    def flush(self) -> None:
        """Charge the seconds of the phase that is timed now, so far."""
        self._time(self._timed_phase)

    def _time(self, phase: str | None) -> None:
        """Charge the seconds since the last call to the phase that was timed, and time this one from now on."""
        now = time.perf_counter()
        if self._timed_phase is not None:
            self.ledger.add(self._timed_phase, "seconds", now - self._since)
        self._since, self._timed_phase = now, phase

    # Hooks

    def _before_forward(self, backbone: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what the caller asks for: its phase, and the rows that are trained on."""
        ids, mask = _inputs(args, kwargs)
        rows, length = ids.shape[:2]
        self._last = self._classified(kwargs.get("past_key_values"), length)
        phase = self._last.phase
        if self._guard is not None and self._phase is None:
            self._time(phase)
        if phase == "train":
            self.trained = self._watched(backbone).shape()
            self.ledger.add("train", "rows", rows)
            self.trains_stored = False
            if self._stored_pairs is not None and ids.dim() == 2:
                self.trains_stored = self._stored_pairs.charge(ids, mask, self.ledger)

    def _classified(self, cache: Any, length: int) -> _Forward:
        import torch

        cached = cache is not None
        phase = self._phase or ("train" if torch.is_grad_enabled() else "generate" if cached else "reference")
        kind = "forward" if not cached else "prefill" if length > 1 else "decode"
        return _Forward(phase, cached, kind, int(cache.get_seq_length()) if cached else 0)

    def _after_forward(self, backbone: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Count what was computed: rows that share a prompt are fewer than those that the caller gave."""
        phase, _, kind, cached = self._last
        ids, mask = _inputs(args, kwargs)
        rows, length = ids.shape[:2]
        self.ledger.add(phase, "tokens", _tokens(ids, mask))
        shape = self._watched(backbone).shape(unchanged=kind == "decode" or phase == "train")
        self.ledger.add(phase, f"{kind}_flops", forward(shape, rows, length, cached))
        hidden = output[0]
        if not hidden.requires_grad:
            return
        needed = backward(shape, rows, length)
        more = backward(shape.computed, rows, length) - needed
        if backbone.training and recomputes_activations(backbone):
            more += forward(shape, rows, length)
        hidden.register_hook(partial(self._count_backward, phase, needed, more))

    def _count_backward(self, phase: str, needed: int, more: int, gradient: Any) -> None:
        """Count a backward pass. What gradient checkpointing computes beyond it counts towards no budget: whether
        memory has to be saved is a matter of the machine."""
        self.ledger.add(phase, "backward_flops", needed)
        if more:
            self.ledger.add(phase, "recomputed_flops", more)

    def _head_scored(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        self._count_head(args[0].numel() // args[0].shape[-1], module.weight, output, fused=False)
        if self._last.cached:
            self.ledger.add(self._last.phase, "generated", args[0].shape[0])

    def fused_head_scored(self, hidden: Any, weight: Any, logps: Any) -> None:
        """Count a pass of TRL's fused LM head (:mod:`harness.budget.fused_head`) if the weight is a metered model's.

        Args:
            hidden: inputs of the head, (N, hidden size).
            weight: of the head.
            logps: its first output, with gradient if it trains.
        """
        heads = [m.get_output_embeddings() for w in self._models if (m := w.model()) is not None]
        if any(h is not None and h.weight is weight for h in heads):
            self._count_head(hidden.shape[0], weight, logps, fused=True)

    def _count_head(self, positions: int, weight: Any, output: Any, *, fused: bool) -> None:
        phase, _, kind, _ = self._last
        vocabulary, hidden = weight.shape
        shape = Shape((), 0, 0, 0, hidden, vocabulary, bool(weight.requires_grad), 0)
        self.ledger.add(phase, f"{kind}_flops", head(shape, positions))
        if output.requires_grad:
            output.register_hook(partial(self._count_backward, phase, head_backward(shape, positions, fused=fused), 0))

    # Metered models

    def _watched(self, backbone: Any) -> WatchedModel:
        """The model of a backbone; a copy's, which nobody attached, is taken to be shaped as the last one."""
        for watched in reversed(self._models):
            model = watched.model()
            if model is not None and backbone_of(model) is backbone:
                return watched
        if all(ref() is not backbone for ref in self._copies):
            self._copies.append(weakref.ref(backbone))
        return self._models[-1]

    def _alive(self) -> list[Any]:
        """The metered models that still exist, and the backbones of copies."""
        references = (*[w.model for w in self._models], *self._copies)
        return [model for ref in references if (model := ref()) is not None]
