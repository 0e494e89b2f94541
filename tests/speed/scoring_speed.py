"""Time of style control on published judgments: ``python -m tests.speed.scoring_speed DATA_DIR``.

1,000 style-controlled refits of a pool of 16 models. ``DATA_DIR`` is laid out as in docs/score.md. Comparisons with
other code are in :mod:`tests.speed.scoring`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from harness.score.bootstrap import draws
from harness.score.bradley_terry import Pool, fit_style
from harness.store import user_files as files
from tests.speed.measure import timed


def pool_of_16(folder: Path) -> Pool:
    """Real games of 16 models; answers whose style is not in the data have that of another model."""
    rows = files.read_user_rows(folder / "arena_hard" / "battles_gpt4o_judge_16models.jsonl")
    looks: dict[str, list[list[float]]] = {}
    for r in files.read_user_rows(folder / "arena_hard" / "style_features_v0.1.jsonl"):
        counts = [float(r[k]) for k in ("token_len", "header_count", "list_count", "bold_count")]
        looks.setdefault(r["question_id"], []).append(counts)
    models, prompts = sorted({r["model"] for r in rows}), sorted({r["question_id"] for r in rows})
    place = np.array([models.index(r["model"]) for r in rows])
    return Pool(
        models,
        len(prompts),
        place,
        np.array([prompts.index(r["question_id"]) for r in rows]),
        np.array([float(sum(r["scores"])) for r in rows]),
        np.array([float(len(r["scores"])) for r in rows]),
        np.array([looks[r["question_id"]][m % len(looks[r["question_id"]])] for r, m in zip(rows, place, strict=True)]),
        np.array([looks[r["question_id"]][-1] for r in rows]),
    )


def style_control(folder: Path) -> None:
    """A pool of 16 models, everything estimated again in each resample."""
    pool = pool_of_16(folder)
    for version in ("v0.1", "v2.0"):
        weights = draws(pool.prompts, 1000)
        spent = timed(lambda version=version, weights=weights: fit_style(pool, weights, version))  # type: ignore[misc]
        print(
            f"style control {version}, {len(pool.models)} models, {pool.prompts} prompts: 1,000 refits {spent:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    style_control(Path(sys.argv[1]))
