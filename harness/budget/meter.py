"""The meter that fills a ledger: it sits on the model's backbone and LM head, the optimisers and the oracle, not in the
method, so that a method cannot spend unseen."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from harness.budget.budget import Budget
from harness.budget.flops import Shape, backward, forward, head, head_backward, shape_of
from harness.budget.ledger import Ledger


class BudgetExceededError(RuntimeError):
    """A method went on training after its budget was spent."""


class _Watched:
    """A metered model and its shape, computed again when its weights train or freeze or its adapters change."""

    def __init__(self, model: Any) -> None:
        self.model = weakref.ref(model)
        self._state: Any = None
        self._shape = shape_of(model)

    def shape(self, *, same: bool = False) -> Shape:
        """``same``: nothing can have changed since the last call (a decoding step after its prefill)."""
        model = self.model()
        if same or model is None:  # a copy may outlive what it was copied from
            return self._shape
        adapted = next((m for m in model.modules() if isinstance(getattr(m, "r", None), dict)), None)
        state = (
            tuple(p.requires_grad for p in model.parameters()),
            adapted and (adapted.disable_adapters, tuple(adapted.active_adapters), adapted.merged),
            hasattr(model, "_require_grads_hook"),
        )
        if state != self._state:
            self._state, self._shape = state, shape_of(model)
        return self._shape


class Meter:
    """Counts what passes through a model into a ledger.

    A forward with gradient is training; one that fills a key-value cache is generation; any other is the reference
    (or what ``phase`` says, in evaluation). A token counts as generated when the LM head scores a position of a
    forward that used a cache. Backward passes are counted when they run. Two rows of a training forward are one pair.
    While a method trains, time belongs to the phase of the last forward. A copy of a metered model is metered too.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.budget: Budget | None = None
        self._models: list[_Watched] = []
        self._copies: list[weakref.ref[Any]] = []
        self._phase: str | None = None
        self._charged: str | None = None
        self._since = time.perf_counter()
        self._last: tuple[str, bool, str] = ("reference", False, "forward")
        self._before, self._stopped = "", ""
        self._goods: dict[tuple[int, ...], int] = {}
        self._price: Mapping[str, float] = {}
        self.trained: Shape | None = None  # of the last training forward

    def __deepcopy__(self, memo: Any) -> Meter:
        return self

    def attach(self, model: Any) -> Any:
        """Meter a transformers model and return it."""
        base = getattr(model, model.base_model_prefix, model)
        base.register_forward_pre_hook(self._count, with_kwargs=True)
        base.register_forward_hook(self._forwarded, with_kwargs=True)
        self._models = [w for w in self._models if w.model() is not None] + [_Watched(model)]
        output = model.get_output_embeddings()
        if output is not None:  # a reward model has none
            output.register_forward_hook(self._scored)
        return model

    def sells(self, pairs: Sequence[dict[str, Any]], price: Mapping[str, float], max_length: int) -> None:
        """Charge each stored pair, at its first use in a training forward, ``price`` by quantity (to phase ``data``).

        A pair is used when the model trains on its chosen or its rejected answer; training on an equal answer that the
        policy sampled itself counts as well.
        """
        self._price = price
        self._goods = {
            tuple([*row["prompt_ids"], *row[side]][:max_length]): i
            for i, row in reversed(list(enumerate(pairs)))
            for side in ("rejected_ids", "chosen_ids")
        }

    @contextmanager
    def enforce(self, budget: Budget) -> Iterator[None]:
        """Count every optimiser's updates of metered weights while a method trains, and stop one that goes on after the
        budget is spent: at the end of the first step that it should not have taken.

        Raises:
            BudgetExceededError: the method did; also if it swallowed the first exception.
        """
        from torch.optim.optimizer import register_optimizer_step_post_hook

        _watch_fused_head(self)
        self.budget, self._stopped = budget, ""
        handle = register_optimizer_step_post_hook(self._updated)
        self._before = self._reached()
        self._charge("setup")
        try:
            yield
        finally:
            handle.remove()
            self._charge(None)
            self.budget, self._goods = None, {}
        if self._stopped:
            raise BudgetExceededError(self._stopped)

    def _consumed(self, axis: str) -> float:
        """Spending on an axis as the hooks see it, whatever the method says of itself."""
        if axis == "steps":
            return self.ledger.get("train", "updates")
        if axis == "pairs":
            return self.ledger.get("train", "rows") / 2
        return self.budget.spent(self.ledger, axis) if self.budget else 0.0

    def _reached(self) -> str:
        """The limit of the budget that is reached by now, in words; "" if none is."""
        limits = {self.budget.axis: self.budget.limit} | self.budget.caps if self.budget else {}
        return next((f"{v:g} {axis}" for axis, v in limits.items() if self._consumed(axis) >= v), "")

    def _updated(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        models = [m for ref in (*[w.model for w in self._models], *self._copies) if (m := ref()) is not None]
        ours = {id(p) for model in models for p in model.parameters()}
        if self.budget is None or not any(id(p) in ours for g in optimizer.param_groups for p in g["params"]):
            return
        before = self._before
        self.ledger.add("train", "updates", 1)
        self._before = self._reached()
        if before:
            axis = before.split()[-1]
            self._stopped = (
                f"ignored its budget: it trained on after {before} and was stopped at {self._consumed(axis):g}"
            )
            raise BudgetExceededError(self._stopped)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time, and all forwards inside, to one phase."""
        before, charged = self._phase, self._charged
        self._charge(name)
        self._phase = name
        try:
            yield
        finally:
            self._phase = before
            self._charge(charged)

    @property
    def current(self) -> str | None:
        """The phase that is charged by name, if any."""
        return self._phase

    def reading(self) -> dict[str, float]:
        """What the phase named now was charged so far, by quantity; all sampling if none is named."""
        self.flush()
        return dict(self.ledger.entries.get(self._phase or "generate", {}))

    def charge(self, quantity: str, amount: float) -> None:
        """Charge the phase named now with something that no forward shows."""
        self.ledger.add(self._phase or "generate", quantity, amount)

    def flush(self) -> None:
        """Charge the seconds of the current phase so far."""
        self._charge(self._charged)

    def _charge(self, name: str | None) -> None:
        now = time.perf_counter()
        if self._charged is not None:
            self.ledger.add(self._charged, "seconds", now - self._since)
        self._since, self._charged = now, name

    def _watched(self, module: Any) -> _Watched:
        """The model of a backbone; a copy's, which nobody attached, is taken to be shaped as the last one."""
        for watched in reversed(self._models):
            model = watched.model()
            if model is not None and getattr(model, model.base_model_prefix, model) is module:
                return watched
        if all(ref() is not module for ref in self._copies):
            self._copies.append(weakref.ref(module))
        return self._models[-1]

    def _count(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        ids = kwargs.get("input_ids", args[0] if args else None)
        known = ids is not None
        if ids is None:
            ids = kwargs["inputs_embeds"][..., 0]
        mask = kwargs.get("attention_mask")
        here = None if mask is None or mask.dim() != 2 else mask[:, -ids.shape[1] :]
        real = ids.numel() if here is None else int(here.sum())
        past = kwargs.get("past_key_values")
        length = 0 if past is None else int(past.get_seq_length())
        if self._phase is not None:
            phase = self._phase
        elif torch.is_grad_enabled():
            phase = "train"
        else:
            phase = "reference" if past is None else "generate"
        if self.budget is not None and self._phase is None:
            self._charge(phase)
        part = "forward" if past is None else "prefill" if ids.shape[1] > 1 else "decode"
        self.ledger.add(phase, "tokens", real)
        shape = self._watched(module).shape(same=part == "decode")
        self.ledger.add(phase, f"{part}_flops", forward(shape, ids.shape[0], ids.shape[1], length))
        if phase == "train":
            self.trained = shape
            self.ledger.add("train", "rows", ids.shape[0])
            if self._goods and known:
                self._buy(ids, here)
        self._last = (phase, past is not None, part)

    def _buy(self, ids: Any, mask: Any) -> None:
        rows = ids.tolist()
        keep = [[True] * len(row) for row in rows] if mask is None else mask.bool().tolist()
        used = {
            self._goods.get(tuple(t for t, real in zip(row, real_ones, strict=True) if real))
            for row, real_ones in zip(rows, keep, strict=True)
        }
        self.ledger.bought |= {i for i in used if i is not None}
        if self.ledger.bought:
            count = len(self.ledger.bought)
            self.ledger.entries["data"] = {q: each * count for q, each in self._price.items()} | {"pairs": count}

    def _forwarded(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        hidden = output[0]
        if not hidden.requires_grad:
            return
        shape, (rows, length) = self._watched(module).shape(same=True), hidden.shape[:2]
        amount = backward(shape, rows, length)
        if module.training and _recomputes(module):
            amount += forward(shape, rows, length)
        hidden.register_hook(partial(self._backward, self._last[0], amount))

    def _backward(self, phase: str, amount: int, gradient: Any) -> None:
        self.ledger.add(phase, "backward_flops", amount)

    def _scored(self, module: Any, args: tuple[Any, ...], output: Any) -> None:
        """The LM head scored some positions."""
        self._headed(args[0].numel() // args[0].shape[-1], module.weight, output, fused=False)
        if self._last[1]:
            self.ledger.add(self._last[0], "generated", args[0].shape[0])

    def _headed(self, positions: int, weight: Any, output: Any, *, fused: bool) -> None:
        phase, _, part = self._last
        vocabulary, hidden = weight.shape
        shape = Shape((), 0, 0, 0, hidden, vocabulary, bool(weight.requires_grad), 0)
        self.ledger.add(phase, f"{part}_flops", head(shape, positions))
        if output.requires_grad:
            output.register_hook(partial(self._backward, phase, head_backward(shape, positions, fused=fused)))

    def _fused(self, hidden: Any, weight: Any, output: Any) -> None:
        heads = [m.get_output_embeddings() for w in self._models if (m := w.model()) is not None]
        if any(h is not None and h.weight is weight for h in heads):
            self._headed(hidden.shape[0], weight, output, fused=True)


def _recomputes(module: Any) -> bool:
    """Whether the blocks run again in the backward pass."""
    for name in ("is_activation_checkpointing", "is_gradient_checkpointing"):  # transformers renamed it
        if hasattr(type(module), name):
            return bool(getattr(module, name))
    return False


_METERS: weakref.WeakSet[Meter] = weakref.WeakSet()


def _watch_fused_head(meter: Meter) -> None:
    """See TRL's fused LM head, which reads the head's weight without calling the head."""
    from trl.trainer import utils

    _METERS.add(meter)
    original = utils._ChunkedLogProbFunction
    if hasattr(original, "metered"):
        return

    class Metered:
        """Counts, and passes on."""

        metered = True

        @staticmethod
        def apply(hidden: Any, weight: Any, *rest: Any) -> Any:
            found = original.apply(hidden, weight, *rest)
            for each in list(_METERS):
                each._fused(hidden, weight, found[0])
            return found

    utils._ChunkedLogProbFunction = Metered
