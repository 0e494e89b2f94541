"""The vLLM engine against transformers on the same weights; needs vLLM (nox -s vllm), skipped elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.answer.policy import Policy
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.store.row_cache import RowCache
from sail.types import Request

pytest.importorskip("vllm", reason="vLLM is not installed: python -m nox -s vllm")
pytestmark = pytest.mark.slow

from harness.answer.vllm_policy import VllmPolicy  # noqa: E402

OPTIONS = {"max_model_len": 512, "enforce_eager": True, "kv_cache_memory_bytes": 2**28}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    """SmolLM2 in both engines, with ledgers of their own."""
    from harness.answer.load import load_model, load_tokenizer
    from harness.answer.start_policy import build_start
    from harness.store.stages import Store

    folder = tmp_path_factory.mktemp("store")
    start = build_start("smollm2", Store(folder))
    tokenizer = load_tokenizer(start)
    plain = Policy(load_model(start), tokenizer, "p", meter=Meter(Ledger()), cache=None)
    cache = RowCache(folder / "rows.sqlite")
    other = Policy(load_model(start), tokenizer, "p", meter=Meter(Ledger()), cache=cache)
    return plain, VllmPolicy.from_policy(other, OPTIONS)


def requests_of(policy: Policy, temperature: float, count: int = 1) -> list[Request]:
    texts = ["Name three rivers.", "What is 12 plus 30?", "Write a haiku about winter.", "Why is the sky blue?"]
    turns = [policy.render([{"role": "user", "content": t}]) for t in texts]
    return [Request(t, 40, temperature, ("x", i, k)) for k in range(count) for i, t in enumerate(turns)]


def test_greedy_texts_and_log_probabilities_equal(pair: tuple[Policy, Policy]) -> None:
    plain = pair[0]
    expected, answers = (p.sample(requests_of(plain, 0.0)) for p in pair)
    assert [c.ids for c in answers] == [c.ids for c in expected]
    assert [c.stopped for c in answers] == [c.stopped for c in expected]
    for a, b in zip(answers, expected, strict=True):
        np.testing.assert_allclose(a.logps, b.logps, atol=1e-3)
    ledgers = [p.meter.ledger for p in pair]
    assert ledgers[1].get("generate", "generated") == ledgers[0].get("generate", "generated")


def test_samples_are_scored_by_the_model_and_repeat(pair: tuple[Policy, Policy]) -> None:
    plain, served = pair
    requests = requests_of(plain, 1.0, count=8)
    sampled = served.sample(requests)
    assert len({c.ids for c in sampled}) > 24
    logps = plain.token_logps([(r.prompt, c.ids) for r, c in zip(requests, sampled, strict=True)])
    for c, expected in zip(sampled, logps, strict=True):
        np.testing.assert_allclose(c.logps, expected, atol=2e-3)
    surprise = -sum(c.logp for c in sampled) / sum(len(c.ids) for c in sampled)
    base = plain.sample(requests)
    assert surprise == pytest.approx(-sum(c.logp for c in base) / sum(len(c.ids) for c in base), rel=0.25)
    spent = served.meter.ledger.get("generate", "generated")
    assert served.sample(requests) == sampled
    assert served.meter.ledger.get("generate", "generated") == spent  # kept, not sampled again


def test_operations_are_charged_as_transformers_would(pair: tuple[Policy, Policy]) -> None:
    """One request has no padding; transformers' sampler counts the last prompt token as decoded: compare sums."""
    plain, charged = pair[0], []
    for p in pair:
        p.meter.ledger.entries.clear()
        p.sample([Request(requests_of(plain, 0.0)[1].prompt, 7, 0.0, ("one",))])
        charged.append((p.meter.ledger.get("generate", "tokens"), p.meter.ledger.flops("generate")))
    assert charged[0][0] == charged[1][0]
    assert charged[0][1] == pytest.approx(charged[1][1], rel=1e-3)


def test_no_more_than_two_engines_live_at_once(pair: tuple[Policy, Policy]) -> None:
    """A policy and its baseline; the third takes the place of the one unused longest, which starts again when asked."""
    first = pair[1]
    assert isinstance(first, VllmPolicy)
    one = [Request(requests_of(first, 0.0)[0].prompt, 5, 0.0, ("again", 0))]
    plain = [Policy(first.model, first.tokenizer, f"p{i}", meter=Meter(Ledger()), cache=None) for i in range(3)]
    uncached = [VllmPolicy.from_policy(policy, OPTIONS) for policy in plain]
    answers = [policy.sample(one) for policy in uncached]
    assert [policy._llm is None for policy in (first, *uncached)] == [True, True, False, False]
    assert uncached[0].sample(one) == answers[0] == answers[1] == answers[2]
    assert [policy._llm is None for policy in uncached] == [False, True, False]


def test_a_comparison_with_the_engine(cli: Any, tmp_path: Path) -> None:
    import yaml

    from harness.recipe.load import builtin_recipes
    from harness.score.results import read_result

    recipe = yaml.safe_load(builtin_recipes()["tiny"].read_text()) | {
        "name": "served",
        "model": "smollm2",  # the tiny model's heads are of a size that vLLM has no kernel for on a CPU
        "tune": {"learning_rates": [1e-3]},
        "methods": ["start", "dpo"],
        "engine": {"name": "vllm", "options": OPTIONS},
        "benchmarks": {"preference": {"max_new_tokens": 8}, "alpaca_eval": {"max_new_tokens": 8, "limit": 4}},
    }
    (tmp_path / "served.yaml").write_text(yaml.safe_dump(recipe))
    done = cli("compare", "served.yaml", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    start = read_result(tmp_path / "results/served/pairs-16/start/seed-0.json")
    assert start.benchmark("alpaca_eval").metric("lc").value == 50  # type: ignore[union-attr]
