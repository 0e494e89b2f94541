"""Official items against plain lm-eval, item by item: a few for every run, thirty of each protocol nightly."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import GOLDEN, golden
from kit.questions import policy

pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra lm-eval)")

from harness.answer.load import load_model, load_tokenizer
from tests.speed import lm_eval_speed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "part", "items", "saving"),
    [
        ("tiny", "mmlu", 8, 3.0),
        ("tiny", "arc0", 8, 2.0),
        ("tiny", "arc25", 2, 1.5),  # its window cuts these prompts at places of their own: less is shared
        ("smollm2", "arc0", 2, 2.0),
        pytest.param("smollm2", "mmlu", 30, 3.0, marks=pytest.mark.nightly),
        pytest.param("smollm2", "arc0", 30, 2.0, marks=pytest.mark.nightly),
        pytest.param("smollm2", "arc25", 30, 3.0, marks=pytest.mark.nightly),
    ],
)
def test_official_items_equal_plain_lm_eval(
    model: str, part: str, items: int, saving: float, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts, log-likelihoods, metrics and scores; and plain lm-eval needs over ``saving`` times our floating-point
    operations (what is shared grows with the items)."""
    golden("mmlu", "dev.jsonl"), golden("arc_challenge", "train.jsonl")
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(GOLDEN))
    start: Path = request.getfixturevalue({"tiny": "tiny_dir", "smollm2": "smollm2_start"}[model])
    evaluated = policy(load_model(start), load_tokenizer(start))
    both = lm_eval_speed.side_by_side(lm_eval_speed.PARTS[part], evaluated, limit=items)
    assert both["items"] == items
    assert both["prompts_that_differ"] == both["items_that_differ"] == 0
    assert both["ours"] == both["lm_eval"]
    assert both["greatest_gap"] < 1e-4
    assert both["flops_ratio"] > saving
