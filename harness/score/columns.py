"""Columns of per-prompt values, as estimators read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PromptColumns = Mapping[str, Sequence[Any]]


def float_column(columns: PromptColumns, name: str) -> Array:
    """A column as floats; missing values (None) are NaN."""
    return np.array(columns[name], dtype=np.float64)  # which makes NaN of None


def prompts_with_value(columns: PromptColumns, name: str) -> int:
    """How many prompts have a value (neither None nor NaN; of a list, any) in a column; all, if no column is named."""
    values = columns[name or "id"]
    if name:
        with suppress(TypeError, ValueError):  # lists, or words
            numbers = np.array(values, dtype=np.float64)
            if numbers.ndim == 1:
                return int(np.count_nonzero(numbers == numbers))
    return sum(any(v is not None and v == v for v in (row if isinstance(row, list) else [row])) for row in values)
