"""A policy whose weights FSDP2 (torch's ``fully_shard``) shares out over the processes of a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple


class _Group(NamedTuple):
    """Weights that are gathered together, and what FSDP2 does with them after a forward."""

    group: Any
    after_forward: Any


@contextmanager
def whole_weights(models: Sequence[Any]) -> Iterator[None]:
    """Inside, every process holds all weights of models, so that each can run as many forwards as it wants.

    Without that a forward gathers weights from all processes, which then need the same number of forwards: one with
    longer answers would wait for the others forever. Forwards inside take no gradient. Models that are not sharded stay
    as they are.

    Args:
        models: of transformers, or None.
    """
    from torch.distributed.fsdp import FSDPModule

    roots: list[Any] = [model for model in models if isinstance(model, FSDPModule)]
    modules = [m for root in roots for m in root.modules() if isinstance(m, FSDPModule)]
    for root in roots:
        root._get_fsdp_state()._lazy_init()  # else a block whose forward comes first would count as the root
    groups = [_Group(group, group.post_forward_mesh_info) for module in modules for group in _groups(module)]
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
        for group, after_forward in groups:
            group.post_forward_mesh_info = after_forward


def _groups(module: Any) -> list[Any]:
    """The groups of weights of a module; torch had one each before version 2.13."""
    state = module._get_fsdp_state()
    if hasattr(state, "_fsdp_param_groups"):
        return list(state._fsdp_param_groups)
    return [] if state._fsdp_param_group is None else [state._fsdp_param_group]
