"""RewardBench and pairs in its format: implicit rewards of a policy against plain forwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kit.rewardbench import own_pairs, write_pairs

from benchmarks.rewardbench import RewardBench, RewardBenchOptions, encode_answers
from benchmarks.rewardbench.sections import SIZES
from harness.answer.policy import Policy
from harness.benchmark import EvalContext, benchmark_result
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from harness.errors import UserError
from harness.judge.local import LocalJudge
from harness.oracles.constraints import ConstraintOracle
from harness.oracles.metered import MeteredOracle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path))
    write_pairs(tmp_path, own_pairs())
    return tmp_path


@pytest.fixture
def context(load: Callable[[], Any], tokenizer: Any) -> EvalContext:
    """The tiny policy, moved a little, against the tiny start policy."""
    from kit.training import perturb

    meter = Meter(Ledger())
    policy = Policy(perturb(load(), scale=0.01), tokenizer, "moved", meter=meter, cache=None)
    start = Policy(load(), tokenizer, "start", meter=meter, cache=None)
    return EvalContext(policy, start, LocalJudge(start), MeteredOracle(ConstraintOracle(), Ledger()), [], [], 4)


def plain(model: Any, tokenizer: Any, prompt: str, answer: str) -> tuple[float, int]:
    """log pi of an answer and its end, by one forward of the text as the tiny template writes it; and its tokens."""
    head = tokenizer.encode(f"<|user|>{prompt}<|end|><|assistant|>", add_special_tokens=False)
    tail = tokenizer.encode(f"{answer}<|end|>", add_special_tokens=False)
    with torch.no_grad():
        logps = torch.log_softmax(model(torch.tensor([head + tail])).logits[0, len(head) - 1 : -1], -1)
    return float(logps[range(len(tail)), tail].sum()), len(tail)


def test_accuracies_by_plain_forwards(folder: Path, context: EvalContext, tokenizer: Any) -> None:
    benchmark = RewardBench()
    rows = json.loads(json.dumps(benchmark.answer(context)))
    result = benchmark_result(benchmark, rows, benchmark.protocol(), None)
    expected: dict[str, list[float]] = {"accuracy": [], "summed": [], "per_token": []}
    for row in own_pairs()[:-1]:
        sides = [plain(context.policy.model, tokenizer, row["prompt"], row[s]) for s in ("chosen", "rejected")]
        base = [plain(context.start.model, tokenizer, row["prompt"], row[s])[0] for s in ("chosen", "rejected")]
        expected["accuracy"].append(float(sides[0][0] - base[0] > sides[1][0] - base[1]))
        expected["summed"].append(float(sides[0][0] > sides[1][0]))
        expected["per_token"].append(float(sides[0][0] / sides[0][1] > sides[1][0] / sides[1][1]))
    assert len({tuple(v) for v in expected.values()}) == 3
    for name, values in expected.items():
        assert result.items["items"][name] == [*values, None]
        assert result.metric(name).value == pytest.approx(100 * np.mean(values), abs=1e-5)
        assert (result.metric(name).n_valid, result.metric(name).n_total) == (11, 12)
    main_metric = next(m for m in result.metrics if m.primary)
    assert (main_metric.name, main_metric.title) == ("accuracy", "RewardBench-format pairs, mean")
    assert result.label == "own set, 12 pairs"
    assert set(result.items["items"]["subject"]) == {"mine", "other"}


def test_start_is_at_fifty_and_has_a_value_without_a_reference(folder: Path, context: EvalContext) -> None:
    context.policy = context.start
    benchmark = RewardBench()
    result = benchmark_result(benchmark, benchmark.answer(context), benchmark.protocol(), None)
    assert result.metric("accuracy").value == 50
    assert result.metric("summed").value not in (None, 50)


def test_long_answers_are_cut_and_long_prompts_are_not_valid(
    folder: Path, context: EvalContext, tokenizer: Any
) -> None:
    rows = [
        {"prompt": "Hi?", "chosen": "a" * 50, "rejected": "a" * 9 + "b" * 50, "subset": "s"},
        {"prompt": "Hi?" * 40, "chosen": "a", "rejected": "b", "subset": "s"},
        {"prompt": "Hi?", "chosen": "c" * 60, "rejected": "c" * 70, "subset": "s"},
    ]
    write_pairs(folder, rows)
    answered = RewardBench(RewardBenchOptions(max_length=20)).answer(context)
    assert answered[0]["policy"]["tokens"] == [14, 14]  # of 20, six are the prompt with its turns
    assert answered[1]["policy"] is None  # no room
    assert answered[2]["policy"] is None  # cut, both are one


def test_no_more_is_read_than_the_model_holds(folder: Path, context: EvalContext) -> None:
    """The default of max_length with a model of 20 tokens is 20."""
    write_pairs(folder, [{"prompt": "Hi?", "chosen": "a" * 50, "rejected": "a" * 9 + "b" * 50, "subset": "s"}])
    for policy in (context.policy, context.start):
        policy.model.config.max_position_embeddings = 20
    rows = RewardBench().answer(context)
    assert rows == RewardBench(RewardBenchOptions(max_length=20)).answer(context)
    assert rows[0]["policy"]["tokens"] == [14, 14]


def test_templates_that_write_a_finished_turn_otherwise(load: Callable[[], Any], tokenizer: Any) -> None:
    import copy

    usual = Policy(load(), tokenizer, "p", meter=Meter(Ledger()), cache=None)
    head, (tail,) = encode_answers(usual, "Hi?", ["yes"])
    assert tokenizer.decode([*head, *tail]) == "<|user|>Hi?<|end|><|assistant|>yes<|end|>"
    odd = copy.deepcopy(tokenizer)
    odd.chat_template = odd.chat_template.replace(
        "{% if add", "{% if not add_generation_prompt %}\n{% endif %}{% if add"
    )
    newline = Policy(load(), odd, "p", meter=Meter(Ledger()), cache=None)
    assert encode_answers(newline, "Hi?", ["yes"]) == (head, [tail])  # what follows the end is no part of the answer
    think = copy.deepcopy(tokenizer)
    think.chat_template += "{% if add_generation_prompt %}<think>{% endif %}"
    thinking = Policy(load(), think, "p", meter=Meter(Ledger()), cache=None)
    head, (tail,) = encode_answers(thinking, "Hi?", ["yes"])
    assert tokenizer.decode(head).endswith("<|assistant|><think>")
    assert tokenizer.decode(tail) == "yes<|end|>"


def test_pairs_that_stand_twice_are_counted(
    folder: Path, context: EvalContext, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under ids of their own, or in two subsets; the whole official set keeps its ids, whatever they are."""
    path = write_pairs(folder, [*own_pairs(), own_pairs()[3] | {"id": 99}, own_pairs()[3] | {"subset": "third"}])
    RewardBench().answer(context)
    assert "rewardbench: 1 of 14 pairs repeat an earlier one and count again" in capsys.readouterr().out
    rows = [
        {"prompt": "x", "chosen": "a", "rejected": "b", "subset": s, "id": 0}
        for s, n in SIZES.items()
        for _ in range(n)
    ]
    write_pairs(folder, rows)
    assert RewardBench().label == "official set"
    write_pairs(folder, rows[1:])
    with pytest.raises(UserError, match=f"{path}, line 2: line 1 has the id 'alpacaeval-easy/0' too"):
        RewardBench()
