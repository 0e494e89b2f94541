"""A recipe's ``chat_template:`` for models that come without one: a Jinja file or a FastChat conversation template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError, unknown

FASTCHAT = "fastchat:"

_MARKS = ("Qzq1", "Azq1", "Qzq2", "Azq2", "Qzq3", "Azq3")

_PLAIN = (" one\n\n two ", "three ", "\n", "a {b} 'c' \"d\" \\n", "five", " six")


def template_text(named: str) -> str:
    """Jinja text of a chat template named in a recipe: a path, or ``fastchat:NAME``.

    Raises:
        UserError: no such file or template, FastChat is not installed, or its template cannot be written in Jinja.
    """
    if named.startswith(FASTCHAT):
        return _from_fastchat(named.removeprefix(FASTCHAT))
    try:
        return Path(named).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"The chat template {named} cannot be read: set 'chat_template:' to a Jinja file or fastchat:NAME"
        ) from None


def given_to(tokenizer: Any, named: str) -> None:
    """Set a tokenizer's chat template. FastChat's texts get BOS where the tokenizer puts it before a plain text, as
    FastChat's own encoding does."""
    text = template_text(named)
    bos = tokenizer.bos_token_id
    if named.startswith(FASTCHAT) and bos is not None and tokenizer("x")["input_ids"][:1] == [bos]:
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
        return jinja(parts(conv_templates[name]))
    except Exception as error:  # noqa: BLE001 - get_prompt raises what it likes
        raise UserError(
            f"FastChat's conversation template {name!r} cannot be written in Jinja ({error}): name another, or a file"
        ) from None


@dataclass(frozen=True)
class Parts:
    """What a conversation template writes around the texts: before the first user turn (``opening``), after a user turn
    (``middle``; last and answer opened: ``prompt``; last: ``unanswered``), after an assistant's turn (``between``;
    last: ``ending``), and around a system turn (None: it takes none)."""

    opening: str
    middle: str
    prompt: str
    unanswered: str
    between: str
    ending: str
    system: tuple[str, str] | None

    def write(self, texts: Sequence[str], opened: bool, system: str | None = None) -> str:
        """The conversation, user first; ``opened``: the assistant's turn is opened after a last user turn."""
        assert system is None or self.system is not None
        found = self.opening if system is None or self.system is None else system.join(self.system)
        for i, text in enumerate(texts):
            last = self.ending if i % 2 else self.prompt if opened else self.unanswered
            found += text + (last if i == len(texts) - 1 else self.between if i % 2 else self.middle)
        return found


def parts(conversation: Any) -> Parts:
    """Read a FastChat ``Conversation`` off its own output.

    Raises:
        ValueError: its turns differ in more than their texts, or it changes the texts.
    """

    def written(texts: Sequence[str], opened: bool, system: str | None = None) -> str:
        own = conversation.copy()
        if system is not None:
            own.set_system_message(system)
        for i, text in enumerate(texts):
            own.append_message(own.roles[i % 2], text)
        if opened:
            own.append_message(own.roles[1], None)
        return str(own.get_prompt())

    opening, middle, between, _, _, _, ending = _cut(written(_MARKS, False), _MARKS)
    prompt, unanswered = (_cut(written(_MARKS[:1], opened), _MARKS[:1])[1] for opened in (True, False))
    told = written(_MARKS[:1], True, "Szq").partition("Szq")
    system = (told[0], _cut(told[2], _MARKS[:1])[0]) if told[1] else None
    found = Parts(opening, middle, prompt, unanswered, between, ending, system)
    for count in range(1, len(_PLAIN) + 1):
        for message in (None, "Be\n\nfair. ") if system else (None,):
            opened = count % 2 == 1
            if found.write(_PLAIN[:count], opened, message) != written(_PLAIN[:count], opened, message):
                raise ValueError("its turns differ in more than their texts, or it changes the texts")
    return found


def _cut(text: str, marks: Sequence[str]) -> list[str]:
    """The pieces of a text around marks that stand in it once each, in order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found or mark in text:
            raise ValueError("a text is left out or doubled")
        pieces.append(before)
    return [*pieces, text]


def jinja(found: Parts) -> str:
    """The same as a chat template."""
    if found.system is None:
        system = "{{ raise_exception('this template has no system turn') }}"
    else:
        system = f"{{{{ {found.system[0]!r} + messages[0]['content'] + {found.system[1]!r} }}}}"
    return (
        "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}" + system + "{% else %}"
        "{% set turns = messages %}" + f"{{{{ {found.opening!r} }}}}" + "{% endif %}{% for turn in turns %}"
        "{% if turn['role'] != ['user', 'assistant'][loop.index0 % 2] %}"
        "{{ raise_exception('turns must alternate, the user first') }}{% endif %}{{ turn['content'] }}"
        "{% if turn['role'] == 'assistant' %}"
        f"{{{{ {found.ending!r} if loop.last else {found.between!r} }}}}"
        "{% elif not loop.last %}" + f"{{{{ {found.middle!r} }}}}"
        "{% else %}" + f"{{{{ {found.prompt!r} if add_generation_prompt else {found.unanswered!r} }}}}"
        "{% endif %}{% endfor %}"
    )
