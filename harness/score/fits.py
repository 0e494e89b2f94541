"""Everything that a page needs of an estimator that fits a regression, in one go; kept in a file beside the results.

A page compares rows by replicates of their scores, and pools them by item values. Each is a thousand fits or more for
each run. They follow from the result file alone, so that the file of kept fits can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.score.bootstrap import RESAMPLES, Estimate, data_and_draws, replicates
from harness.score.columns import Array, PromptColumns, prompts_with_value
from harness.score.estimators import ESTIMATORS
from harness.score.item_values import has_value, item_values
from harness.store.array_file import read_arrays, write_arrays
from harness.store.versions import SCORE_VERSION
from sail import noise

FILE = ".kept-fits"
"""Name of the file in ``results/<recipe>/<budget>``. Git ignores it."""

AT_ONCE = 1000
"""Items of a set up to which all of its fits are made together."""


class Fitted(NamedTuple):
    """An estimate with its replicates, as of :func:`harness.score.bootstrap.replicates`; and ``items`` (n,), as of
    :func:`harness.score.item_values.item_values`."""

    estimate: Estimate
    items: Array


def fitted(kind: str, columns: PromptColumns, column: str) -> Fitted:
    """The estimate with its replicates and item values. All fits start from one fit to the data.

    Args:
        kind: a name in :data:`harness.score.estimators.FITTED`.
        columns: per-prompt columns, ``id`` among them.
        column: the one that the estimator uses.
    """
    count = len(columns["id"])
    if count > AT_ONCE or prompts_with_value(columns, column) < 2:
        return Fitted(replicates(kind, columns, column), item_values(kind, columns, column))
    estimates = ESTIMATORS[kind](columns, column, _all_weights(count))
    value, samples, without = float(estimates[0]), estimates[1 : 1 + RESAMPLES], estimates[1 + RESAMPLES :]
    valid = has_value(columns, column)
    used = np.count_nonzero(valid)
    return Fitted(Estimate(value, samples), np.where(valid, used * value - (used - 1) * without, np.nan))


@lru_cache(maxsize=8)
def _all_weights(count: int) -> Array:
    """Weights of the data itself, of the draws, and of the data without each of ``count`` items; read-only."""
    weights = np.concatenate([data_and_draws(count), 1 - np.eye(count)])
    weights.setflags(write=False)
    return weights


class KeptFits:
    """Fits of the runs of a page, each made once.

    Args:
        folder: ``results/<recipe>/<budget>``, with the file of earlier fits; None to make all of them now. An entry is
            used if the estimator, all columns and the code are those that it was made from. A damaged file counts as
            absent.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE
        self._before: dict[str, Array] | None = None
        self._now: dict[str, Array] = {}
        self._of_columns: dict[tuple[str, int, str], tuple[PromptColumns, Fitted]] = {}

    def fitted(self, kind: str, columns: PromptColumns, column: str) -> Fitted:
        """As :func:`fitted`. The columns must not change afterwards.

        Args:
            kind: a name in :data:`harness.score.estimators.FITTED`.
            columns: per-prompt columns, ``id`` among them.
            column: the one that the estimator uses.
        """
        place = (kind, id(columns), column)
        if place not in self._of_columns:  # with the columns, so that no others get their identity
            self._of_columns[place] = columns, self._fitted(kind, columns, column)
        return self._of_columns[place][1]

    def _fitted(self, kind: str, columns: PromptColumns, column: str) -> Fitted:
        if self._path is None:
            return fitted(kind, columns, column)
        if self._before is None:
            self._before = read_arrays(self._path)
        key, size = fit_key(kind, columns, column), 1 + RESAMPLES + len(columns["id"])
        kept = self._now.get(key, self._before.get(key))
        if kept is not None and kept.shape == (size,):
            self._now[key] = kept
            return Fitted(Estimate(float(kept[0]), kept[1 : 1 + RESAMPLES]), kept[1 + RESAMPLES :])
        made = fitted(kind, columns, column)
        self._now[key] = np.concatenate([[made.estimate.value], made.estimate.samples, made.items])
        return made

    def save(self) -> None:
        """Write the file, if it does not hold exactly the fits that were used. A folder that cannot be written is left
        as it is."""
        if self._path is not None and self._before is not None and self._before.keys() != self._now.keys():
            write_arrays(self._path, self._now)


def fit_key(kind: str, columns: PromptColumns, column: str) -> str:
    """A hash of everything that decides a fit: the estimator, all columns and the code.

    Args:
        kind: a name in :data:`harness.score.estimators.FITTED`.
        columns: per-prompt columns.
        column: the one that the estimator uses.
    """
    key = hashlib.blake2b(_code(), digest_size=16)
    for name in sorted(columns):
        values = columns[name]
        try:
            content = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):  # words, or lists of different lengths
            content = np.frombuffer(json.dumps(values).encode(), dtype=np.uint8)
        key.update(f"{kind}\n{column}\n{name}\n{content.dtype.str}{content.shape}\n".encode())
        key.update(content.tobytes())
    return key.hexdigest()


@cache
def _code() -> bytes:
    """A hash of the code of this folder, of its version, and of numpy's."""
    key = hashlib.blake2b(f"{SCORE_VERSION} {np.__version__}".encode(), digest_size=16)
    for path in [*sorted(Path(__file__).parent.glob("*.py")), Path(noise.__file__)]:
        key.update(path.read_bytes())
    return key.digest()
