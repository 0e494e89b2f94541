"""The rows of a preference data set before training: their ids, near-ties, curriculum, limited labels.

``example_id`` names a row in every draw of the keyed noise. It is given before anything drops or reorders rows, so that
an option such as ``max_length`` does not change the noise of the rows that stay. ``strength`` is a column with the
preference's strength: a reward gap, or a margin; its sign is not used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from sail.config import SAILConfig
from sail.noise import uniform

MADE = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps")
"""Columns of token ids and log-probabilities: what a trainer makes of a user's row."""


def is_stream(dataset: Any) -> bool:
    """Whether a data set is streamed: its rows are not counted and come one after the other."""
    from datasets import IterableDataset

    return isinstance(dataset, IterableDataset)


def columns_of(dataset: Any) -> list[str]:
    """The columns of a data set; of a stream that does not know them, those of its first row."""
    return list(dataset.column_names or next(iter(dataset), {}))


def with_example_ids(dataset: Any, name: str, readers: int = 1) -> Any:
    """The data set with an ``example_id`` in each row: the one that it has, checked, or the row's number.

    Ids of a stream are checked for their type alone: whether they are unique shows only once it is read to its end.

    Args:
        dataset: with or without the column.
        name: of the data set, for messages: ``train``, ``eval``.
        readers: processes times workers of the data loader that read the data set at once.

    Raises:
        ValueError: ids that are no integers or not unique; a stream of several shards without ids, which several
            readers would number each from 0.
    """
    if "example_id" in columns_of(dataset):
        return dataset.map(_checked_row, fn_kwargs={"name": name}) if is_stream(dataset) else _checked(dataset, name)
    if not is_stream(dataset):
        return dataset.add_column("example_id", list(range(len(dataset))))
    if readers > 1 and dataset.num_shards > 1:
        raise ValueError(
            f"the {name} set streams {dataset.num_shards} shards to {readers} readers, which would give the same row "
            "numbers: add a column example_id with one integer for each row, or stream one shard"
        )
    return dataset.map(_numbered_row, with_indices=True)


def _numbered_row(row: Mapping[str, Any], index: int) -> dict[str, int]:
    return {"example_id": index}


def _checked_row(row: Mapping[str, Any], name: str) -> dict[str, int]:
    value = row["example_id"]
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(_not_integers(name, f"{value!r}"))
    return {"example_id": int(value)}


def _checked(dataset: Any, name: str) -> Any:
    feature = dataset.features["example_id"]
    kind = getattr(feature, "dtype", type(feature).__name__)
    if not re.fullmatch(r"u?int\d+", str(kind)):
        raise ValueError(_not_integers(name, f"the type {kind}"))
    ids: list[Any] = list(dataset.with_format(None)["example_id"])
    if None in ids:
        raise ValueError(_not_integers(name, f"None in row {ids.index(None)}"))
    if len(set(ids)) < len(ids):
        first: dict[int, int] = {}
        row = next(i for i, value in enumerate(ids) if first.setdefault(value, i) != i)
        raise ValueError(
            f"example_id of the {name} set is {ids[row]} in rows {first[ids[row]]} and {row}: give each row an integer "
            "of its own, or leave the column out"
        )
    return dataset


def _not_integers(name: str, what: str) -> str:
    return f"example_id of the {name} set holds {what}: give each row an integer of its own, or leave the column out"


def select_rows(dataset: Any, args: SAILConfig) -> Any:
    """The rows that training sees, in its order: near-ties left out, curriculum applied, labels limited.

    Labels are limited here only if all rows are offline; with other routes an unlabelled example stays and goes there.

    Args:
        dataset: with ``example_id``, and ``strength`` where an option reads it.
        args: of the trainer.

    Raises:
        ValueError: no row is left, ``strength`` is missing or no number, or a stream is to be sorted.
    """
    if args.min_strength > 0:
        dataset = drop_near_ties(dataset, args.min_strength)
    if args.curriculum != "none":
        dataset = by_strength(dataset, args.curriculum)
    if args.label_fraction < 1 and not any(args.shares):
        dataset = limit_labels(dataset, args.key_seed, args.label_fraction)
    return dataset


def _strengths(dataset: Any) -> list[float]:
    _needs_strength(dataset)
    return [_strength(value, row) for row, value in enumerate(dataset["strength"])]


def _needs_strength(dataset: Any) -> None:
    if "strength" not in columns_of(dataset):
        raise ValueError("min_strength and curriculum need a 'strength' column in the data set: the reward gap, say")


def _strength(value: Any, row: int) -> float:
    size = math.nan if value is None else abs(float(value))
    if math.isnan(size):
        raise ValueError(f"'strength' is {value} in row {row} of the data set: give a number, or leave the row out")
    return size


def drop_near_ties(dataset: Any, minimum: float) -> Any:
    """Rows whose absolute strength is at least ``minimum``, in order."""
    if is_stream(dataset):
        _needs_strength(dataset)
        return dataset.filter(lambda row, i: _strength(row["strength"], i) >= minimum, with_indices=True)
    strengths = _strengths(dataset)
    kept = [i for i, s in enumerate(strengths) if s >= minimum]
    return _some(dataset, kept, f"min_strength={minimum:g}", f"the largest |strength| is {max(strengths, default=0):g}")


def by_strength(dataset: Any, curriculum: str) -> Any:
    """Rows ordered by absolute strength, strongest first for ``wide-to-narrow``; equal rows keep their order."""
    if is_stream(dataset):
        raise ValueError(
            f"curriculum={curriculum!r} sorts the rows, and a stream cannot be sorted: load the data whole"
        )
    sign = -1 if curriculum == "wide-to-narrow" else 1
    strength = _strengths(dataset)
    return dataset.select(sorted(range(len(strength)), key=lambda i: (sign * strength[i], i)))


def limit_labels(dataset: Any, seed: int, fraction: float) -> Any:
    """The labelled share of the rows, in order (:func:`may_use_label`)."""
    if is_stream(dataset):
        return dataset.filter(lambda row: may_use_label(seed, row["example_id"], fraction))
    kept = [i for i, e in enumerate(dataset["example_id"]) if may_use_label(seed, e, fraction)]
    return _some(dataset, kept, f"label_fraction={fraction:g}", "raise it")


def _some(dataset: Any, kept: Sequence[int], option: str, hint: str) -> Any:
    if not kept:
        raise ValueError(f"{option} leaves none of the {len(dataset)} rows of the train set: {hint}")
    return dataset.select(kept)


def may_use_label(seed: int, example: int, fraction: float) -> bool:
    """Whether an example belongs to the labelled share. The sets are nested: those of 10% are among those of 25%.

    Args:
        seed: of the keyed noise.
        example: the example's id in the data set.
        fraction: share of examples whose label may be used.
    """
    return uniform((seed, example, "labelled")) < fraction
