"""Values of all processes of a distributed run; with one process they cost nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)


def all_ranks(value: Any) -> list[Any]:
    """The value of every process, in rank order."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    return list(gather_object([value])) if PartialState().num_processes > 1 else [value]


def is_first() -> bool:
    """Whether this is the only process, or the first."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def joined_lists(lists: Mapping[K, list[float]]) -> dict[K, list[float]]:
    """The lists of every process, joined by key in rank order."""
    joined: dict[K, list[float]] = {}
    for part in all_ranks(lists):
        for key, values in part.items():
            joined.setdefault(key, []).extend(values)
    return joined


def join_metrics(metrics: dict[str, list[float]]) -> None:
    """Let the metrics of a step be those of all processes; a log has the mean of each."""
    metrics.update(joined_lists({name: list(values) for name, values in metrics.items()}))
