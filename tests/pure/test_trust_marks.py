"""Seed lottery and tuning certificate: against enumeration, a normal law, and searches written by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from kit.results import run_result
from scipy import stats

from harness.score.results import RunResult
from harness.score.seed_lottery import seed_lottery
from harness.score.tuning_certificate import tuning_certificate


def enumerated(scores: dict[str, list[float]], better: int = 1) -> float:
    """The lottery by going through every combination of seeds."""
    means = {m: better * sum(v) / len(v) for m, v in scores.items()}
    winner, lost, count = max(means, key=lambda m: means[m]), 0.0, 0
    for combination in product(*scores.values()):
        one = {m: better * v for m, v in zip(scores, combination, strict=True)}
        top = [m for m in one if one[m] == max(one.values())]
        lost, count = lost + 1 - (winner in top) / len(top), count + 1
    return lost / count


@pytest.mark.parametrize("better", [1, -1])
@pytest.mark.parametrize("step", [0.001, 0.1], ids=["no ties", "many ties"])
def test_lottery_equals_enumeration(better: int, step: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        sizes = rng.integers(2, 5, 4)
        scores = {f"m{i}": (np.round(rng.uniform(0, 1, n) / step) * step).tolist() for i, n in enumerate(sizes)}
        scores["m0"] = [v + better * 0.013 for v in scores["m0"]]  # no tie of the means
        scores["start"] = [0.5]
        lottery = seed_lottery(scores, better=better, untrained=["start"])
        if lottery.chance is not None:
            assert lottery.chance == pytest.approx(enumerated(scores, better))
            assert lottery.seeds == min(sizes)


def test_lottery_of_two_normal_methods_is_phi() -> None:
    """Many seeds at the quantiles of two normal laws: P(worse one ahead) = Phi(-gap / sqrt(s1^2 + s2^2))."""
    quantiles = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    lottery = seed_lottery({"a": 0.6 + 0.03 * quantiles, "b": 0.58 + 0.04 * quantiles})
    assert lottery.winner == "a"
    assert lottery.chance == pytest.approx(stats.norm.cdf(-0.02 / 0.05), abs=1e-3)


def test_lottery_of_many_equal_methods_is_a_draw() -> None:
    quantiles = stats.norm.ppf((np.arange(500) + 0.5) / 500)
    scores = {f"m{i}": quantiles for i in range(8)} | {"best": quantiles + 1e-9}
    assert seed_lottery(scores).chance == pytest.approx(8 / 9, abs=2e-3)


def test_lottery_says_where_it_is_unknown() -> None:
    assert seed_lottery({"a": [0.5], "b": [0.6, 0.7]}).text == "one seed: unknown"
    assert seed_lottery({"a": [0.5], "b": [0.6, 0.7]}).winner == "b"
    assert seed_lottery({"start": [0.5], "b": [0.6, 0.7]}, untrained=["start"]).chance == 0
    assert seed_lottery({"a": [0.5, 0.5], "b": [0.4, 0.6]}).text == "several methods share the best mean: unknown"
    assert seed_lottery({"a": [0.5, float("nan")], "b": [0.4, 0.6]}).text == "a score is missing: unknown"
    assert seed_lottery({"a": [0.5, 0.6]}).text == "fewer than two methods: unknown"
    with pytest.raises(ValueError, match="better=1"):
        seed_lottery({"a": [1, 2], "b": [1, 2]}, better=0)


def searched(rates: list[float], kept: float, **changes: object) -> RunResult:
    trials = [{"learning_rate": rate, "eligible": True, "seed": 0, "gold_reward": 0.5} for rate in rates]
    return run_result("dpo", [], **({"learning_rate": kept, "trials": trials} | changes))


@pytest.mark.parametrize(
    ("rates", "kept", "text"),
    [
        ([1e-5, 1e-4, 1e-3], 1e-4, "tuned, 3 trials"),
        ([1e-3, 1e-5, 1e-4], 1e-3, "not tuned: learning rate 0.001 is the highest of 3 tried"),
        ([1e-5, 1e-4], 1e-5, "not tuned: learning rate 1e-05 is the lowest of 2 tried"),
        ([1e-4], 1e-4, "not tuned: one value of learning rate"),
        ([1e-4, 1e-4], 1e-4, "not tuned: one value of learning rate"),
    ],
)
def test_certificate_of_learning_rates(rates: list[float], kept: float, text: str) -> None:
    certificate = tuning_certificate(searched(rates, kept))
    assert certificate is not None
    assert certificate.text == text
    assert certificate.tuned == text.startswith("tuned")
    assert certificate.trials == len(rates)


def trial(rate: float, eligible: bool = True, error: str = "", **options: object) -> dict[str, object]:
    return {"learning_rate": rate, "options": options, "eligible": eligible, "seed": 0, "error": error}


def test_certificate_of_options() -> None:
    trials = [trial(r, beta=b, form=f) for r, b, f in product([1e-5, 1e-4, 1e-3], [0.1, 0.3, 1], ["a", "b"])]
    options = {"beta": 0.3, "form": "b", "untouched": 7}
    inside = tuning_certificate(searched([], 1e-4, trials=trials, method_options=options))
    assert inside is not None
    assert (inside.tuned, inside.trials) == (True, 18)
    assert [(s.name, s.place) for s in inside.settings] == [
        ("learning_rate", "inside"), ("beta", "inside"), ("form", "of a set"),
    ]  # fmt: skip
    edge = tuning_certificate(searched([], 1e-4, trials=trials, method_options=options | {"beta": 1}))
    assert edge is not None
    assert edge.reasons == ("beta 1 is the highest of 3 tried",)


def test_certificate_counts_diverged_trials_as_tried() -> None:
    """What diverged bounds the search from above, as any bad score does."""
    trials = [trial(1e-5), trial(1e-4), trial(1e-2, eligible=False, error="nan"), trial(1e-3, eligible=False)]
    certificate = tuning_certificate(searched([], 1e-4, trials=trials))
    assert certificate is not None
    assert (certificate.tuned, certificate.failed, certificate.not_eligible) == (True, 1, 1)
    none = tuning_certificate(searched([], 1e-4, trials=[trial(r, eligible=False) for r in (1e-5, 1e-4, 1e-3)]))
    assert none is not None
    assert none.reasons == ("no trial was eligible",)


def test_no_certificate_without_training() -> None:
    assert tuning_certificate(run_result("start", [])) is None
