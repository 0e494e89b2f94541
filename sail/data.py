"""What may be done to a preference data set before training: near-ties, curriculum, limited labels (spec section 3).

``strength`` is a column with the preference's strength: a reward gap, or a margin; its sign is not used.
"""

from __future__ import annotations

from typing import Any

from sail.config import SAILConfig
from sail.noise import uniform


def select_rows(dataset: Any, args: SAILConfig) -> Any:
    """The rows that training sees, in its order: near-ties left out, curriculum applied, labels limited.

    Labels are limited here only if all rows are offline; with other routes an unlabelled example stays and goes there.
    """
    if args.min_strength > 0:
        dataset = drop_near_ties(dataset, args.min_strength)
    if args.curriculum != "none":
        dataset = by_strength(dataset, args.curriculum)
    if args.label_fraction < 1 and not any(args.shares):
        ids = dataset["example_id"]
        usable = [i for i, e in enumerate(ids) if may_use_label(args.key_seed, e, args.label_fraction)]
        dataset = dataset.select(usable)
    return dataset


def _strength(dataset: Any) -> list[float]:
    if "strength" not in dataset.column_names:
        raise ValueError("min_strength and curriculum need a 'strength' column in the data set: the reward gap, say")
    return [abs(float(value)) for value in dataset["strength"]]


def drop_near_ties(dataset: Any, minimum: float) -> Any:
    """Rows whose absolute strength is at least ``minimum``, in order."""
    return dataset.select([i for i, s in enumerate(_strength(dataset)) if s >= minimum])


def by_strength(dataset: Any, curriculum: str) -> Any:
    """Rows ordered by absolute strength, strongest first for ``wide-to-narrow``; equal rows keep their order."""
    sign = -1 if curriculum == "wide-to-narrow" else 1
    strength = _strength(dataset)
    return dataset.select(sorted(range(len(strength)), key=lambda i: (sign * strength[i], i)))


def may_use_label(seed: int, example: int, fraction: float) -> bool:
    """Whether an example belongs to the labelled share. The sets are nested: those of 10% are among those of 25%.

    Args:
        seed: of the keyed noise.
        example: the example's id in the data set.
        fraction: share of examples whose label may be used.
    """
    return uniform((seed, example, "labelled")) < fraction
