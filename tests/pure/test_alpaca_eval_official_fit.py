"""The cross-validation of ``--fit official``: that of scikit-learn, and of alpaca_eval where its curve is flat."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import golden
from kit.alpaca_files import annotation, score_of, write_json, write_set

from harness.errors import UserError
from harness.score.length_control import ANCHOR_WEIGHT, C_GRID, Anchors, length_controlled_rate, official_fit

FLAT = ["gpt-3.5-turbo-1106_concise", "phi-2-sft"]


def golden_difficulty() -> np.ndarray:
    with golden("alpaca_eval", "instruction_difficulty_recovered.csv").open() as file:
        return np.array([float(row["instruction_difficulty"]) for row in csv.DictReader(file)])


def golden_anchors(difficulty: np.ndarray) -> Anchors:
    with golden("alpaca_eval", "gamed_baseline_reconstructed.csv").open() as file:
        rows = list(csv.DictReader(file))
    length = np.tanh([float(row["std_delta_len"]) for row in rows])
    hard = difficulty[[int(row["index"]) for row in rows]]
    return Anchors(length, hard, np.array([float(row["preference"]) for row in rows]))


@pytest.mark.parametrize("model", FLAT)
def test_where_the_curve_is_flat(model: str) -> None:
    """The C of an independent stream for each fit gave 15.682288 and 5.854024."""
    text = golden("alpaca_eval", "annotations_flat", f"{model}.jsonl").read_text()
    rows = [json.loads(line) for line in text.split("\n") if line]
    expected = json.loads(golden("alpaca_eval", "expected_flat.json").read_text())[model]
    difficulty = golden_difficulty()
    y = np.array([row["preference"] or 1.5 for row in rows]) - 1
    delta = np.array([row["len_1"] - row["len_2"] for row in rows], dtype=float)
    assert 100 * y.mean() == pytest.approx(expected["win_rate"], abs=1e-9)
    coefficients, c = official_fit(y, delta, difficulty, golden_anchors(difficulty))
    assert c in C_GRID
    value = length_controlled_rate(coefficients[None], difficulty, np.ones((1, len(y))))[0]
    assert value == pytest.approx(expected["cross_validated_by_alpaca_eval_0.6.6_on_these_files"], abs=1e-6)


def cross_validated_by_scikit_learn(rows: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients and C of its LogisticRegressionCV, with alpaca_eval's labels, weights, groups and score."""
    import sklearn
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import GroupKFold

    def loss(truth: np.ndarray, predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
        p = np.clip(predicted, 1e-15, 1 - 1e-15)
        target = np.where(truth == 1, target, 1 - target)
        return float(-np.mean(weight * (target * np.log(p) + (1 - target) * np.log(1 - p))))

    target, doubled = np.concatenate([y, 1 - y]), np.concatenate([weight, weight])
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(loss, response_method="predict_proba", greater_is_better=False)
        model = LogisticRegressionCV(
            cv=GroupKFold(5),
            scoring=scorer.set_score_request(target=True, weight=True),
            l1_ratios=(1.0,),
            solver="liblinear",
            random_state=123,
            fit_intercept=False,
            use_legacy_attributes=False,
        ).set_fit_request(sample_weight=True)
        model.fit(
            np.concatenate([rows, rows]),
            np.repeat([1, 0], len(y)),
            sample_weight=target * doubled,
            groups=np.tile(np.arange(len(y)), 2),
            target=target,
            weight=doubled,
        )
    return np.asarray(model.coef_[0]), float(model.C_)


@pytest.mark.parametrize(
    ("count", "seed"), [(101, 9), (101, 38), (101, 39), (158, 5), (158, 43), (240, 20), (63, 0), (40, 1), (104, 2)]
)
def test_cross_validation_is_scikit_learns(count: int, seed: int) -> None:
    """Sizes that five folds share evenly and unevenly. In the first six cases a stream of its own for each fit chooses
    another C."""
    rng = np.random.default_rng([count, seed])
    difficulty = rng.normal(size=count)
    y = 1 / (1 + np.exp(-(rng.normal(-3, 2.5, count) + 0.8 * difficulty)))
    delta = rng.normal(100, 300, count).round()
    length = rng.normal(size=2 * count)
    noise = rng.normal(0, 1, 2 * count)
    anchors = Anchors(np.tanh(length), np.tile(difficulty, 2), 1 / (1 + np.exp(0.3 * length + noise)))
    own = np.stack([np.tanh(delta / delta.std(ddof=1)), difficulty, np.ones(count)], 1)
    far = np.stack([anchors.length, anchors.difficulty, np.zeros(2 * count)], 1)
    weight = np.concatenate([np.full(2 * count, ANCHOR_WEIGHT), np.ones(count)])
    rows, target = np.concatenate([far, own]), np.concatenate([anchors.y, y])
    coefficients, c = cross_validated_by_scikit_learn(rows, target, weight)
    ours = official_fit(y, delta, difficulty, anchors)
    assert ours.c == pytest.approx(c)
    assert ours.coefficients == pytest.approx(coefficients, abs=1e-9)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rows = [annotation(i, round(1 + (i * 0.37) % 1, 3)) for i in range(30)]
    return write_json(tmp_path / "annotations.json", rows), write_set(tmp_path, 30, controlled=True)


def test_the_chosen_c_is_reported_and_can_be_given(files: tuple[Path, Path]) -> None:
    def value(score: dict[str, Any]) -> Any:
        return score["metrics"]["length_controlled"]["value"]

    chosen = score_of(*files, fit_method="official")
    assert chosen["c"] in C_GRID
    assert chosen["protocol"]["c"] == "by cross-validation"
    given = score_of(*files, fit_method="official", c=chosen["c"])
    assert (value(given), given["c"], given["protocol"]["c"]) == (value(chosen), chosen["c"], chosen["c"])
    weak = score_of(*files, fit_method="official", c=1e-3)
    assert (weak["c"], value(weak)) == (1e-3, pytest.approx(50, abs=0.5))  # all coefficients are 0
    exact = score_of(*files)
    assert exact["c"] is None
    assert "c" not in exact["protocol"]
    assert value(exact) == pytest.approx(value(score_of(*files, fit_method="official", c=1e4)), abs=0.05)


@pytest.mark.parametrize("c", [0.0, -1.0, math.nan, math.inf])
def test_a_c_that_is_none(c: float, files: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="--c is the inverse of a penalty"):
        score_of(*files, fit_method="official", c=c)
    with pytest.raises(UserError, match="--c is of --fit official"):
        score_of(*files, c=c)
