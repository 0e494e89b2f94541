"""Endpoints that want something else than the usual request, through the commands: judge cards and comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit.evaluation_cases import cases
from kit.scripted_endpoint import Scripted, completion, scripted_endpoint

Cli = Any
THOUGHT = "<think>\nThe user wants something short.\n</think>\n\nHere is the answer."


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def demanding(request: dict[str, Any]) -> Scripted:
    """A judge of 2026: each way of asking that it does not know is refused with the words of a provider."""
    reasons = {
        "Unsupported parameter: 'max_tokens' is not supported with this model.": "max_tokens" in request,
        "Unsupported value: 'temperature' does not support 0 with this model.": "temperature" in request,
        "System role not supported": any(m["role"] == "system" for m in request["messages"]),
        "You are not allowed to request logprobs from this model": "logprobs" in request,
        "top_k must be set": "top_k" not in request,
    }
    reason = next((words for words, applies in reasons.items() if applies), None)
    if reason:
        return Scripted(400, {"error": {"message": reason, "type": "invalid_request_error"}})
    first = request["messages"][-1]["content"].split("Answer A:")[1].split("Answer B:")[0]
    return Scripted(200, completion("[[A]]" if "good" in first else "[[B]]"))


def test_the_advice_of_one_refusal_after_the_other_leads_to_a_card(cli: Cli, pairs: Path, tmp_path: Path) -> None:
    steps = [
        (["--token-limit", "max_completion_tokens"], "token_limit: max_completion_tokens"),
        (["--no-temperature"], "send_temperature: false (judge-card: --no-temperature)"),
        (["--fold-system"], "fold_system: true (judge-card: --fold-system)"),
        (["--verdict", "text"], "verdict: text (judge-card: --verdict text)"),
        (["--extra-body", '{"top_k": 1}'], "extra_body sets a parameter"),
    ]
    with scripted_endpoint(demanding) as server:
        command = ["judge-card", "m", "--base-url", server.url, "--pairs", pairs, "--retries", "0"]
        for flags, advice in steps:
            done = cli(*command, cwd=tmp_path)
            assert done.returncode == 2
            assert advice in " ".join(done.stderr.split())
            assert "OPENAI_API_KEY" not in done.stderr
            command += flags
        done = cli(*command, "--reasoning-effort", "low", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        last = server.requests[-1]
        again = cli(*command, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
    assert (last["reasoning_effort"], last["top_k"]) == ("low", 1)
    cards = [json.loads(path.read_text()) for path in (tmp_path / "results" / "local" / "judges").glob("*.json")]
    assert len(cards) == 2  # with and without reasoning: two judges
    both = {"token_limit": "max_completion_tokens", "send_temperature": False, "fold_system": True}
    assert all(both.items() <= card["judge"].items() for card in cards)
    page = next(
        p.read_text() for p in (tmp_path / "results" / "local" / "judges").glob("*.md") if "low" in p.read_text()
    )
    assert "--no-temperature --fold-system --token-limit max_completion_tokens --reasoning-effort low" in page
    assert """--extra-body '{"top_k": 1}'""" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["m", "--extra-body", "top_k: 1"], "--extra-body is not JSON"),
        (["m", "--extra-body", "[1]"], "--extra-body: a list stands where a mapping of keys is expected"),
        (["m", "--extra-body", '{"stream": true}'], "--extra-body: 'stream'"),
        (["m", "--max-cost", "1"], "max_cost needs the prices"),
        (["local", "--fold-system"], "--fold-system is for an endpoint"),
        (["local", "--no-temperature"], "--no-temperature is for an endpoint"),
        (["local", "--extra-body", "{}"], "--extra-body is for an endpoint"),
    ],
)
def test_options_that_cannot_work_are_a_sentence(
    arguments: list[str], sentence: str, cli: Cli, pairs: Path, tmp_path: Path
) -> None:
    done = cli("judge-card", *arguments, "--pairs", pairs, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in " ".join(done.stderr.split())


def answering(request: dict[str, Any]) -> Scripted:
    """The model's name says what it answers, as a policy and as a judge."""
    texts = {"thinker": THOUGHT, "half": "Nice \ud83d half. Rating: [[8]]", "plain": "Rating: [[8]]"}
    if request["model"] == "away":
        return Scripted(200, {"error": {"message": "Upstream provider is overloaded", "code": 502}})
    if request["model"] == "cut":
        return Scripted(200, completion("<think>\nHm, but", "length"))
    return Scripted(200, completion(texts[request["model"]]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("judge", "notes"),
    [
        (
            "half",
            [
                "replaced by U+FFFD in answers or in the judge's replies: 6 of `cut`",
                "; 12 of `half` seed 0 in MT-Bench",
            ],
        ),
        ("away", ["in MT-Bench (status 502: Upstream provider is overloaded). The same command asks them again."]),
    ],
)
def test_a_comparison_of_endpoints_reports_what_was_left_out_and_why(
    judge: str, notes: list[str], cli: Cli, tmp_path: Path
) -> None:
    folder = cases("10-think-answers")
    raw: dict[str, Any] = yaml.safe_load((folder / "think-answers.yaml").read_text())
    with scripted_endpoint(answering) as server:
        rows = ["thinker", "cut", "half"]
        raw |= {"methods": rows, "benchmarks": {"mt_bench_official": {"max_new_tokens": 8}}}
        raw |= {"judge": {"model": judge, "base_url": server.url, "retries": 0}}
        raw |= {"endpoints": {name: {"model": name, "base_url": server.url} for name in rows}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw))
        done = cli("compare", "recipe.yaml", "--data-dir", cases("data"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        judged = [r["messages"][-1]["content"] for r in server.requests if r["model"] == judge]
    assert judged
    assert not any("<think>" in text or "Hm, but" in text for text in judged)
    page = (tmp_path / "results" / "local" / raw["name"] / "pairs-16" / "LEADERBOARD.md").read_text()
    stripped = "before the rest was judged and measured (`thinking: strip`): "
    assert f"{stripped}6 of `cut` seed 0 in MT-Bench; 6 of `thinker` seed 0 in MT-Bench." in page
    assert [note for note in notes if note not in page] == []
