"""Judge cards: figures of constructed judges, the real command against a real server, the leaderboard's link."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, golden
from judge_server import Behaviour, Handler, completion
from test_report import run

from harness.answer.reply import Reply
from harness.answer.start_policy import start_stage
from harness.errors import UserError
from harness.judge import card_figures as cards
from harness.judge.card_endpoint import read_reply
from harness.judge.card_pairs import LabelledPair, pairs_file, read_pairs
from harness.judge.local import LocalJudge
from harness.judge.prompts import identity
from harness.report.judge_card import card_page
from harness.report.leaderboard import render_pages, stale_files, write_leaderboard
from harness.score.bootstrap import draws
from harness.score.judge_cards import read_card
from harness.score.results import BenchmarkResult, Columns, Metric, result_path, write_result
from harness.score.win_rate_estimators import length_coefficient
from harness.store.json_files import digest

Cli = Any
LENGTHS = [(10, 30), (50, 20), (40, 41), (7, 3), (25, 25), (90, 60), (12, 80), (33, 30)]  # chosen, rejected


def items(judge: Callable[[int, int, int], float | None], again: bool = False) -> Columns:
    """Columns of a judge: probability of slot A from (pair, length in A, length in B)."""
    forward = [judge(i, c, r) for i, (c, r) in enumerate(LENGTHS)]
    backward = [judge(i, r, c) for i, (c, r) in enumerate(LENGTHS)]
    return {
        "id": list(range(len(LENGTHS))),
        "forward": forward,
        "backward": backward,
        "again": list(forward) if again else [None] * len(LENGTHS),
        "mass": [None] * len(LENGTHS),
        "length_chosen": [c for c, _ in LENGTHS],
        "length_rejected": [r for _, r in LENGTHS],
    }


def figures(columns: Columns) -> dict[str, Metric]:
    return {m.name: m for m in cards.figures(columns)}


def test_a_judge_that_always_says_a() -> None:
    found = figures(items(lambda i, a, b: 1.0))
    values = {name: m.value for name, m in found.items()}
    assert values["first_slot"] == values["same_slot"] == 100
    assert values["agreement"] == values["single_agreement"] == values["longer"] == 50
    assert values["same_winner"] == 0
    assert values["length"] == pytest.approx(0, abs=1e-6)
    assert (found["first_slot"].low, found["first_slot"].high) == (100, 100)
    assert "same_again" not in found
    assert "first_probability" not in found  # its answers are no probabilities


def test_a_perfect_judge() -> None:
    columns = items(lambda i, a, b: 0.9)
    columns["backward"] = [0.2] * len(LENGTHS)
    found = figures(columns)
    for name in ("agreement", "single_agreement", "same_winner", "agreement_longer", "agreement_shorter"):
        assert found[name].value == 100
    assert found["first_slot"].value == 50
    assert found["same_slot"].value == 0
    assert found["first_probability"].value == pytest.approx(55)
    longer = sum(c > r for c, r in LENGTHS)
    assert (found["agreement_longer"].n_total, found["agreement_shorter"].n_total) == (longer, 7 - longer)
    assert found["longer"].value == found["known_longer"].value == pytest.approx(100 * longer / 7)


def test_a_judge_that_prefers_the_longer() -> None:
    found = figures(items(lambda i, a, b: 0.5 + 0.5 * ((a > b) - (a < b))))
    assert found["longer"].value == 100
    assert (found["longer"].n_valid, found["longer"].n_total) == (7, 7)  # one pair has equal lengths
    assert found["agreement_longer"].value == 100
    assert found["agreement_shorter"].value == 0
    longer = sum(c > r for c, r in LENGTHS)
    assert found["agreement"].value == pytest.approx(100 * (longer + 0.5) / 8)  # the tie counts half
    assert found["same_winner"].value == 100
    assert found["length"].low is not None
    assert found["length"].low > 0


def test_unreadable_answers_are_left_out_and_counted() -> None:
    columns = items(lambda i, a, b: None if i == 2 else 1.0, again=True)
    columns["backward"][3] = None
    columns["again"][5] = None
    columns["again"][6] = 0.0
    found = figures(columns)
    assert (found["agreement"].n_valid, found["agreement"].n_total) == (6, 8)
    assert found["first_slot"].value == 100
    # asked again: 2 (unreadable), 3 (its backward order), 5 (the repeat) are no pairs of verdicts; 6 changed its mind
    assert (found["same_again"].n_valid, found["same_again"].value) == (5, 80)


def test_figures_equal_plain_counting() -> None:
    """Random probabilities, ties and gaps among them, against loops over verdicts written out."""
    rng = np.random.default_rng(0)
    choices = [0.0, 0.2, 0.5, 0.7, 1.0, None]
    columns = items(lambda i, a, b: choices[rng.integers(6)], again=True)
    score = {1: 1.0, 0: 0.5, -1: 0.0}
    agree, single, first, slots, winners = [], [], [], [], []
    for f, b in zip(columns["forward"], columns["backward"], strict=True):
        if f is None or b is None:
            continue
        says_a = [score[np.sign(round(f - 0.5, 9))], score[np.sign(round(b - 0.5, 9))]]
        agree.append(score[np.sign(round(f - b, 9))])
        single.append((says_a[0] + 1 - says_a[1]) / 2)
        first.append(sum(says_a) / 2)
        slots.append(says_a in ([1.0, 1.0], [0.0, 0.0]))
        winners.append(says_a[0] == 1 - says_a[1])
    found = figures(columns)
    for name, values in zip(
        ("agreement", "single_agreement", "first_slot", "same_slot", "same_winner"),
        (agree, single, first, slots, winners),
        strict=True,
    ):
        assert found[name].value == pytest.approx(100 * np.mean(values), abs=1e-4), name
        assert found[name].n_valid == len(values) > 3


def test_interval_is_that_of_a_proportion() -> None:
    """200 verdicts, 120 right: the bootstrap interval of a share is the binomial's."""
    n = 200
    columns: Columns = {
        "id": list(range(n)),
        "forward": [1.0] * 120 + [0.0] * 80,
        "backward": [0.0] * 120 + [1.0] * 80,
        "again": [None] * n,
        "mass": [None] * n,
        "length_chosen": [10] * n,
        "length_rejected": [10] * n,
    }
    found = figures(columns)
    error = 100 * (0.6 * 0.4 / n) ** 0.5
    assert found["agreement"].low == pytest.approx(60 - 1.96 * error, abs=1)
    assert found["agreement"].high == pytest.approx(60 + 1.96 * error, abs=1)
    assert found["longer"].value is None  # no two lengths differ
    assert found["length"].value is None
    assert found["agreement_longer"].n_total == 0


def test_length_coefficient_is_scikit_learns() -> None:
    """On the data and in resamples, each with its own sd; a missing verdict has no weight."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    n = 60
    delta = rng.normal(0, 200, n).round()
    y = rng.choice([0.0, 0.5, 1.0], n)
    columns = {"id": list(range(n)), "agree": [None, *y[1:]], "length_difference": delta.tolist()}
    weights = np.concatenate([np.ones((1, n)), draws(n, 3)])
    found = length_coefficient(columns, "agree", weights)
    for w, value in zip(weights, found, strict=True):
        used = np.repeat(np.arange(1, n), w[1:].astype(int))
        x = np.stack([np.ones(len(used)), delta[used] / delta[used].std(ddof=1)], 1)
        rows, labels = np.concatenate([x, x]), np.repeat([1, 0], len(used))
        soft = np.concatenate([y[used], 1 - y[used]])
        model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000)
        assert value == pytest.approx(model.fit(rows, labels, sample_weight=soft).coef_[0, 1], abs=1e-5)


def test_log_probabilities_count_where_the_text_is_the_label() -> None:
    """They say how sure a judge is; which answer it names is what its text says."""
    top = {"A": math.log(0.5), " A": math.log(0.1), "B": math.log(0.2), "The": math.log(0.1)}
    first, mass, reason = read_reply(Reply("A", top))
    assert (first, mass, reason) == (pytest.approx(0.6 / 0.8), pytest.approx(0.8), "")
    marked = {"[[A": math.log(0.7), "[[B": math.log(0.2)}
    assert read_reply(Reply("[[A]]", marked)).first == pytest.approx(0.7 / 0.9)
    assert read_reply(Reply("[[A]]", {"[[": -0.01, "A": -5.0})) == (1.0, None, "")
    assert read_reply(Reply("A tie", top)) == (0.5, None, "")
    assert read_reply(Reply("C", {"C": -0.1, "A": -3.0})) == (0.5, None, "")
    assert read_reply(Reply("A good answer is short, so [[B]]", top)) == (0.0, None, "")
    assert read_reply(Reply("Answer A is better than answer B.", top)) == (None, None, "no label")
    assert read_reply(Reply("A", top, finish="length")) == (None, None, "cut by length")
    assert read_reply(Reply("", top)) == (None, None, "empty reply")
    assert read_reply(Reply(None, error="status 500")) == (None, None, "no reply")


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_forms_of_pairs(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "Hi {x}"}

    def said(text: str) -> dict[str, str]:
        return {"role": "assistant", "content": text}

    rows: list[Any] = [
        {"prompt": "Q", "chosen": "good", "rejected": "bad"},
        {"prompt": "Q", "chosen": "same", "rejected": "same"},
        {"chosen": [turn, said("1")], "rejected": [{"role": "user", "content": "another"}, said("2")]},
        {"prompt": "Hi", "chosen": [turn, said("good")], "rejected": [turn, said("bad")]},
        {"prompt": [turn], "chosen": [said("good")], "rejected": [said("bad")]},
        {"instruction": "Do", "input": "it", "chosen": "good", "rejected": "bad"},
        {"instruction": "Do", "input": "", "chosen": "good", "rejected": "bad"},
        {"chosen": [turn, said("yes"), turn, said("good")], "rejected": [turn, said("yes"), turn, said("bad")]},
        {"prompt": "not read"},
    ]
    path = write(tmp_path / "pairs.jsonl", rows[:-1])
    found, equal = read_pairs(path, 10)
    assert equal == 2
    talk = "User: Hi {x}\n\nAssistant: yes\n\nUser: Hi {x}"
    assert [p.prompt for p in found] == ["Q", "Hi {x}", "Hi {x}", "Do\n\nit", "Do", talk]
    assert {p[1:] for p in found} == {("good", "bad")}
    assert read_pairs(path, 1) == ([LabelledPair("Q", "good", "bad")], 0)


def test_golden_pairs() -> None:
    found, equal = read_pairs(golden("preference", "ultrafeedback_binarized_test_prefs_500.jsonl"), 100)
    assert (len(found), equal) == (100, 1)
    every, equal = read_pairs(golden("preference", "short_synthetic_1100.jsonl"), 10**6)
    assert (len(every), equal) == (1094, 6)
    assert pairs_file(golden("preference").parent).name == "ultrafeedback_binarized_test_prefs_500.jsonl"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "Q", "chosen": "x"}, r"line 2: the key 'rejected' is missing"),
        ({"prompt": "Q", "chosen": 3, "rejected": "x"}, r"line 2: 'chosen' must be a string or a list of messages"),
        ({"prompt": 7, "chosen": "y", "rejected": "x"}, r"line 2: 'prompt' must be a string or a list of messages"),
        ({"instruction": "Do", "input": 7, "chosen": "y", "rejected": "x"}, r"line 2: 'input' must be a string"),
    ],
)
def test_a_bad_row_is_named(row: Any, sentence: str, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [{"prompt": "Q", "chosen": "a", "rejected": "b"}, row])
    with pytest.raises(UserError, match=re.escape(str(path)) + ", " + sentence):
        read_pairs(path, 10)


PAIRS = [
    {"prompt": f"Question {i}", "chosen": f"fine {i}" + "!" * i, "rejected": "poor" * (i % 3 + 1)} for i in range(9)
]


def answers(text: str) -> tuple[str, str]:
    found = re.search(r"Answer A:\n(.*)\n\nAnswer B:\n(.*)\n\nWhich", text, re.DOTALL)
    assert found
    return found.group(1), found.group(2)


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
    return write(tmp_path / "secret-folder" / "mine.jsonl", [*PAIRS, {"prompt": "Q", "chosen": "x", "rejected": "x"}])


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
    path = tmp_path / "results/judges" / f"{key}.json"
    card = read_card(path)
    (section,) = card.sections
    right = [len(p["chosen"]) > len(p["rejected"]) for p in PAIRS[:8]]
    found = {m.name: m for m in section.metrics}
    assert found["agreement"].value == pytest.approx(100 * sum(right) / 8)
    assert (found["agreement"].n_valid, found["agreement"].n_total) == (8, 9)
    assert found["longer"].value == 100
    assert found["first_slot"].value == 50
    assert found["same_again"].value == pytest.approx(100 * 7 / 8, abs=1e-4)
    assert found["same_again"].n_valid == 8
    used = section.usage
    assert (used["calls"], used["unreadable"], used["unanswered"], used["timed"]) == (27, 3, 0, 27)
    assert used["no_verdict"] == {"no label": 3}
    assert "27: 3 unreadable, 0 unanswered (3 no label)" in path.with_suffix(".md").read_text()
    assert used["from_logprobs"] == (23 if logprobs else 0)
    assert used["answered_by"] == ["judge-2024-01-01"]
    assert used["cost"] == pytest.approx(27 * (100 * 10 + 10 * 30) / 1e6)
    if logprobs:
        assert found["mass"].value == pytest.approx(90, abs=1e-3)
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
def test_mistakes_are_told(arguments: list[str], sentence: str, tmp_path: Path, cli: Cli) -> None:
    write(tmp_path / "equal.jsonl", [{"prompt": "Q", "chosen": "x", "rejected": "x"}])
    write(tmp_path / "good.jsonl", PAIRS)
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
    path = tmp_path / "results/judges" / f"{digest(judge)}.json"
    card = read_card(path)
    (section,) = card.sections
    assert card.judge == judge
    assert section.metric("same_again") is None
    assert section.usage["timed"] == section.usage["calls"] == 18
    assert "Not comparable with GPT-4 judged scores" in path.with_suffix(".md").read_text()

    policy = Policy(load(), tokenizer, "x", meter=Meter(Ledger()), cache=None)
    asked = LocalJudge(policy)
    for i, row in enumerate(PAIRS):
        for name, (a, b) in {
            "forward": (row["chosen"], row["rejected"]),
            "backward": (row["rejected"], row["chosen"]),
        }.items():
            context = asked._context(COMPARE.format(question=row["prompt"], first=a, second=b), COMPARE_OPENING)
            (logps,) = policy.next_token_logps([context], asked._ids(COMPARE_OPENING, (" A", " B")))
            p = np.exp(logps[0]) / np.exp(logps).sum()
            assert section.items[name][i] == pytest.approx(p, abs=1e-4)
    again = cli(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert read_card(path) == card


def test_leaderboards_link_the_card(tmp_path: Path) -> None:
    """The line appears with the card, in an ordinary folder and in a study's, and says what to do without one."""
    judge = identity("start-1")
    benchmark = BenchmarkResult(
        benchmark="b", title="B", label="mini", protocol={}, protocol_hash="h", judge=judge, metrics=[], items={}
    )
    folders = [tmp_path / "results" / "demo" / "pairs-96", tmp_path / "results" / "studies" / "demo" / "pairs-96"]
    for folder in folders:
        write_result(result_path(folder.parent.parent, "demo", "pairs-96", "dpo", 0), run("dpo", [benchmark]))
        write_leaderboard(folder)
        text = (folder / "LEADERBOARD.md").read_text()
        assert "`sail-bench judge-card local --model tiny --pairs FILE` makes one" in text
    data = {"file": "p.jsonl", "sha256": "0" * 64, "pairs": "1", "used": 8, "equal": 0}
    usage = {"calls": 16, "unreadable": 0, "unanswered": 0, "from_logprobs": 0, "answered_by": [], "tokens_in": 1,
             "tokens_out": 0, "cost": 0.0, "timed": 0, "seconds": None, "cores": None}  # fmt: skip
    section = cards.card_section(data, {}, items(lambda i, a, b: 1.0), usage, "c", "2000-01-01")
    card = cards.with_section(None, judge, section)
    at = tmp_path / "results" / "judges" / f"{card.key}.json"
    at.parent.mkdir()
    at.write_text(card.model_dump_json())
    at.with_suffix(".md").write_text(card_page(card))
    for folder, up in zip(folders, ("../../", "../../../"), strict=True):
        assert stale_files(folder) == ["LEADERBOARD.md"]
        write_leaderboard(folder)
        text = (folder / "LEADERBOARD.md").read_text()
        link = re.search(r"\[Judge card\]\((.*?)\): agrees with the known preference in 50% of 8 pairs", text)
        assert link
        assert link.group(1) == f"{up}judges/{card.key}.md"
        assert (folder / link.group(1)).is_file()
        assert stale_files(folder) == []
        assert "makes one" not in text
    behind = benchmark.model_copy(update={"judge": {"kind": "endpoint", "model": "m", "endpoint": digest(None)}})
    text = render_pages([run("dpo", [behind])])["LEADERBOARD.md"]
    assert "`sail-bench judge-card m --pairs FILE` makes one" in text
    assert (
        "**Judge**: none"
        in render_pages([run("dpo", [benchmark.model_copy(update={"judge": None})])])["LEADERBOARD.md"]
    )


def test_committed_cards_are_those_of_their_numbers() -> None:
    """Pages and figures follow from the numbers in the file, and the default's judge has a card."""
    found = [read_card(path) for path in sorted((ROOT / "results" / "judges").glob("*.json"))]
    for card in found:
        assert card.key == digest(card.judge)
        assert (ROOT / "results" / "judges" / f"{card.key}.md").read_text(encoding="utf-8") == card_page(card)
        for section in card.sections:
            for kept, new in zip(section.metrics, cards.figures(section.items), strict=True):
                assert new.value == pytest.approx(kept.value, abs=1e-5)
    text = (ROOT / "results/smollm2/pairs-64/LEADERBOARD.md").read_text(encoding="utf-8")
    named = re.search(r"\*\*Judge\*\* `(\w+)`", text)
    assert named
    assert named.group(1) in {card.key for card in found}
