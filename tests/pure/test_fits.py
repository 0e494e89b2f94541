"""Fits of many resamples at once against one at a time; and kept fits, which never change a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.results import judged_run

from harness.report.leaderboard import PAGE, stale_files, write_leaderboard
from harness.score import fits
from harness.score.bootstrap import RESAMPLES, draws, percentiles
from harness.score.bradley_terry import STYLE_FEATURES
from harness.score.estimators import ESTIMATORS, FITTED
from harness.score.fits import FILE, KeptFits, fit_key, fitted
from harness.score.results import read_result, write_result
from harness.store.array_file import read_arrays, write_arrays

Columns = dict[str, list[Any]]
LN10 = np.log(10)


def columns_of(count: int, answers: str) -> Columns:
    """Preferences and styles; ``answers`` says which."""
    rng = np.random.default_rng(count)
    preference: list[Any] = rng.uniform(0, 1, count).tolist()
    if answers == "hard verdicts":
        preference = rng.choice([0.0, 0.5, 1.0], count, p=[0.2, 0.1, 0.7]).tolist()
    if answers == "some without a verdict":
        preference[2] = preference[7] = None
    columns: Columns = {"id": list(range(count)), "preference": preference}
    for name, most in {"length": 900, "tokens": 200, "headers": 3, "lists": 9, "bolds": 2}.items():
        columns |= {side + name: rng.integers(0, most, count).tolist() for side in ("", "baseline_")}
    if answers == "hardly any style":
        columns["headers"] = columns["baseline_headers"] = [0] * count
        columns["bolds"] = [4] + [1] * (count - 1)
        columns["baseline_bolds"] = [1] * count
    return columns


def maximum(x: np.ndarray, y: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    """One logistic regression by Newton's method with halved steps, to the last digits."""

    def loss(beta: np.ndarray) -> float:
        z = x @ beta
        return float(weights @ (np.logaddexp(0, z) - y * z) + ridge / 2 * beta @ beta)

    beta = np.zeros(x.shape[1])
    for _ in range(200):
        p = 1 / (1 + np.exp(-x @ beta))
        hessian = x.T @ (x * (weights * p * (1 - p))[:, None]) + ridge * np.eye(len(beta))
        move = np.linalg.solve(hessian, x.T @ (weights * (y - p)) - ridge * beta)
        size = 1.0
        while loss(beta + size * move) > loss(beta) + 1e-13 and size > 1e-6:
            size /= 2
        beta = beta + size * move
        if np.abs(move).max() < 1e-13:
            break
    return beta


def length_controlled_once(columns: Columns, weights: np.ndarray) -> float:
    y, length, baseline = (np.array(columns[k], dtype=float) for k in ("preference", "length", "baseline_length"))
    valid = ~np.isnan(y)
    delta = (baseline - length)[valid]
    sd = np.repeat(delta, weights[valid].astype(int)).std(ddof=1)
    x = np.column_stack([np.tanh(delta / sd), np.ones(len(delta))])
    return float(100 / (1 + np.exp(-maximum(x, y[valid], weights[valid], 1e-6)[1])))


def style_controlled_once(columns: Columns, weights: np.ndarray) -> float:
    y = np.array(columns["preference"], dtype=float)
    valid = ~np.isnan(y)
    x = [np.full(int(valid.sum()), LN10)]
    for feature in STYLE_FEATURES:
        ours, theirs = (np.array(columns[side + feature], dtype=float)[valid] for side in ("", "baseline_"))
        d = (ours - theirs) / (ours + theirs + 1)
        sd = np.repeat(d, weights[valid].astype(int)).std()
        x.append(d / (sd if sd > 1e-9 else 1))
    beta = maximum(np.column_stack(x), y[valid], 2 * weights[valid], 1.0)
    return float(100 / (1 + np.exp(-LN10 * beta[0])))


ONCE: dict[str, Callable[[Columns, np.ndarray], float]] = {
    "length_controlled": length_controlled_once,
    "style_controlled": style_controlled_once,
}


@pytest.mark.parametrize("kind", ONCE)
@pytest.mark.parametrize("answers", ["soft", "hard verdicts", "some without a verdict", "hardly any style"])
@pytest.mark.parametrize("count", [12, 32])
def test_all_fits_at_once_are_as_one_at_a_time(kind: str, answers: str, count: int) -> None:
    """Replicates and item values within 1e-10 of fits by other code, also where verdicts are separable."""
    columns = columns_of(count, answers)
    made, once = fitted(kind, columns, "preference"), ONCE[kind]
    value = once(columns, np.ones(count))
    assert made.estimate.value == pytest.approx(value, abs=1e-10)
    places = range(0, RESAMPLES, 100)
    expected = [once(columns, draws(count)[place]) for place in places]
    np.testing.assert_allclose(made.estimate.samples[list(places)], expected, rtol=0, atol=1e-10)
    for place, verdict in enumerate(columns["preference"][:8]):
        if verdict is None:
            assert np.isnan(made.items[place])
            continue
        without, used = np.ones(count), count - columns["preference"].count(None)
        without[place] = 0
        item = used * value - (used - 1) * once(columns, without)
        assert made.items[place] == pytest.approx(item, abs=1e-10 * count)


def test_every_estimator_that_is_fitted_exists_and_too_few_prompts_have_no_value() -> None:
    assert ESTIMATORS.keys() >= FITTED
    columns = columns_of(12, "soft") | {"preference": [0.7] + [None] * 11}
    made = fitted("length_controlled", columns, "preference")
    assert np.isnan([made.estimate.value, *made.estimate.samples, *made.items]).all()


@pytest.mark.parametrize("count", [2, 3, 16, 1000])
@pytest.mark.parametrize("tail", [0.0, 1.3, 2.5, 30.0])
def test_percentiles_are_those_of_numpy(count: int, tail: float) -> None:
    values = np.random.default_rng(count).normal(size=count)
    assert list(percentiles(values, tail)) == np.percentile(values, [tail, 100 - tail]).tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The results of two methods with two seeds each, and their page."""
    place = tmp_path / "demo" / "pairs-96"
    for number, method in enumerate(["dpo", "sail-pr"]):
        for seed in range(2):
            run = judged_run(method, seed, strength=number / 2, key=(number, seed))
            write_result(place / method / f"seed-{seed}.json", run)
    write_leaderboard(place)
    return place


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry for each call of :func:`fitted`."""
    calls: list[str] = []
    monkeypatch.setattr(fits, "fitted", lambda kind, *rest: (calls.append(kind), fitted(kind, *rest))[1])
    return calls


def test_a_page_from_kept_fits_has_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, kept = (folder / PAGE).read_bytes(), (folder / FILE).read_bytes()
    calls = count_fits(monkeypatch)
    write_leaderboard(folder)
    assert calls == []
    assert (folder / PAGE).read_bytes() == page
    assert (folder / FILE).read_bytes() == kept
    (folder / FILE).unlink()
    write_leaderboard(folder)
    assert len(calls) == 8
    assert (folder / PAGE).read_bytes() == page
    assert (folder / FILE).read_bytes() == kept


def flip(content: bytes) -> bytes:
    return content[:-99] + bytes([content[-99] ^ 1]) + content[-98:]


@pytest.mark.parametrize("damage", [flip, lambda c: c[:-8], lambda c: c[:20], lambda c: b"", lambda c: c + b"x" * 8])
def test_a_damaged_file_is_replaced(
    folder: Path, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, kept = (folder / PAGE).read_bytes(), (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(damage(kept))
    calls = count_fits(monkeypatch)
    write_leaderboard(folder)
    assert len(calls) == 8
    assert (folder / PAGE).read_bytes() == page
    assert (folder / FILE).read_bytes() == kept


def test_another_number_or_other_code_is_fitted_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_fits(monkeypatch)
    file = folder / "sail-pr" / "seed-0.json"
    run = read_result(file)
    run.benchmarks[1].items["items"]["length"][3] += 1
    write_result(file, run)
    write_leaderboard(folder)
    assert calls == ["length_controlled"]
    assert len(read_arrays(folder / FILE)) == 8, "the old one is dropped"
    monkeypatch.setattr(fits, "_code", lambda: b"other")
    write_leaderboard(folder)
    assert len(calls) == 9


def test_a_key_holds_estimator_column_and_every_value() -> None:
    columns = columns_of(12, "soft") | {"preference": [None] + [1.0] * 11, "words": ["a"] * 12}
    other = columns | {"preference": [0.0] + [1.0] * 11}
    keys = [
        fit_key("length_controlled", columns, "preference"),
        fit_key("style_controlled", columns, "preference"),
        fit_key("length_controlled", columns, "length"),
        fit_key("length_controlled", other, "preference"),
        fit_key("length_controlled", columns | {"words": ["b"] * 12}, "preference"),
        fit_key("length_controlled", columns | {"words": [["a"], *columns["words"][1:]]}, "preference"),
    ]
    assert len(set(keys)) == len(keys)


def test_a_check_makes_every_fit_anew(folder: Path) -> None:
    """Even fits that pass for kept ones change nothing that is checked."""
    assert stale_files(folder) == []
    kept = read_arrays(folder / FILE)
    write_arrays(folder / FILE, {key: numbers + 30 for key, numbers in kept.items()})
    assert stale_files(folder) == []
    write_leaderboard(folder)
    assert PAGE in stale_files(folder)


def test_a_folder_that_cannot_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    kept = KeptFits(tmp_path / "absent")
    columns = columns_of(12, "soft")
    made = kept.fitted("style_controlled", columns, "preference")
    assert kept.fitted("style_controlled", columns, "preference") is made
    kept.save()
    assert list(tmp_path.iterdir()) == []


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"a": np.array([1.5, np.nan, np.inf]), "b": np.zeros(0), "c": np.arange(3.0)}
    write_arrays(tmp_path / "file", arrays)
    again = read_arrays(tmp_path / "file")
    assert list(again) == ["a", "b", "c"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
    write_arrays(tmp_path / "file", {})
    assert read_arrays(tmp_path / "file") == {}
    assert read_arrays(tmp_path / "absent") == {}
