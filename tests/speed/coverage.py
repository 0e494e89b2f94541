"""How often the intervals hold the truth: ``python -m tests.speed.coverage DATA_DIR [DATA SETS] [RESAMPLES]``.

The population is real: published judgments (``DATA_DIR`` laid out as in docs/score.md). A data set draws prompts from
it with replacement, so the truth is the statistic of the population itself. For the paired test the two models' results
are exchanged at random prompt by prompt, so that there is no difference to find. Reported: the share of 95% intervals
that hold the truth, and the share of false verdicts, with their Monte Carlo errors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.score.bootstrap import interval
from harness.score.bradley_terry import Pool, fit_style
from harness.score.length_control import Anchors, fit_length_control, length_controlled_rate
from harness.store import user_files as files

Array = NDArray[np.float64]


def draw(rng: np.random.Generator, n: int, resamples: int) -> Array:
    """Counts of a bootstrap draw.

    Args:
        rng: the generator.
        n: number of prompts.
        resamples: number of draws.

    Returns:
        shape (resamples, n).
    """
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def print_share(name: str, hits: Sequence[float], started: float) -> None:
    """One line: a share with its Monte Carlo error.

    Args:
        name: what it is the share of.
        hits: of each data set, the share of its intervals.
        started: ``time.perf_counter()`` when the work began.
    """
    share, error = float(np.mean(hits)), float(np.std(hits)) / len(hits) ** 0.5
    seconds = time.perf_counter() - started
    print(f"{name}: {share:.3f} (+- {error:.3f}, {len(hits)} data sets, {seconds:.0f} s)", flush=True)


def length_control(folder: Path, sets: int, resamples: int) -> None:
    """AlpacaEval 2: coverage for one model, false verdicts for two that do not differ.

    Args:
        folder: the data folder.
        sets: number of data sets to draw.
        resamples: of each bootstrap.
    """
    from benchmarks.alpaca_eval.evaluation_set import read_evaluation_set

    evaluation_set = read_evaluation_set(None, folder)
    assert evaluation_set.difficulty is not None
    rows = [alpaca_rows(folder, model) for model in ("alpaca-7b", "gemma-7b-it")]
    one = np.ones((1, len(evaluation_set.difficulty)))
    truth = length_controlled_rate(
        fit_length_control(*rows[0], evaluation_set.difficulty, one, evaluation_set.anchors),
        evaluation_set.difficulty,
        one,
    )[0]
    rng, n = np.random.default_rng(0), len(evaluation_set.difficulty)
    hits, false, started = [], [], time.perf_counter()
    for _ in range(sets):
        chosen, weights = rng.integers(n, size=n), draw(rng, n, resamples)
        gamma = evaluation_set.difficulty[chosen]
        y, delta = rows[0][0][chosen], rows[0][1][chosen]
        ci = interval(*_lc(y, delta, gamma, evaluation_set.anchors, weights), n)
        hits.append(ci.low <= truth <= ci.high)
        swap = rng.random(n) < 0.5
        sides = [[np.where(swap, rows[1 - k][f][chosen], rows[k][f][chosen]) for f in (0, 1)] for k in (0, 1)]
        (a, s), (b, t) = (_lc(y, delta, gamma, evaluation_set.anchors, weights) for y, delta in sides)
        false.append(interval(a - b, s - t, n).p < 0.05)
    print_share("length-controlled win rate, coverage", hits, started)
    print_share("length-controlled win rate, false verdicts", false, started)


class AlpacaRows(NamedTuple):
    """Preferences in [0, 1] and length differences (baseline minus model, characters), one entry a prompt."""

    y: Array
    delta: Array


def alpaca_rows(folder: Path, model: str) -> AlpacaRows:
    """The published annotations of a model."""
    rows = files.read_user_rows(folder / "alpaca_eval" / "annotations" / f"{model}.jsonl")
    y = np.array([float(r["preference"]) - 1 for r in rows])
    return AlpacaRows(y, np.array([float(r["len_1"] - r["len_2"]) for r in rows]))


def _lc(y: Array, delta: Array, gamma: Array, anchors: Anchors, weights: Array) -> tuple[float, Array]:
    one = np.ones((1, len(y)))
    value = length_controlled_rate(fit_length_control(y, delta, gamma, one, anchors), gamma, one)[0]
    return float(value), length_controlled_rate(fit_length_control(y, delta, gamma, weights, anchors), gamma, weights)


def style_control(folder: Path, sets: int, resamples: int) -> None:
    """Arena-Hard v0.1, a pool of two: coverage for each, false verdicts where the two do not differ.

    Args:
        folder: the data folder.
        sets: number of data sets to draw.
        resamples: of each bootstrap.
    """
    pool = _pool(folder)
    truth = fit_style(pool, pool.one()).scores[0]
    rng, n = np.random.default_rng(1), pool.prompts
    hits, false, started = [], [], time.perf_counter()
    for _ in range(sets):
        chosen, weights = rng.integers(n, size=n), draw(rng, n, resamples)
        drawn = _drawn(pool, chosen, np.zeros(n, dtype=bool))
        value, samples = fit_style(drawn, drawn.one()).scores[0], fit_style(drawn, weights).scores
        both = [interval(float(value[m]), samples[:, m], n) for m in range(2)]
        hits.append(sum(ci.low <= truth[m] <= ci.high for m, ci in enumerate(both)) / 2)
        drawn = _drawn(pool, chosen, rng.random(n) < 0.5)
        value, samples = fit_style(drawn, drawn.one()).scores[0], fit_style(drawn, weights).scores
        difference = float(value[0] - value[1])
        false.append(interval(difference, samples[:, 0] - samples[:, 1], n).p < 0.05)
    print_share("style-controlled score, coverage of both models", hits, started)
    print_share("style-controlled score, false verdicts", false, started)


def _pool(folder: Path) -> Pool:
    """Rows by model, then by prompt."""
    rows = files.read_user_rows(folder / "arena_hard" / "battles_official_v0.1.jsonl")
    looks = {
        (r["model"], r["question_id"]): [r["token_len"], r["header_count"], r["list_count"], r["bold_count"]]
        for r in files.read_user_rows(folder / "arena_hard" / "style_features_v0.1.jsonl")
    }
    models = sorted({r["model"] for r in rows})
    rows.sort(key=lambda r: (r["model"], r["question_id"]))
    prompts = sorted({r["question_id"] for r in rows})
    return Pool(
        models,
        len(prompts),
        np.array([models.index(r["model"]) for r in rows]),
        np.array([prompts.index(r["question_id"]) for r in rows]),
        np.array([float(sum(r["scores"])) for r in rows]),
        np.array([float(len(r["scores"])) for r in rows]),
        np.array([looks[r["model"], r["question_id"]] for r in rows], float),
        np.array([looks[r["baseline"], r["question_id"]] for r in rows], float),
    )


def _drawn(pool: Pool, chosen: NDArray[np.int64], swap: NDArray[np.bool_]) -> Pool:
    """The pool on drawn prompts; where ``swap``, the two models exchange their games and looks."""
    n = pool.prompts
    rows = np.concatenate([np.where(swap, chosen + n, chosen), np.where(swap, chosen, chosen + n)])
    moved = {f: getattr(pool, f)[rows] for f in ("wins", "games", "ours", "theirs")}
    return replace(pool, model=np.repeat([0, 1], n), prompt=np.tile(np.arange(n), 2), **moved)


def ratings(folder: Path, sets: int, resamples: int) -> None:
    """MT-Bench: questions are drawn with both their turns.

    Args:
        folder: the data folder.
        sets: number of data sets to draw.
        resamples: of each bootstrap.
    """
    rows = files.read_user_rows(folder / "mt_bench" / "judgments_gpt-4_single_jxiw.jsonl")
    models = sorted({r["model"] for r in rows})[:2]
    grid = np.zeros((2, 80, 2))
    for r in rows:
        if r["model"] in models:
            grid[models.index(r["model"]), r["question_id"] - 81, r["turn"] - 1] = r["score"]
    means = grid.mean(2)
    rng, hits, false, started = np.random.default_rng(2), [], [], time.perf_counter()
    for _ in range(sets):
        chosen, weights = rng.integers(80, size=80), draw(rng, 80, resamples)
        ci = interval(float(means[0, chosen].mean()), weights @ means[0, chosen] / 80, 80)
        hits.append(ci.low <= means[0].mean() <= ci.high)
        difference = (means[0] - means[1])[chosen] * np.where(rng.random(80) < 0.5, 1, -1)
        false.append(interval(float(difference.mean()), weights @ difference / 80, 80).p < 0.05)
    print_share("MT-Bench mean, coverage", hits, started)
    print_share("MT-Bench mean, false verdicts", false, started)


def main() -> None:
    """Run all three."""
    folder = Path(sys.argv[1])
    sets, resamples = int(sys.argv[2]) if len(sys.argv) > 2 else 2000, int(sys.argv[3]) if len(sys.argv) > 3 else 300
    parts: list[Callable[[Path, int, int], None]] = [ratings, length_control, style_control]
    for part in parts:
        part(folder, sets, resamples)


if __name__ == "__main__":
    main()
