"""Judge cards by the real command, against a real server and the local judge."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kit.command import Cli
from kit.judge_server import Behaviour, Handler, completion
from kit.rows import write_rows

from harness.answer.start_policy import start_stage
from harness.judge.local import LocalJudge
from harness.judge.prompts import identity
from harness.report.judge_card import card_page
from harness.score.judge_cards import read_card
from harness.store.json_files import digest

PAIRS = [
    {"prompt": f"Question {i}", "chosen": f"fine {i}" + "!" * i, "rejected": "poor" * (i % 3 + 1)} for i in range(9)
]


def answers(text: str) -> tuple[str, str]:
    match = re.search(r"Answer A:\n(.*)\n\nAnswer B:\n(.*)\n\nWhich", text, re.DOTALL)
    assert match
    return match.group(1), match.group(2)


def scripted(logprobs: bool) -> Behaviour:
    """Prefers the longer answer; says B to the repeat of question 0, and nothing readable about question 8."""

    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        assert request["messages"][0]["role"] == "system"
        text = request["messages"][-1]["content"]
        a, b = answers(text)
        says = "A" if len(a) > len(b) else "B"
        if "Question 8" in text:
            handler.send(completion("Hard to tell."))
        elif "Question 0" in text and n == 1:
            handler.send(completion("B" if says == "A" else "A"))
        else:
            top = {says: math.log(0.7), "AB".replace(says, ""): math.log(0.2)} if logprobs else None
            handler.send(completion(says, top if request.get("logprobs") else None))

    return inner


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(
        tmp_path / "secret-folder" / "mine.jsonl", [*PAIRS, {"prompt": "Q", "chosen": "x", "rejected": "x"}]
    )


@pytest.mark.parametrize("logprobs", [False, True], ids=["text", "log-probabilities"])
def test_an_endpoint_judge(logprobs: bool, serve: Any, pairs: Path, tmp_path: Path, cli: Cli) -> None:
    """The scripted judge's figures, its cost, and a second call that asks nothing and keeps the first one's speed."""
    server = serve(scripted(logprobs))
    url = f"http://127.0.0.1:{server.server_port}/v1"
    command = ["judge-card", "judge-x", "--base-url", url, "--pairs", pairs, "--price-in", 10, "--price-out", 30]
    command += ["--concurrency", 1]  # the script counts how often a question came
    done = cli(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "agreement, both orders" in done.stdout
    assert len(server.asked) == 27
    key = digest({"kind": "endpoint", "model": "judge-x", "endpoint": digest(url)})
    path = tmp_path / "results/local/judges" / f"{key}.json"
    card = read_card(path)
    (section,) = card.sections
    right = [len(p["chosen"]) > len(p["rejected"]) for p in PAIRS[:8]]
    by_name = {m.name: m for m in section.metrics}
    assert by_name["agreement"].value == pytest.approx(100 * sum(right) / 8)
    assert (by_name["agreement"].n_valid, by_name["agreement"].n_total) == (8, 9)
    assert by_name["longer"].value == 100
    assert by_name["first_slot"].value == 50
    assert by_name["same_again"].value == pytest.approx(100 * 7 / 8, abs=1e-4)
    assert by_name["same_again"].n_valid == 8
    used = section.usage
    assert (used["calls"], used["unreadable"], used["unanswered"], used["timed"]) == (27, 3, 0, 27)
    assert used["no_verdict"] == {"no label": 3}
    assert "27: 3 unreadable, 0 unanswered (3 no label)" in path.with_suffix(".md").read_text()
    assert used["from_logprobs"] == (23 if logprobs else 0)
    assert used["answered_by"] == ["judge-2024-01-01"]
    assert used["cost"] == pytest.approx(27 * (100 * 10 + 10 * 30) / 1e6)
    if logprobs:
        assert by_name["mass"].value == pytest.approx(90, abs=1e-3)
        assert set(section.items["forward"][1:8]) == {round(0.7 / 0.9, 6), round(0.2 / 0.9, 6)}
    assert (section.data["used"], section.data["equal"]) == (9, 1)

    again = cli(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(server.asked) == 27
    assert read_card(path) == card
    other = cli(*command, "--limit", 4, "--temperature", 0.7, cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert [s.data["used"] for s in read_card(path).sections] == [9, 4]
    text = path.with_suffix(".md").read_text()
    assert text == card_page(read_card(path))
    assert text.count("\n## mine.jsonl") == 2
    assert "--base-url URL" in text
    assert "temperature 0.7" in text
    for written in (path.read_text(), text):
        for hidden in ("127.0.0.1", "secret-folder", "Question", "fine"):
            assert hidden not in written


def test_a_cap_keeps_what_was_answered(serve: Any, pairs: Path, tmp_path: Path, cli: Cli) -> None:
    server = serve(scripted(False))
    command = ["judge-card", "j", "--base-url", f"http://127.0.0.1:{server.server_port}/v1", "--pairs", pairs]
    done = cli(*command, "--max-requests", 5, cwd=tmp_path)
    assert done.returncode == 2
    assert "cap of 5 requests" in done.stderr
    assert cli(*command, cwd=tmp_path).returncode == 0
    assert len(server.asked) == 27


def test_a_judge_that_names_no_answer_is_no_judge(serve: Any, pairs: Path, tmp_path: Path, cli: Cli) -> None:
    server = serve(lambda handler, request, n: handler.send(completion("<think> Let me")))
    url = f"http://127.0.0.1:{server.server_port}/v1"
    done = cli("judge-card", "j", "--base-url", url, "--pairs", pairs, cwd=tmp_path)
    assert done.returncode == 2
    assert "(27 thinking never ends; the first: '<think> Let me'): raise --max-tokens" in done.stderr
    assert not (tmp_path / "results").exists()


def test_an_endpoint_without_log_probabilities(serve: Any, pairs: Path, tmp_path: Path, cli: Cli) -> None:
    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if "logprobs" in request:
            handler.send({"error": {"message": "this model does not support logprobs"}}, 400)
        else:
            scripted(False)(handler, request, n)

    url = f"http://127.0.0.1:{serve(inner).server_port}/v1"
    command = ["judge-card", "j", "--base-url", url, "--pairs", pairs]
    done = cli(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert "(judge-card: --verdict text)" in done.stderr
    assert cli(*command, "--verdict", "text", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["local"], "give --pairs FILE or --data-dir DIR"),
        (["local", "--pairs", "none.jsonl"], "There is no file none.jsonl"),
        (["local", "--pairs", "equal.jsonl"], "equal.jsonl holds no usable pair (1 without a preference)"),
        (["local", "--data-dir", "."], "preference holds no .jsonl file"),
        (["local", "--pairs", "equal.jsonl", "--temperature", "1"], "--temperature is for an endpoint"),
        (["gpt", "--pairs", "equal.jsonl", "--model", "tiny"], "--model is for the local judge"),
        (["local", "--pairs", "good.jsonl", "--model", "./none"], "The model directory ./none does not exist"),
    ],
)
def test_mistakes_are_named(arguments: list[str], sentence: str, tmp_path: Path, cli: Cli) -> None:
    write_rows(tmp_path / "equal.jsonl", [{"prompt": "Q", "chosen": "x", "rejected": "x"}])
    write_rows(tmp_path / "good.jsonl", PAIRS)
    done = cli("judge-card", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_the_local_judge(pairs: Path, tmp_path: Path, cli: Cli, load: Any, tokenizer: Any) -> None:
    """``tiny`` through the real command: its verdicts are those of the judge of the comparisons, order by order."""
    from harness.answer.policy import Policy
    from harness.budget.ledger import Ledger
    from harness.budget.meter import Meter
    from harness.judge.prompts import COMPARE, COMPARE_OPENING

    command = ["judge-card", "local", "--model", "tiny", "--pairs", pairs]
    done = cli(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    judge = identity(start_stage("tiny").key)
    path = tmp_path / "results/local/judges" / f"{digest(judge)}.json"
    card = read_card(path)
    (section,) = card.sections
    assert card.judge == judge
    assert section.metric("same_again") is None
    assert section.usage["timed"] == section.usage["calls"] == 18
    assert "Not comparable with GPT-4 judged scores" in path.with_suffix(".md").read_text()

    policy = Policy(load(), tokenizer, "x", meter=Meter(Ledger()), cache=None)
    local_judge = LocalJudge(policy)
    for i, row in enumerate(PAIRS):
        for name, (a, b) in {
            "forward": (row["chosen"], row["rejected"]),
            "backward": (row["rejected"], row["chosen"]),
        }.items():
            context = local_judge._context(COMPARE.format(question=row["prompt"], first=a, second=b), COMPARE_OPENING)
            (logps,) = policy.next_token_logps([context], local_judge._ids(COMPARE_OPENING, (" A", " B")))
            p = np.exp(logps[0]) / np.exp(logps).sum()
            assert section.items[name][i] == pytest.approx(p, abs=1e-4)
    again = cli(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert read_card(path) == card
