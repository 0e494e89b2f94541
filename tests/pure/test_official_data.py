"""Files of official sets that cannot be asked or judged: refused before any work, with file, line and fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit.official_data import write_official_data

from benchmarks.arena_hard.prompts import read_judge_prompts
from harness.errors import UserError
from harness.run.plugins import load

SET, PROMPT = "alpaca_eval/eval_set_gpt4_1106_preview.jsonl", "alpaca_eval/judge_prompt_alpaca_eval_clf.txt"
QUESTIONS, PROMPTS = "mt_bench/question.jsonl", "mt_bench/judge_prompts.jsonl"
DIFFICULTY = "alpaca_eval/instruction_difficulty.csv"

SHOWN = "so that the judge would not see it"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAIL_BENCH_DATA_DIR", str(tmp_path / "official"))
    return write_official_data(tmp_path / "official")


def planned(benchmark: str) -> None:
    """What any command does with a benchmark before it works."""
    loaded = load("benchmarks", benchmark)()
    loaded.protocol()
    assert loaded.ready() == []


def question(**changes: Any) -> str:
    row = {"question_id": 81, "category": "writing", "turns": ["One?", "Two?"]} | changes
    return json.dumps(row) + "\n"


@pytest.mark.parametrize("benchmark", ["mt_bench_official", "mt_bench_pairwise", "alpaca_eval_2"])
def test_sound_files_are_planned(benchmark: str, data: Path) -> None:
    planned(benchmark)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (QUESTIONS, "", "question.jsonl holds no rows: name a file that is not empty"),
        (QUESTIONS, question() + question(turns=[]), "question.jsonl, line 2: the key 'turns' holds 0 turns"),
        (QUESTIONS, question(turns=["One?", " "]), "line 1: turn 2 of the question is empty: write it"),
        (QUESTIONS, question(turns="One?"), "line 1: the key 'turns' holds"),
        ("mt_bench/reference_answer_gpt-4.jsonl", '{"question_id": 82, "choices": []}', "line 1: the key 'choices'"),
        (SET, "", "holds no rows"),
        (SET, "[]", "holds no rows"),
        (SET, '{"instruction": "Do"}', "line 1: the baseline's answer is missing: give it as 'output'"),
        (SET, '{"instruction": " ", "output": "x"}', "line 1: the instruction is empty"),
        (DIFFICULTY, "index,instruction_difficulty\n" + "0,hard\n" * 6, "row 1: the column 'instruction_difficulty'"),
        (PROMPT, "Which is better?", "holds no turn between"),
        (PROMPT, "<|im_start|>user\nWhich?\n<|im_end|>", f"does not hold {{instruction}}, {SHOWN}"),
        (PROMPT, "<|im_start|>user\n{instruction} {output_1}\n<|im_end|>", f"does not hold {{output_2}}, {SHOWN}"),
    ],
)
def test_a_file_that_cannot_be_asked_is_named_with_the_fix(file: str, text: str, sentence: str, data: Path) -> None:
    (data / file).write_text(text)
    with pytest.raises(UserError) as raised:
        planned("mt_bench_official" if file.startswith("mt_bench") else "alpaca_eval_2")
    assert str(data / file) in str(raised.value)
    assert sentence in str(raised.value)


def without(name: str) -> Callable[[str], str]:
    return lambda template: template.replace(f"{{{name}}}", "it")


@pytest.mark.parametrize(
    ("benchmark", "prompt", "name"),
    [
        ("mt_bench_official", "single-v1", "question"),
        ("mt_bench_official", "single-v1", "answer"),
        ("mt_bench_official", "single-v1-multi-turn", "answer_2"),
        ("mt_bench_official", "single-math-v1", "ref_answer_1"),
        ("mt_bench_official", "single-math-v1-multi-turn", "ref_answer_2"),
        ("mt_bench_pairwise", "pair-v2", "answer_b"),
        ("mt_bench_pairwise", "pair-v2-multi-turn", "question_2"),
        ("mt_bench_pairwise", "pair-math-v1-multi-turn", "answer_a_2"),
    ],
)
def test_a_template_that_hides_what_is_judged_is_refused(benchmark: str, prompt: str, name: str, data: Path) -> None:
    rows = [json.loads(line) for line in (data / PROMPTS).read_text().splitlines()]
    for row in rows:
        if row["name"] == prompt:
            assert f"{{{name}}}" in row["prompt_template"]
            row["prompt_template"] = without(name)(row["prompt_template"])
    (data / PROMPTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as raised:
        planned(benchmark)
    assert all(part in str(raised.value) for part in (str(data / PROMPTS), repr(prompt), f"{{{name}", SHOWN))


TEMPLATE = "prompt_template: ['{question_1} {answer_1} {answer_2}']\n"


@pytest.mark.parametrize(
    ("config", "code", "sentence"),
    [
        ("prompt_template: ['Which?']\nsystem_prompt: be fair\n", "", "needs prompt_template: one text with"),
        ("a: " + "[" * 3000 + "]" * 3000, "", "is no YAML"),
        (TEMPLATE, "JUDGE_SETTINGS = 'abc'", "holds no table JUDGE_SETTINGS"),
        (TEMPLATE, "JUDGE_SETTINGS = " + "-" * 5000 + "1", "holds no table JUDGE_SETTINGS"),
        (TEMPLATE, "JUDGE_SETTINGS = JUDGE_SETTINGS", "holds no table JUDGE_SETTINGS"),
        (TEMPLATE, "JUDGE_SETTINGS = {'hard_prompt': {}}", "holds no instruction for the judge of hard_prompt"),
    ],
)
def test_prompts_of_arena_hard_that_cannot_be_read(config: str, code: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "code.py").write_text(code)
    with pytest.raises(UserError) as raised:
        read_judge_prompts(tmp_path / "config.yaml", ["hard_prompt"], (tmp_path / "code.py") if code else None)
    assert sentence in str(raised.value)
    assert str(tmp_path) in str(raised.value)
