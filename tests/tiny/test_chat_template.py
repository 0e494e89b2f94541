"""Chat templates: one hand-written template for each fault, and templates that a recipe names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.answer.answer_ids import TURNS
from harness.answer.chat import render, takes_system
from harness.answer.chat_template import template_text
from harness.answer.load import load_model, load_tokenizer, saved_eos_ids
from harness.answer.start_policy import build_start, start_stage
from harness.answer.template_check import check_template
from harness.errors import UserError
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe
from harness.store.json_files import digest
from harness.store.stages import Store
from harness.store.versions import START_VERSION
from sail.sampling import end_ids

EACH = "{% for m in messages %}"
TURN = "<|{{ m['role'] }}|>{{ m['content'] }}"
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
SOUND = EACH + TURN + "<|end|>{% endfor %}" + OPEN
NOT_SYSTEM = "{% if m['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"


@pytest.fixture
def written(tokenizer: Any) -> Any:
    """The tiny tokenizer with another template, and what to set beside it."""

    def inner(template: Any, **changes: Any) -> Any:
        other = copy.deepcopy(tokenizer)
        other.chat_template = template
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    return inner


FAULTS = {
    "none": (None, "no chat template"),
    "raises": (EACH + "{{ m['text'].strip() }}{% endfor %}" + OPEN, "cannot write a dialogue of 1 turns"),
    "deaf": (
        EACH + TURN + "<|end|>{% endfor %}",
        r"ignores add_generation_prompt: it must open the answer with '<\|assistant\|>'",
    ),
    "deaf chatml": (
        EACH + "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}",
        r"ignores add_generation_prompt: .* with '<\|im_start\|>assistant\\n'",
    ),
    "half opened": (
        EACH + "<|{{ m['role'] }}|>: {{ m['content'] }}<|end|>{% endfor %}" + OPEN,
        r"opens an answer without ': ', with which it begins a finished one",
    ),
    "opened otherwise": (
        SOUND.replace("<|assistant|>{%", "<|model|>{%"),
        r"with 'model\|>' where a finished conversation has 'assistant\|>'",
    ),
    "thoughts between": (
        SOUND.replace(TURN, TURN.replace("{{ m['content'] }}", "<think>Hm.</think>{{ m['content'] }}")),
        r"opens an answer without '<think>Hm\.</think>'",
    ),
    "no answer at the end": (
        "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('the user must speak last') }}{% endif %}"
        + SOUND,
        r"cannot write a dialogue of 2 turns, the user first and an answer last \(the user must speak last\)",
    ),
    "a last answer is dropped": (
        EACH + "{% if not (loop.last and m['role'] == 'assistant') %}" + TURN + "<|end|>{% endif %}{% endfor %}" + OPEN,
        "leaves out a last turn of the assistant",
    ),
    "no default among several": ({"tool_use": SOUND}, "multiple chat templates with no default"),
    "unknown roles": (
        EACH + "{% if m['role'] == 'human' %}" + TURN + "{% endif %}{% endfor %}" + OPEN,
        r"leaves out turn 1 \(user\) of 1",
    ),
    "half of the roles": (
        EACH + "{% if m['role'] == 'user' %}" + TURN + "<|end|>{% endif %}{% endfor %}" + OPEN,
        r"leaves out turn 2 \(assistant\) of 3",
    ),
    "last turn alone": (
        "{% set m = messages[-1] %}" + TURN + "<|end|>" + OPEN,
        r"leaves out turn 1 \(user\) of 3",
    ),
    "no third turn": (
        "{% for m in messages[:2] %}" + TURN + "<|end|>{% endfor %}" + OPEN,
        r"leaves out turn 3 \(user\) of 3",
    ),
    "a dialogue is refused": (
        "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}" + SOUND,
        r"cannot write a dialogue of 3 turns, the user first \(one turn only\)",
    ),
    "doubled": (EACH + TURN + "{{ m['content'] }}<|end|>{% endfor %}" + OPEN, r"turn 1 \(user\) of 1 2 times"),
    "backwards": (
        "{% for m in messages | reverse %}" + TURN + "<|end|>{% endfor %}" + OPEN,
        r"turn 2 \(assistant\) of 3 before an earlier one",
    ),
    "no end": (
        EACH + TURN + "\n{% endfor %}" + OPEN,
        r"ends an assistant's turn with '\\n' .*end the turn with eos_token",
    ),
    "another end": (
        EACH + TURN + "<|pad|>{% endfor %}" + OPEN,
        r"with '<\|pad\|>' \(ids \[257\]\).*eos_token_id \[256\]: '<\|end\|>'.*generation_config.json",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_each_fault_is_named(fault: str, written: Any, tokenizer: Any) -> None:
    template, sentence = FAULTS[fault]
    assert tokenizer.convert_tokens_to_ids(["<|end|>", "<|pad|>"]) == [256, 257]
    with pytest.raises(UserError, match=sentence):
        check_template(written(template), [256])


def test_two_bos_are_named(written: Any) -> None:
    with pytest.raises(UserError, match="BOS twice"):
        check_template(written("<|user|><|user|>" + SOUND, bos_token="<|user|>"), [256])


def test_sound_templates_pass(written: Any, tokenizer: Any, tiny_dir: Path) -> None:
    assert saved_eos_ids(tiny_dir, tokenizer) == [256]
    check_template(tokenizer, [256])
    assert tokenizer.decode(render(tokenizer, [{"role": "user", "content": "Hi"}])) == "<|user|>Hi<|end|><|assistant|>"
    check_template(written(SOUND), [256])
    refuses = written(EACH + NOT_SYSTEM + TURN + "<|end|>{% endfor %}" + OPEN)
    check_template(refuses, [256])
    check_template(written(EACH + TURN + "<|pad|>{% endfor %}" + OPEN), [256, 257])  # <|im_end|> beside eos, say
    check_template(written(EACH + TURN + " \n<|end|>\n{% endfor %}" + OPEN), [256])
    with pytest.raises(UserError, match="names no token that ends an answer"):
        check_template(tokenizer, [])


@pytest.mark.parametrize(
    "template",
    [
        SOUND.replace("<|assistant|>{%", "<|assistant|><think>\n{%"),  # the conversation lacks the opened block
        SOUND.replace("<|assistant|>{%", "<|assistant|><think>\n\n</think>\n\n{%"),  # or an empty one
        SOUND.replace("<|assistant|>{%", "<|assistant|><|channel>thought\n<channel|>{%"),
        SOUND.replace(TURN, TURN.replace("{{ m['content'] }}", "\n<think></think>\n{{ m['content'] }}")),
        SOUND.replace("{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}"),
        {"default": SOUND, "tool_use": "{{ raise_exception('not this one') }}"},
        EACH + TURN + "{% if not loop.last or m['role'] == 'user' %}<|end|>{% endif %}{% endfor %}" + OPEN,  # a prefill
    ],
)
def test_templates_with_thoughts_marks_or_names_pass(template: Any, written: Any) -> None:
    check_template(written(template), [256])


def test_a_system_turn_counts_if_it_is_written(written: Any) -> None:
    silent = EACH + "{% if m['role'] != 'system' %}" + TURN + "<|end|>{% endif %}{% endfor %}" + OPEN
    verdicts = [takes_system(written(t)) for t in (SOUND, EACH + NOT_SYSTEM + TURN + "<|end|>{% endfor %}", silent)]
    assert verdicts == [True, False, False]


def test_ids_that_end_an_answer(tmp_path: Path, tokenizer: Any) -> None:
    assert saved_eos_ids(tmp_path, tokenizer) == [256]
    (tmp_path / "config.json").write_text('{"eos_token_id": 3}')
    assert saved_eos_ids(tmp_path, tokenizer) == [3]


@pytest.mark.parametrize(("configured", "expected"), [(None, [256]), (5, [5]), ([5, 6], [5, 6]), ("no file", [3])])
def test_saved_end_ids_are_those_that_the_loaded_model_samples_with(
    configured: Any, expected: list[int], load: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model = load()
    model.generation_config.eos_token_id = None if configured == "no file" else configured
    model.config.eos_token_id = 3
    model.save_pretrained(tmp_path)
    if configured == "no file":
        (tmp_path / "generation_config.json").unlink()
    assert end_ids(load_model(tmp_path), tokenizer) == saved_eos_ids(tmp_path, tokenizer) == expected


@pytest.mark.slow
def test_the_embedded_model_passes(smollm2_start: Path) -> None:
    tokenizer = load_tokenizer(smollm2_start)
    eos_ids = saved_eos_ids(smollm2_start, tokenizer)
    check_template(tokenizer, eos_ids)
    assert tokenizer.convert_ids_to_tokens(eos_ids) == ["<|im_end|>"]


# a recipe's own template


def with_template(named: str | None) -> Recipe:
    return load_recipe("tiny").model_copy(update={"chat_template": named})


def test_a_named_template_is_part_of_the_start_policy(tmp_path: Path, tokenizer: Any) -> None:
    other = tmp_path / "other.jinja"
    opening = "{% if add_generation_prompt %}assistant: {% endif %}"
    other.write_text(EACH + "{{ m['role'] }}: {{ m['content'] }}<|end|>\n{% endfor %}" + opening)
    plain, named = start_stage("tiny"), start_stage("tiny", str(other))
    assert plain.inputs == {"version": START_VERSION, "built": "tiny"}  # keys of recipes without the setting stay
    assert named.key != plain.key
    folder = build_start("tiny", Store(tmp_path / "store"), str(other))
    assert folder.name == named.key
    replaced = load_tokenizer(folder)
    check_template(replaced, saved_eos_ids(folder, replaced))
    assert replaced.decode(render(replaced, TURNS[:1])) == f"user: {TURNS[0]['content']}<|end|>\nassistant: "
    moved = tmp_path / "moved.jinja"
    moved.write_text(other.read_text())
    assert start_stage("tiny", str(moved)).key == named.key  # the text counts, not its path
    other.write_text(SOUND)
    assert start_stage("tiny", str(other)).key != named.key


def test_recipes_without_a_template_keep_their_hash(tmp_path: Path) -> None:
    """Neither are ``chat_date`` and ``thinking``, which came later, part of the hash at their defaults."""
    recipe = with_template(None)
    raw = recipe.model_dump(mode="json", exclude={"name", "description"})
    assert raw.pop("chat_template") is None
    assert raw.pop("chat_date") == "2025-01-01"
    assert raw.pop("thinking") == "strip"
    assert recipe.hash == digest(raw)
    assert with_template("x.jinja").hash != recipe.hash


@pytest.mark.parametrize(
    ("named", "sentence"),
    [("absent.jinja", "absent.jinja cannot be read"), ("fastchat:vicuna_v1", "did you mean 'vicuna_v1.1'")],
)
def test_what_cannot_be_named(named: str, sentence: str) -> None:
    if named.startswith("fastchat:"):
        pytest.importorskip("fastchat.conversation", reason="fschat is not installed")
    with pytest.raises(UserError, match=sentence):
        template_text(named)


def test_without_fastchat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fastchat.conversation", None)
    with pytest.raises(UserError, match="needs FastChat: python -m pip install"):
        template_text("fastchat:vicuna_v1.1")


@pytest.mark.slow
def test_a_faulty_template_ends_a_comparison_before_the_first_token(tmp_path: Path, cli: Any) -> None:
    (tmp_path / "mine.jinja").write_text(EACH + TURN + "\n{% endfor %}" + OPEN)
    tiny = yaml.safe_load(builtin_recipes()["tiny"].read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tiny | {"name": "mine", "chat_template": "mine.jinja"}))
    done = cli("compare", "mine.yaml", "--methods", "start", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Error: The chat template ends an assistant's turn with" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / ".sail-bench/stages").glob("*"))
