"""Token ids of given answers: TRL's own up to the end of the answer, under the templates of many model families."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from conftest import golden
from kit.templates import EACH, FAMILIES, TEXT, Family

from harness.answer.answer_ids import TextMarks, answer_ids, text_marks, usual_end, without_end
from harness.answer.chat import Messages, messages_of, render, takes_system
from harness.answer.chat_template import set_chat_template
from harness.answer.load import load_tokenizer, saved_eos_ids
from harness.answer.template_check import check_template
from harness.pairs.layouts import READERS, Unusable
from harness.pairs.tokenised import pair_ids
from harness.store.user_files import read_user_rows

CASE_FAMILIES = ("gemma", "llama3", "phi3", "r1", "q35", "plain", "mistral")
FASTCHAT = ("vicuna_v1.1", "zephyr", "openchat_3.5")
TALK = [
    {"role": "user", "content": "Two and one?"},
    {"role": "assistant", "content": "Three."},
    {"role": "user", "content": "And one more?"},
]
ANSWERS = [("Four.", "Five, \u2028 I think."), ("A list:\n\n- 4\n", "\n\nFour"), ("Ça fait 4 🙂", "4"), ("4", "4 4")]

Raw = dict[str, Any]


def conversations(tokenizer: Any) -> list[Raw]:
    """Rows of TRL's conversational layout: one turn, three turns, and a system turn where the template has one."""
    prompts: list[Messages] = [TALK[-1:], TALK, TALK[:1]]
    if takes_system(tokenizer):
        prompts.append([{"role": "system", "content": "Be brief."}, *TALK])
    return [
        {"prompt": prompt, "chosen": [assistant(chosen)], "rejected": [assistant(rejected)]}
        for prompt, (chosen, rejected) in zip(prompts, ANSWERS, strict=False)
    ]


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def layouts(tokenizer: Any) -> dict[str, list[Raw]]:
    """The same pairs as strings, as conversations, and with the prompt in front of both answers (UltraFeedback)."""
    rows = conversations(tokenizer)
    strings = [
        {"prompt": r["prompt"][-1]["content"], **{side: r[side][0]["content"] for side in ("chosen", "rejected")}}
        for r in rows
    ]
    implicit = [{side: [*r["prompt"], *r[side]] for side in ("chosen", "rejected")} for r in rows]
    return {"strings": strings, "conversations": rows, "implicit": implicit}


def by_trl(tokenizer: Any, datasets: dict[str, list[Raw]], folder: Path) -> dict[str, list[Raw]]:
    """Ids by the data preparation of a stock DPOTrainer. Plain strings go in as one turn of the user: TRL has no chat
    template for them."""
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    prepared = {name: Dataset.from_list([as_turns(r) for r in rows]) for name, rows in datasets.items()}
    args = DPOConfig(output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, max_length=None)
    trainer = DPOTrainer(
        model=LlamaForCausalLM(config),
        ref_model=LlamaForCausalLM(config),
        args=args,
        train_dataset=next(iter(prepared.values())),
        eval_dataset=prepared,
        processing_class=deepcopy(tokenizer),
    )
    return {name: list(rows) for name, rows in trainer.eval_dataset.items()}


def as_turns(row: Raw) -> Raw:
    if not isinstance(row["chosen"], str):
        return row
    answers = {side: [assistant(row[side])] for side in ("chosen", "rejected")}
    return {"prompt": [{"role": "user", "content": row["prompt"]}], **answers}


def read(layout: str, row: Raw) -> Raw:
    pair = READERS["ultrafeedback" if layout == "implicit" else "trl"](row, "better")
    return {"messages": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}


def check_against_trl(tokenizer: Any, end_ids: list[int], folder: Path, added: int | None = None) -> None:
    """Ours are TRL's up to and including the first end id; ``added`` is the end where TRL has none."""
    datasets = layouts(tokenizer)
    theirs = by_trl(tokenizer, datasets, folder)
    compared = 0
    for layout, rows in datasets.items():
        for row, expected in zip(rows, theirs[layout], strict=True):
            ours = pair_ids(tokenizer, read(layout, row), end_ids)
            assert ours.prompt == expected["prompt_ids"]
            for ids, side in ((ours.chosen, "chosen_ids"), (ours.rejected, "rejected_ids")):
                ends = [i for i, token in enumerate(expected[side]) if token in end_ids]
                assert ids == (expected[side][: ends[0] + 1] if ends else [*expected[side], added])
            compared += 1
    assert compared >= 9


@pytest.mark.parametrize("name", CASE_FAMILIES)
def test_ids_are_trls_under_templates_that_went_wrong(name: str, case_models: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(case_models / name)
    end_ids = saved_eos_ids(case_models / name, tokenizer)
    check_template(tokenizer, end_ids)
    check_against_trl(tokenizer, end_ids, tmp_path)


@pytest.fixture(scope="module")
def merging(smollm2_start: Path) -> Any:
    """A tokenizer that merges bytes, so that tokens may merge across the border of prompt and answer."""
    return load_tokenizer(smollm2_start)


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_trls_under_templates_of_families(name: str, merging: Any, tmp_path: Path) -> None:
    family = FAMILIES[name]
    tokenizer = family.tokenizer(merging)
    end_ids = family.end_ids(tokenizer)
    check_template(tokenizer, end_ids)
    check_against_trl(tokenizer, end_ids, tmp_path, tokenizer.convert_tokens_to_ids(family.end))
    ids = answer_ids(tokenizer, TALK, ["Four."], end_ids).answers[0]
    assert tokenizer.convert_ids_to_tokens(ids[-1]) == family.end
    assert sum(token in end_ids for token in ids) == 1


def test_ids_are_trls_under_the_template_of_smollm2(merging: Any, tmp_path: Path) -> None:
    check_against_trl(merging, [merging.eos_token_id], tmp_path)


@pytest.mark.parametrize("name", FASTCHAT)
def test_ids_are_trls_under_templates_of_fastchat(name: str, merging: Any, tmp_path: Path) -> None:
    pytest.importorskip("fastchat.conversation", reason="fschat is not installed")
    tokenizer = Family("", ("</s>",), "</s>", ("<|end_of_turn|>",)).tokenizer(merging)
    set_chat_template(tokenizer, f"fastchat:{name}")
    end_ids = tokenizer.convert_tokens_to_ids(["</s>", "<|end_of_turn|>"])
    check_template(tokenizer, end_ids)
    check_against_trl(tokenizer, end_ids, tmp_path)


@pytest.mark.parametrize("merges", [False, True])
def test_ids_are_trls_on_golden_rows(merges: bool, tokenizer: Any, request: Any, tmp_path: Path) -> None:
    used = request.getfixturevalue("merging") if merges else tokenizer
    rows = []
    for raw in read_user_rows(golden("preference", "ultrafeedback_binarized_train_prefs_500.jsonl"))[:40]:
        try:
            rows.append((read("implicit", raw), {side: raw[side] for side in ("chosen", "rejected")}))
        except Unusable:
            continue
    theirs = by_trl(used, {"golden": [raw for _, raw in rows]}, tmp_path)["golden"]
    for (row, _), expected in zip(rows, theirs, strict=True):
        ours = pair_ids(used, row, [used.eos_token_id])
        assert ours.prompt == expected["prompt_ids"] == ours.asked
        for ids, side in ((ours.chosen, "chosen_ids"), (ours.rejected, "rejected_ids")):
            assert ids == expected[side][: expected[side].index(used.eos_token_id) + 1]


def written(tokenizer: Any, template: str) -> Any:
    other = deepcopy(tokenizer)
    other.chat_template = template
    return other


OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"


SPOKEN = EACH + "<|{{ m['role'] }}|>" + TEXT
BETWEEN = "{% if not (loop.last and m['role'] == 'assistant') %}<|pad|>{% endif %}"


@pytest.mark.parametrize(("between", "end"), [("", "<|end|>"), (BETWEEN, "<|pad|>")])
def test_an_end_is_added_where_the_template_writes_none(between: str, end: str, tokenizer: Any) -> None:
    """Of several ids that which the template writes between turns, else the tokenizer's."""
    other = written(tokenizer, f"{SPOKEN}{between}{{% endfor %}}{OPEN}")
    ends = tokenizer.convert_tokens_to_ids(["<|pad|>", "<|end|>"])
    ids = answer_ids(other, TALK, ["Four."], ends)
    assert other.decode(ids.answers[0]) == f"Four.{end}" and ids.prompt == ids.asked
    assert usual_end(other, ends) == ids.answers[0][-1]
    assert usual_end(other, ends[:1]) == ends[0]


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("Yes.<|end|>", "Yes.<|end|>"),  # the end is taken once
        ("Yes.<|end|> \n", "Yes.<|end|>"),
        ("Yes.<|end|><|end|>", "Yes.<|end|>"),
        ("Yes.<|end|>No.", "Yes.<|end|>No.<|end|>"),  # an end inside the text ends nothing
        ("Yes. \n", "Yes. \n<|end|>"),
        ("", "<|end|>"),
    ],
)
def test_the_end_that_follows_the_text_counts(answer: str, kept: str, tokenizer: Any) -> None:
    tail = written(tokenizer, tokenizer.chat_template.replace("+ '<|end|>' }}", "+ '<|end|>\n<|pad|>' }}"))
    for used, ends in ((tokenizer, [256]), (tail, [256, 257])):
        ids = answer_ids(used, TALK[:1], [answer], ends)
        assert used.decode(ids.answers[0]) == kept
        assert ids.prompt == ids.asked == render(used, TALK[:1])


def test_an_end_that_merges_into_the_text_is_no_end(merging: Any) -> None:
    """A line break that ends a turn merges with one that ends the text: nothing of the text is cut."""
    lines = written(merging, EACH + "{{ m['role'] }}: " + TEXT + "\n{% endfor %}")
    newline = merging("\n")["input_ids"][0]
    ends = [newline, merging.eos_token_id]
    whole = answer_ids(lines, TALK[:1], ["One\ntwo"], ends).answers[0]
    assert lines.decode(whole).endswith("One\ntwo\n") and whole[-1] == newline
    merged = answer_ids(lines, TALK[:1], ["One\ntwo\n"], ends).answers[0]
    assert "One\ntwo" in lines.decode(merged) and merged[-1] in ends


def test_special_tokens_in_texts_are_seen(tokenizer: Any) -> None:
    marks = {
        "Yes.": TextMarks(False, False),
        "Yes.<|end|>": TextMarks(True, False),
        "Yes.<|end|>\n": TextMarks(True, False),
        "<|user|>Yes.": TextMarks(False, True),
        "<|end|>Yes.<|end|>": TextMarks(True, True),
        "a < b |> c": TextMarks(False, False),
    }
    assert {text: text_marks(tokenizer, text, [256]) for text in marks} == marks
    assert without_end(tokenizer, "Yes. <|end|> <|end|>\n", [256]) == "Yes. "
    assert without_end(tokenizer, "Yes. \n", [256]) == "Yes. \n"  # nothing to take away


def test_messages_of_a_row_are_its_prompt(tokenizer: Any) -> None:
    row = {"prompt": "Hi?", "chosen": "a", "rejected": "b"}
    assert pair_ids(tokenizer, row, [256]).asked == render(tokenizer, messages_of(row))
