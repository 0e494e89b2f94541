"""Oracles: the contract, what they are charged for, a reward model, and an LLM judge behind a local endpoint."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kit.judge_server import Behaviour, Server, more_words_win
from transformers import AutoModelForSequenceClassification

from harness.budget.ledger import Ledger
from harness.errors import UserError
from harness.oracles.base import Oracle
from harness.oracles.llm_judge import LLMJudge, LLMJudgeOptions
from harness.oracles.metered import MeteredOracle
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.recipe.recipe import OracleSpec
from harness.run.configure import make_oracle
from harness.store.row_cache import RowCache


class Length(Oracle):
    """Score: characters."""

    name = "length"
    summary = "characters"

    def score(self, rows: Sequence[dict[str, Any]], texts: Sequence[str]) -> list[float]:
        return [float(len(t)) for t in texts]


class Longer(Oracle):
    """The same as a pairwise oracle, with a soft verdict."""

    name = "longer"
    summary = "longer wins"
    pairwise = True

    def prefer(self, rows: Any, firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
        pairs = zip(firsts, seconds, strict=True)
        return [0.8 if len(a) > len(b) else 0.2 if len(a) < len(b) else 0.5 for a, b in pairs]


def test_scores_and_preferences_and_what_they_cost() -> None:
    ledger = Ledger()
    oracle = MeteredOracle(Length(), ledger)
    assert oracle.score([{}] * 2, ["a", "bbb"]) == [1, 3]
    assert oracle.prefer([{}] * 3, ["a", "bb", "c"], ["bb", "a", "d"]) == [0, 1, 0.5]
    assert oracle.rank({}, ["a", "bbb", "cc"]) == [1, 3, 2]
    assert oracle.versus([{}], ["aa"], ["b"]) == ([2], [1])
    assert ledger.get("oracle", "calls") == 2 + 6 + 3 + 2


def test_a_pairwise_oracle_ranks_by_wins() -> None:
    ledger = Ledger()
    oracle = MeteredOracle(Longer(), ledger)
    assert oracle.rank({}, ["a", "bbb", "cc"]) == pytest.approx([0.2, 0.8, 0.5])
    assert ledger.get("oracle", "calls") == 6
    assert oracle.versus([{}], ["aa"], ["b"]) == ([0.8], [0.5])


@pytest.fixture(scope="module")
def reward_dir(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A random reward model over the tiny model."""
    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_dir, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_reward_model_scores_each_conversation_alone(reward_dir: Path, tokenizer: Any) -> None:
    """Batched and padded as one by one, without padding."""
    oracle = RewardModel(RewardModelOptions(model=str(reward_dir), batch_size=3))
    rows = [{"prompt": f"Question {i}?"} for i in range(5)]
    texts = ["no", "a longer answer", "yes", "an answer that is longer still", ""]
    model = AutoModelForSequenceClassification.from_pretrained(reward_dir).eval()
    expected = []
    for row, text in zip(rows, texts, strict=True):
        with torch.no_grad():
            ids = torch.tensor([conversation_ids(tokenizer, row, text)])
            expected.append(float(model(input_ids=ids).logits))
    assert len({round(e, 5) for e in expected}) == 5
    assert oracle.score(rows, texts) == pytest.approx(expected, abs=1e-4)


def test_reward_model_is_metered(reward_dir: Path) -> None:
    """Its forwards belong to the oracle's phase."""
    from harness.budget.meter import Meter

    meter = Meter(Ledger())
    oracle = RewardModel(RewardModelOptions(model=str(reward_dir), batch_size=2))
    oracle.attach = meter.attach
    metered = MeteredOracle(oracle, meter.ledger, meter)
    metered.score([{"prompt": "Question?"}] * 3, ["no", "yes", "an answer"])
    spent = meter.ledger.entries["oracle"]
    assert spent["calls"] == 3
    assert spent["forward_flops"] > 2 * spent["tokens"] * 1e5  # a million weights, most of them in the blocks
    assert set(meter.ledger.entries) == {"oracle"}


def test_reward_model_is_known_by_its_content(reward_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(reward_dir, copy)
    first, second = (RewardModel(RewardModelOptions(model=str(f))).identity() for f in (reward_dir, copy))
    assert first == second
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert RewardModel(RewardModelOptions(model=str(copy))).identity() != first


def test_what_is_no_reward_model(tiny_dir: Path, tmp_path: Path, tokenizer: Any) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_dir, num_labels=2, dtype=torch.float32)
    model.save_pretrained(tmp_path / "two")
    tokenizer.save_pretrained(tmp_path / "two")
    with pytest.raises(UserError, match="has 2 outputs, not one"):
        RewardModel(RewardModelOptions(model=str(tmp_path / "two"))).score([{"prompt": "x"}], ["y"])
    with pytest.raises(UserError, match="'model'"):
        make_oracle(OracleSpec(name="reward_model"))
    with pytest.raises(UserError, match="does not exist"):
        RewardModel(RewardModelOptions(model=str(tmp_path / "none"))).identity()


@pytest.fixture
def endpoint(serve: Callable[[Behaviour], Server]) -> Server:
    return serve(more_words_win)


def judge(endpoint: Server, **options: Any) -> LLMJudge:
    return LLMJudge(LLMJudgeOptions(model="judge-1", base_url=f"http://127.0.0.1:{endpoint.server_port}/v1", **options))


def test_llm_judge_asks_both_orders_over_http(endpoint: Server) -> None:
    rows = [{"prompt": "one"}, {"prompt": "two"}, {"prompt": "three"}, {"prompt": "biased"}]
    verdicts = judge(endpoint).prefer(rows, ["a b c", "a", "a b", "a b"], ["a", "a b", "c d", "a"])
    assert verdicts == [1.0, 0.0, 0.5, 0.5]
    assert len(endpoint.asked) == 8
    assert endpoint.bodies[0]["temperature"] == 0
    assert {b["model"] for b in endpoint.bodies} == {"judge-1"}


def test_llm_judge_pays_once(endpoint: Server, tmp_path: Path) -> None:
    for _ in range(2):
        oracle = judge(endpoint)
        oracle.cache = RowCache(tmp_path / "rows.sqlite")
        assert oracle.prefer([{"prompt": "one"}], ["a b"], ["a"]) == [1.0]
    assert len(endpoint.asked) == 2
    other = judge(endpoint, temperature=0.5)
    other.cache = RowCache(tmp_path / "rows.sqlite")
    other.prefer([{"prompt": "one"}], ["a b"], ["a"])
    assert len(endpoint.asked) == 4


def test_llm_judge_errors_are_sentences(endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"'judge-1' refuses \(.*no such model.*\): check model, base_url"):
        judge(endpoint, retries=0).prefer([{"prompt": "broken"}], ["a"], ["b"])
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="set the variable OPENAI_API_KEY"):
        LLMJudge(LLMJudgeOptions(model="gpt-x")).prefer([{"prompt": "x"}], ["a"], ["b"])


def test_a_pair_without_a_verdict_is_not_valid_and_a_counted_tie_in_training() -> None:
    class Mute(Longer):
        def prefer(self, rows: Any, firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
            return [
                float("nan") if "?" in a + b else p
                for a, b, p in zip(firsts, seconds, super().prefer(rows, firsts, seconds), strict=True)
            ]

    ledger = Ledger()
    oracle = MeteredOracle(Mute(), ledger)
    assert oracle.prefer([{}] * 2, ["aa", "a?"], ["b", "b"]) == [0.8, 0.5]
    assert ledger.get("oracle", "undecided") == 1
    assert oracle.rank({}, ["a", "b?", "cc"]) == pytest.approx([0.35, 0.5, 0.65])
    won, base = oracle.versus([{}] * 2, ["aa", "a?"], ["b", "b"])
    assert won[0] == 0.8
    assert math.isnan(won[1])
    assert base == [0.5, 0.5]
    assert ledger.get("oracle", "undecided") == 3  # evaluation leaves such pairs out instead


def test_judge_identity_leaves_out_where_the_key_lies() -> None:
    first = LLMJudge(LLMJudgeOptions(model="m", api_key_env="A", concurrency=1)).identity()
    assert first == LLMJudge(LLMJudgeOptions(model="m", api_key_env="B", concurrency=9)).identity()
    assert first != LLMJudge(LLMJudgeOptions(model="m", temperature=1)).identity()
    elsewhere = LLMJudge(LLMJudgeOptions(model="m", base_url="http://inside.example/v1")).identity()
    assert elsewhere != first
    assert "inside.example" not in json.dumps(elsewhere)
