"""Oracles: the contract, what they are charged for, a reward model, and an LLM judge behind a local endpoint."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from harness.budget.ledger import Ledger
from harness.errors import UserError
from harness.oracles.base import Oracle
from harness.oracles.llm_judge import LLMJudge, LLMJudgeOptions
from harness.oracles.metered import MeteredOracle
from harness.oracles.reward_model import RewardModel, RewardModelOptions, conversation_ids
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import OracleSpec
from harness.run.configure import make_oracle
from harness.score.results import read_result
from harness.store.json_files import read_rows
from harness.store.row_cache import RowCache

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


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
    asked = MeteredOracle(oracle, meter.ledger, meter)
    asked.score([{"prompt": "Question?"}] * 3, ["no", "yes", "an answer"])
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


class Endpoint(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint: says A if the first answer has more words, B if fewer, tie if as many; always A
    for the request "biased"; an error for the request "broken"."""

    asked: list[dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        text = body["messages"][0]["content"]
        first = text.split("Answer A:\n")[1].split("\n\nAnswer B:")[0].split()
        second = text.split("Answer B:\n")[1].split("\n\nReply")[0].split()
        said = "[[A]]" if len(first) > len(second) else "B" if len(first) < len(second) else "It is a tie"
        said = "A" if "biased" in text else said
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge-1", "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}]}  # fmt: skip
        status, payload = (400, {"error": {"message": "no such model"}}) if "broken" in text else (200, answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(payload).encode())

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(("127.0.0.1", 0), _Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def judge(endpoint: Endpoint, **options: Any) -> LLMJudge:
    return LLMJudge(LLMJudgeOptions(model="judge-1", base_url=f"http://127.0.0.1:{endpoint.server_port}/v1", **options))


def test_llm_judge_asks_both_orders_over_http(endpoint: Endpoint) -> None:
    rows = [{"prompt": "one"}, {"prompt": "two"}, {"prompt": "three"}, {"prompt": "biased"}]
    found = judge(endpoint).prefer(rows, ["a b c", "a", "a b", "a b"], ["a", "a b", "c d", "a"])
    assert found == [1.0, 0.0, 0.5, 0.5]
    assert len(endpoint.asked) == 8
    assert endpoint.asked[0]["temperature"] == 0
    assert {b["model"] for b in endpoint.asked} == {"judge-1"}


def test_llm_judge_pays_once(endpoint: Endpoint, tmp_path: Path) -> None:
    for _ in range(2):
        oracle = judge(endpoint)
        oracle.cache = RowCache(tmp_path / "rows.sqlite")
        assert oracle.prefer([{"prompt": "one"}], ["a b"], ["a"]) == [1.0]
    assert len(endpoint.asked) == 2
    other = judge(endpoint, temperature=0.5)
    other.cache = RowCache(tmp_path / "rows.sqlite")
    other.prefer([{"prompt": "one"}], ["a b"], ["a"])
    assert len(endpoint.asked) == 4


def test_llm_judge_errors_are_sentences(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.slow
def test_another_oracle_evaluates_and_the_report_says_so(tmp_path: Path, cli: Cli, endpoint: Endpoint) -> None:
    """train-reward makes a reward model; a comparison trains on its labels and is evaluated by a judge over HTTP."""
    done = cli("train-reward", "tiny", "--out", "rm", "--learning-rate", "1e-3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "rm" / "reward.json").read_text())
    assert f"accuracy {facts['heldout_accuracy']:.3f} on {facts['heldout_pairs']} held-out pairs" in done.stdout
    again = cli("train-reward", "tiny", "--out", "rm", cwd=tmp_path)
    assert again.returncode == 2
    assert "is not empty" in again.stderr
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    options = {"model": "judge-1", "base_url": f"http://127.0.0.1:{endpoint.server_port}/v1"}
    recipe = tiny | {
        "name": "judged",
        "oracle": {"name": "reward_model", "options": {"model": str(tmp_path / "rm")}},
        "eval_oracle": {"name": "llm_judge", "options": options},
        "benchmarks": {"preference": {"max_new_tokens": 8}},
        "tune": {"learning_rates": [1e-3]},
    }
    (tmp_path / "judged.yaml").write_text(yaml.safe_dump(recipe))
    assert load_recipe("tiny").oracle == OracleSpec(name="constraints")
    done = cli("compare", "judged.yaml", "--methods", "start,sail-pr,dpo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "results/judged/pairs-16/LEADERBOARD.md").read_text()
    assert "**Oracles**: `reward_model`" in page
    assert "labels the training pairs; `llm_judge`" in page
    assert "reward (mini), win share" in page
    result = read_result(tmp_path / "results/judged/pairs-16/sail-pr/seed-0.json")
    assert result.oracles["training"]["oracle"] == "reward_model"
    assert result.oracles["evaluation"]["oracle"] == "llm_judge"
    # both orders of sail-pr's answers against dpo's, by the judge's own rule; start's cell is dpo's, mirrored
    texts = {}
    for folder in (tmp_path / ".sail-bench/stages").glob("answers-*"):
        policy = json.loads((folder / "manifest.json").read_text())["inputs"]["policy"]
        texts[policy] = {r["id"]: r["text"] for r in read_rows(folder / "rows.jsonl") if "text" in r}
    trained = {}
    for folder in (tmp_path / ".sail-bench/stages").glob("train-*"):
        method = json.loads((folder / "manifest.json").read_text())["inputs"]["method"][0]
        trained[method] = texts[folder.name]
    ours, theirs = (trained[m] for m in ("sail-pr", "dpo"))
    lengths = [(len(ours[i].split()), len(theirs[i].split())) for i in ours]
    expected = 100 * sum(0.5 + 0.5 * ((a > b) - (a < b)) for a, b in lengths) / len(lengths)
    found = result.benchmark("preference")
    assert found is not None
    assert found.metric("win_reference").value == pytest.approx(expected)
    assert found.metric("win_reference").title == "win vs `dpo`"
    part = page.split("## Distance from the start policy")[1].split("\n\n")[1].split("\n")
    titles = [t.strip() for t in part[0].strip("|").split("|")]
    cells = {r.split("|")[1].strip(): [c.strip() for c in r.strip("|").split("|")] for r in part[2:]}
    place = titles.index("win vs `dpo`, win %")
    assert cells["`sail-pr`"][place].startswith(f"{expected:.1f}")
    assert cells["`dpo`"][place] == ""
    won = read_result(tmp_path / "results/judged/pairs-16/dpo/seed-0.json").benchmark("preference")
    assert won is not None
    assert cells["`start`"][place].startswith(f"{100 - won.metric('win_rate').value:.1f}")
    asked = len(endpoint.asked)
    assert asked
    again = cli("compare", "judged.yaml", "--methods", "start,sail-pr,dpo", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(endpoint.asked) == asked
    assert "FAILED" not in again.stderr
    assert (tmp_path / "results/judged/pairs-16/LEADERBOARD.md").read_text() == page
