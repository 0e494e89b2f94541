"""The shape of a model that is metered, kept up to date while training changes what it computes."""

from __future__ import annotations

import weakref
from typing import Any

from harness.budget.flops import Shape, shape_of


class WatchedModel:
    """A metered model and its shape, computed again when its weights train or freeze or its adapters change."""

    def __init__(self, model: Any) -> None:
        self.model = weakref.ref(model)
        self._state: Any = None
        self._shape = shape_of(model)

    def shape(self, *, unchanged: bool = False) -> Shape:
        """The shape now. ``unchanged``: it is that of the last call (a decoding step after its prefill)."""
        model = self.model()
        if unchanged or model is None:  # a copy may outlive what it was copied from
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


def backbone_of(model: Any) -> Any:
    """The model without its LM head: PEFT calls its ``forward`` directly, past any hook on the whole."""
    from sail.prefill import name_backbone

    name_backbone(model)
    return getattr(model, model.base_model_prefix, model)


def recomputes_activations(backbone: Any) -> bool:
    """Whether the blocks run again in the backward pass (gradient checkpointing)."""
    for name in ("is_activation_checkpointing", "is_gradient_checkpointing"):  # transformers renamed it
        if hasattr(type(backbone), name):
            return bool(getattr(backbone, name))
    return False
