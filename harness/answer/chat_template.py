"""A recipe's ``chat_template:`` for models that come without one: a Jinja file or a FastChat conversation template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError, unknown

FASTCHAT = "fastchat:"

_MARKS = ("Qzq1", "Azq1", "Qzq2", "Azq2", "Qzq3", "Azq3")  # turns that stand out in a template's output

_AWKWARD_TURNS = (" one\n\n two ", "three ", "\n", "a {b} 'c' \"d\" \\n", "five", " six")


def template_text(name: str) -> str:
    """Jinja text of the chat template that a recipe names: a path, or ``fastchat:NAME``.

    Raises:
        UserError: no such file or template, FastChat is not installed, or its template cannot be written in Jinja.
    """
    if name.startswith(FASTCHAT):
        return _from_fastchat(name.removeprefix(FASTCHAT))
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"The chat template {name} cannot be read: set 'chat_template:' to a Jinja file or fastchat:NAME"
        ) from None


def set_chat_template(tokenizer: Any, name: str) -> None:
    """Give a tokenizer the chat template that a recipe names.

    A FastChat template begins with BOS if the tokenizer puts BOS before a plain text, as FastChat's own encoding does.

    Raises:
        UserError: see :func:`template_text`.
    """
    text = template_text(name)
    bos = tokenizer.bos_token_id
    if name.startswith(FASTCHAT) and bos is not None and tokenizer("x")["input_ids"][:1] == [bos]:
        text = "{{ bos_token }}" + text
    tokenizer.chat_template = text


def _from_fastchat(name: str) -> str:
    try:
        from fastchat.conversation import conv_templates
    except ImportError:
        raise UserError(
            f"chat_template: {FASTCHAT}{name} needs FastChat: python -m pip install --no-deps fschat==0.2.36"
        ) from None
    if name not in conv_templates:
        raise unknown("conversation template of FastChat", name, conv_templates)
    try:
        return as_jinja(read_turn_parts(conv_templates[name]))
    except Exception as error:  # noqa: BLE001 - get_prompt raises many kinds of errors
        raise UserError(
            f"FastChat's conversation template {name!r} cannot be written in Jinja ({error}): name another, or a file"
        ) from None


@dataclass(frozen=True)
class TurnParts:
    """What a conversation template writes around the texts of the turns.

    Attributes:
        opening: before the first user turn.
        middle: after a user turn that an assistant's turn follows.
        prompt: after a last user turn, with the assistant's turn opened.
        unanswered: after a last user turn, without that.
        between: after an assistant's turn that a user turn follows.
        ending: after a last assistant's turn.
        system: before and after a system turn at the beginning; None if the template takes none.
    """

    opening: str
    middle: str
    prompt: str
    unanswered: str
    between: str
    ending: str
    system: tuple[str, str] | None

    def write(self, texts: Sequence[str], opened: bool, system: str | None = None) -> str:
        """The conversation as the template writes it.

        Args:
            texts: turns, the user's first.
            opened: whether the assistant's turn is opened after a last user turn.
            system: text of a system turn, if there is one.
        """
        assert system is None or self.system is not None
        conversation = self.opening if system is None or self.system is None else system.join(self.system)
        for i, text in enumerate(texts):
            last = self.ending if i % 2 else self.prompt if opened else self.unanswered
            conversation += text + (last if i == len(texts) - 1 else self.between if i % 2 else self.middle)
        return conversation


def read_turn_parts(conversation: Any) -> TurnParts:
    """Read the parts of a FastChat ``Conversation`` off its own output.

    Raises:
        ValueError: its turns differ in more than their texts, or it changes the texts.
    """

    def write(texts: Sequence[str], opened: bool, system: str | None = None) -> str:
        copy = conversation.copy()
        if system is not None:
            copy.set_system_message(system)
        for i, text in enumerate(texts):
            copy.append_message(copy.roles[i % 2], text)
        if opened:
            copy.append_message(copy.roles[1], None)
        return str(copy.get_prompt())

    opening, middle, between, _, _, _, ending = _cut(write(_MARKS, False), _MARKS)
    prompt, unanswered = (_cut(write(_MARKS[:1], opened), _MARKS[:1])[1] for opened in (True, False))
    before, system_mark, after = write(_MARKS[:1], True, "Szq").partition("Szq")
    system = (before, _cut(after, _MARKS[:1])[0]) if system_mark else None
    parts = TurnParts(opening, middle, prompt, unanswered, between, ending, system)
    for count in range(1, len(_AWKWARD_TURNS) + 1):
        for message in (None, "Be\n\nfair. ") if system else (None,):
            opened = count % 2 == 1
            if parts.write(_AWKWARD_TURNS[:count], opened, message) != write(_AWKWARD_TURNS[:count], opened, message):
                raise ValueError("its turns differ in more than their texts, or it changes the texts")
    return parts


def _cut(text: str, marks: Sequence[str]) -> list[str]:
    """The pieces of a text around the marks.

    Raises:
        ValueError: the marks do not occur once each, in order.
    """
    pieces = []
    for mark in marks:
        before, separator, text = text.partition(mark)
        if not separator or mark in text:
            raise ValueError("a text is left out or doubled")
        pieces.append(before)
    return [*pieces, text]


def as_jinja(parts: TurnParts) -> str:
    """A chat template that writes conversations with these parts."""
    if parts.system is None:
        system = "{{ raise_exception('this template has no system turn') }}"
    else:
        system = f"{{{{ {parts.system[0]!r} + messages[0]['content'] + {parts.system[1]!r} }}}}"
    return (
        "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}" + system + "{% else %}"
        "{% set turns = messages %}" + f"{{{{ {parts.opening!r} }}}}" + "{% endif %}{% for turn in turns %}"
        "{% if turn['role'] != ['user', 'assistant'][loop.index0 % 2] %}"
        "{{ raise_exception('turns must alternate, the user first') }}{% endif %}{{ turn['content'] }}"
        "{% if turn['role'] == 'assistant' %}"
        f"{{{{ {parts.ending!r} if loop.last else {parts.between!r} }}}}"
        "{% elif not loop.last %}" + f"{{{{ {parts.middle!r} }}}}"
        "{% else %}" + f"{{{{ {parts.prompt!r} if add_generation_prompt else {parts.unanswered!r} }}}}"
        "{% endif %}{% endfor %}"
    )
