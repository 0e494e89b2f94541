"""Recipes whose chat templates once went wrong, from the command line to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kit.command import Cli
from kit.templates import FAMILIES
from kit.training_cases import case_recipe, cases

from harness.answer.load import load_tokenizer, saved_eos_ids
from harness.pairs.advice import EQUAL_RENDERED
from harness.pairs.tokenised import ENDED, OTHER_PROMPT, SPECIAL

RUN = [  # the case, the end of a stored answer, notes that count all pairs
    ("01-no-generation-prompt/m-mistral", "</s>", []),
    ("02-eos-when-closed/m-phi3", "<|end|>", []),
    ("03-two-end-tokens/m-gemma", "<eot>", []),
    ("03-two-end-tokens/m-llama3", "<eot_id>", []),
    ("04-reasoning-removed/m-r1", "<eos>", [OTHER_PROMPT]),
    ("09-template-in-text/has-eos-text", "<|end|>", [ENDED]),
    ("09-template-in-text/template-in-text", "<|end|>", [ENDED, SPECIAL]),
]
REFUSED = [
    ("04-reasoning-removed/r1-think", f"(20 {EQUAL_RENDERED}): the chat template of MODELS/r1 takes away"),
    (
        "15-all-refused/system-prompt",
        "(20 refused by the chat template: 'no system'): the chat template of MODELS/gemma does not take these",
    ),
]


def check_run(recipe: Path, out: Path, end: str, notes: list[str], cli: Cli) -> None:
    """A comparison runs; each stored answer has one end, its last token; the page counts the notes."""
    done = cli("compare", recipe, "--results", out / "out", "--store", out / "store", "--methods", "dpo")
    assert done.returncode == 0, done.stderr
    (start,) = (out / "store" / "stages").glob("start-*")
    (pairs,) = (out / "store" / "stages").glob("pairs-*")
    tokenizer = load_tokenizer(start)
    ends = set(tokenizer.convert_ids_to_tokens(saved_eos_ids(start, tokenizer)))
    stored = [json.loads(line) for line in (pairs / "train.jsonl").read_text().splitlines()]
    assert len(stored) == 20
    for row in stored:
        for side in ("chosen", "rejected"):
            tokens: list[Any] = tokenizer.convert_ids_to_tokens(row[f"{side}_ids"])
            assert tokens[-1] == end and not ends & set(tokens[:-1]) and row[f"{side}_stopped"]
    counts = json.loads((pairs / "counts.json").read_text())["train"]
    assert counts == {"pairs": 20, "left_out": {}, "kept": dict.fromkeys(sorted(notes), 20)}
    page = (out / "out" / "case" / "pairs-8" / "LEADERBOARD.md").read_text()
    shown = f" (of those kept, {', '.join(f'20 {note}' for note in sorted(notes))})" if notes else ""
    assert f"Used: 20 training pairs{shown}, 6 held-out pairs" in page


@pytest.mark.parametrize(("case", "end", "notes"), RUN)
def test_templates_that_went_wrong_run(
    case: str, end: str, notes: list[str], case_models: Path, tmp_path: Path, cli: Cli
) -> None:
    check_run(case_recipe(cases(case), case_models, tmp_path), tmp_path, end, notes, cli)


@pytest.mark.nightly
@pytest.mark.parametrize("name", FAMILIES)
def test_templates_of_families_run(name: str, tmp_path: Path, cli: Cli) -> None:
    FAMILIES[name].save_model(tmp_path / "models" / "mistral")  # the recipe's name for it
    recipe = case_recipe(cases(RUN[0][0]), tmp_path / "models", tmp_path)
    check_run(recipe, tmp_path, FAMILIES[name].end, [OTHER_PROMPT] if name == "smollm3" else [], cli)


@pytest.mark.parametrize(("case", "sentence"), REFUSED)
def test_templates_that_leave_no_pair_are_named(
    case: str, sentence: str, case_models: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe = case_recipe(cases(case), case_models, tmp_path)
    done = cli("compare", recipe, "--results", tmp_path / "out", "--store", tmp_path / "store", "--methods", "dpo")
    assert done.returncode == 2
    assert f"Error: Of the train rows none is left {sentence}".replace("MODELS", str(case_models)) in done.stderr
    assert "train.max_length" not in done.stderr
