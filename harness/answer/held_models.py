"""The models that a run samples from and scores with: one on the GPU at a time, and the base of all adapters once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from harness.answer.load import (
    Loading,
    autocast,
    device,
    is_adapter,
    load_model,
    on_accelerator,
    without_input_casts,
)


@dataclass(frozen=True, eq=False)
class Held:
    """A model in memory as one policy uses it.

    Attributes:
        model: a causal language model of transformers. Policies that differ in their adapter share it.
        computing: gives the context to compute in: the model on its device, the policy's adapter on and all others off,
            and autocast where the precision asks for it. Contexts of two policies are not nested.
    """

    model: Any
    computing: Callable[[], AbstractContextManager[None]] = nullcontext


class HeldModels:
    """Loads the policies of a run.

    A float32 adapter is merged into a copy of the start policy, which is fast and exact to rounding. In the other
    precisions adapters stay beside the start policy's weights, which all of them share: the start policy itself is
    these weights with the adapters off. On a GPU every other model is in the host's memory while one is used.

    Args:
        start: folder of the start policy.
        loading: precision and attention.
    """

    def __init__(self, start: Path, loading: Loading) -> None:
        self._start, self._loading = start, loading
        self._base: Any = None
        self._adapted: Any = None  # PEFT's wrapper around the base, once there is an adapter
        self._adapters: dict[str, weakref.ref[Held]] = {}
        self._models: list[weakref.ref[Any]] = []
        self._names = (f"policy_{number}" for number in count())

    def start(self) -> Held:
        """The start policy."""
        if self._base is None:
            self.release()
            self._base = self._noted(load_model(self._start, None, self._loading))
        return self._held(self._base, None)

    def trained(self, folder: Path) -> Held:
        """The policy saved in a folder: an adapter of the start policy, or a whole model."""
        if not is_adapter(folder) or self._loading.merges:
            self.release()
            return self._held(self._noted(load_model(self._start, folder, self._loading)), None)
        self.start()
        self._drop_adapters()
        name = next(self._names)
        if self._adapted is None:
            from peft import PeftModel

            self._adapted = PeftModel.from_pretrained(self._base, str(folder), adapter_name=name)
        else:
            self._adapted.load_adapter(str(folder), adapter_name=name)
        without_input_casts(self._base, self._loading.precision)
        self._base.requires_grad_(True)  # autocast keeps its copies of such weights from one token to the next
        self._base.eval()
        held = self._held(self._base, name)
        self._adapters[name] = weakref.ref(held)
        return held

    def release(self) -> None:
        """Leave the GPU to others: every model moves to the host's memory until it is used again."""
        self._move_others(None)

    def _held(self, model: Any, adapter: str | None) -> Held:
        return Held(model, lambda: self._using(model, adapter))

    @contextmanager
    def _using(self, model: Any, adapter: str | None) -> Iterator[None]:
        """See :attr:`Held.computing`."""
        self._move_others(model)
        on_accelerator(model)
        if model is self._base:
            self._switch(adapter)
        with autocast(self._loading.precision):
            yield

    def _switch(self, adapter: str | None) -> None:
        """Turn one adapter on, or all off."""
        if self._adapted is None:
            return
        if adapter is None:
            self._adapted.base_model.disable_adapter_layers()
        else:
            self._adapted.base_model.enable_adapter_layers()
            self._adapted.set_adapter(adapter)

    def _drop_adapters(self) -> None:
        """Delete the adapters of policies that are gone."""
        for name in [name for name, held in self._adapters.items() if held() is None]:
            del self._adapters[name]
            self._adapted.delete_adapter(name)

    def _noted(self, model: Any) -> Any:
        self._models = [ref for ref in self._models if ref() is not None] + [weakref.ref(model)]
        return model

    def _move_others(self, model: Any) -> None:
        """Move every other model to the host's memory."""
        if device() == "cpu":
            return
        import torch

        others = [other for ref in self._models if (other := ref()) is not None and other is not model]
        for other in others:
            if other.device.type != "cpu":
                other.to("cpu")
                torch.cuda.empty_cache()
