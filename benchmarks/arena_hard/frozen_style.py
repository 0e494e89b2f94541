"""A pool's style, frozen: the file that ``score arena_hard --save-pool`` writes and ``--pool`` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.score.bradley_terry import FrozenStyle, Pool, StyleFit, Version
from harness.store import user_files
from harness.store.json_files import digest

StyleRecord = dict[str, Any]
"""A style as JSON: ``version``, ``models``, ``mean``, ``sd``, ``coefficients`` and their ``hash``."""


def style_record(pool: Pool, fit: StyleFit, version: Version) -> StyleRecord:
    """The style of a pool's fit, to be written to a file.

    Args:
        pool: its models are named in the record.
        fit: of that pool.
        version: of Arena-Hard.
    """
    style = fit.frozen()
    record = {
        "version": version,
        "models": list(pool.models),
        "mean": style.mean.tolist(),
        "sd": style.sd.tolist(),
        "coefficients": style.coefficients.tolist(),
    }
    return record | {"hash": digest(record)}


def read_style_record(path: Path) -> StyleRecord:
    """A style that ``--save-pool`` wrote.

    Raises:
        UserError: it is no such file, or was changed by hand.
    """
    try:
        record = json.loads(user_files.read_text_file(path))
        missing = {"version", "models", "mean", "sd", "coefficients", "hash"} - set(record)
    except (json.JSONDecodeError, TypeError, RecursionError):
        record, missing = {}, {"version"}
    if missing:
        raise UserError(f"{path} is no style that --save-pool wrote ({min(missing)!r} is missing)")
    if digest({k: v for k, v in record.items() if k != "hash"}) != record["hash"]:
        raise UserError(f"{path} was changed after --save-pool wrote it (its hash differs): write it again")
    return dict(record)


def style_of_record(record: Mapping[str, Any], version: Version) -> FrozenStyle:
    """The constants of a frozen style.

    Raises:
        UserError: they are of another version of Arena-Hard.
    """
    if record["version"] != version:
        raise UserError(f"The frozen style is that of Arena-Hard {record['version']}, not {version}")
    return FrozenStyle(*(np.array(record[k], float) for k in ("mean", "sd", "coefficients")))
