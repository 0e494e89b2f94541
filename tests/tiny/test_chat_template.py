"""Chat templates: one hand-written template for each fault, and templates that a recipe names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.answer.chat import render, takes_system
from harness.answer.chat_template import template_text
from harness.answer.load import load_tokenizer, saved_eos_ids
from harness.answer.start_policy import build_start, start_stage
from harness.answer.template_check import TURNS, check_template
from harness.errors import UserError
from harness.recipe.load import builtin_recipes, load_recipe
from harness.recipe.recipe import Recipe
from harness.store.json_files import digest
from harness.store.stages import Store

EACH = "{% for m in messages %}"
TURN = "<|{{ m['role'] }}|>{{ m['content'] }}"
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
SOUND = EACH + TURN + "<|end|>{% endfor %}" + OPEN
NOT_SYSTEM = "{% if m['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"


@pytest.fixture
def written(tokenizer: Any) -> Any:
    """The tiny tokenizer with another template, and what to set beside it."""

    def inner(template: str | None, **changes: Any) -> Any:
        other = copy.deepcopy(tokenizer)
        other.chat_template = template
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    return inner


FAULTS = {
    "none": (None, "no chat template"),
    "raises": (EACH + "{{ m['text'].strip() }}{% endfor %}" + OPEN, "cannot write a dialogue of 1 turns"),
    "deaf": (EACH + TURN + "<|end|>{% endfor %}", "ignores add_generation_prompt"),
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


def test_a_system_turn_counts_if_it_is_written(written: Any) -> None:
    silent = EACH + "{% if m['role'] != 'system' %}" + TURN + "<|end|>{% endif %}{% endfor %}" + OPEN
    verdicts = [takes_system(written(t)) for t in (SOUND, EACH + NOT_SYSTEM + TURN + "<|end|>{% endfor %}", silent)]
    assert verdicts == [True, False, False]


def test_ids_that_end_an_answer(tmp_path: Path, tokenizer: Any) -> None:
    assert saved_eos_ids(tmp_path, tokenizer) == [256]
    (tmp_path / "config.json").write_text('{"eos_token_id": 3}')
    (tmp_path / "generation_config.json").write_text('{"pad_token_id": 1}')
    assert saved_eos_ids(tmp_path, tokenizer) == [3]
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    assert saved_eos_ids(tmp_path, tokenizer) == [5, 6]


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
    other.write_text(EACH + "{{ m['role'] }}: {{ m['content'] }}<|end|>\n{% endfor %}" + OPEN)
    plain, named = start_stage("tiny"), start_stage("tiny", str(other))
    assert plain.inputs == {"version": 1, "built": "tiny"}  # keys of recipes without the setting stay
    assert named.key != plain.key
    folder = build_start("tiny", Store(tmp_path / "store"), str(other))
    assert folder.name == named.key
    replaced = load_tokenizer(folder)
    check_template(replaced, saved_eos_ids(folder, replaced))
    assert replaced.decode(render(replaced, TURNS[:1])) == f"user: {TURNS[0]['content']}<|end|>\n<|assistant|>"
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
    assert not (tmp_path / ".sail-bench/stages").exists()
