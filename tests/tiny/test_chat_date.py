"""The date that chat templates write: the recipe's, whatever the clock, the time zone and the format."""

from __future__ import annotations

import copy
import itertools
import random
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template

from harness.answer.chat_date import date_tokenizer, fix_date
from harness.answer.load import load_tokenizer
from harness.recipe.recipe import CHAT_DATE

CODES = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZf%"
NUMBERS = "deHIjklmMSuUVwWyCg"
FORMATS = [f"%{code}" for code in CODES]
FORMATS += [f"%{flag}{code}" for flag, code in itertools.product("-_0", NUMBERS)] + [f"%^{code}" for code in "aAbBh"]
FORMATS += ["%d %b %Y", "%Y-%m-%d", "%B %-d, %Y", "100%% on %%d %%%d%%", "", "no code", "%A %d %B %Y", "%%%%Y"]

USES = {
    "plain": "{{ strftime_now(F) }}",
    "keyword": "{{ strftime_now(format=F) }}",
    "set": "{%- set today = strftime_now(F) %}\n{{ today }}",
    "guarded": "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now(F) %}{%- else %}{%- set date_string = '26 Jul 2024' %}"
    "{%- endif %}{%- endif %}{{- date_string }}",
    "macro": "{% macro head(f) %}<{{ strftime_now(f) }}>{% endmacro %}{{ head(F) }}{% for m in messages %}{{ head(F) }}"
    "{% endfor %}",
    "block": "{% block a %}{{ strftime_now(F) }}{% endblock %}",
    "call": "{% macro wrap() %}[{{ caller() }}]{% endmacro %}{% call wrap() %}{{ strftime_now(F) }}{% endcall %}",
    "method": "{{ strftime_now(F).upper() + '.' + strftime_now(F).split('-')[0] }}",
    "namespace": "{% set ns = namespace(d='') %}"
    "{% for m in messages %}{% set ns.d = strftime_now(F) %}{% endfor %}{{ ns.d }}",
    "generation": "{% generation %}{{ strftime_now(F) }}{% endgeneration %}",
}
"""Ways in which templates use the clock; F stands for a format."""


def written(template: str, **values: Any) -> str:
    """What transformers' own renderer makes of a template."""
    texts, _ = render_jinja_template([[{"role": "user", "content": "Hi"}]], chat_template=template, **values)
    return str(texts[0])


class Clock(datetime):
    """A clock that stands."""

    at = datetime(2025, 1, 1)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    """The clock of transformers' renderer."""
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    monkeypatch.setenv("TZ", "UTC")  # %s counts seconds in it
    return Clock


@pytest.mark.parametrize("use", USES)
def test_each_use_writes_what_the_clock_wrote_on_that_day(use: str, clock: type[Clock]) -> None:
    """Against transformers' own ``strftime_now`` on a clock that shows the day."""
    drawn = random.Random(use)
    days = [date(2025, 1, 1), date(2024, 12, 30), date(2028, 2, 29)]
    days += [date(1990, 1, 1) + timedelta(days=drawn.randrange(30000)) for _ in range(2)]
    templates = [USES[use].replace("F", repr(form)) for form in FORMATS[-8:]]
    if use == "plain":
        templates = ["|".join(USES[use].replace("F", repr(form)) for form in FORMATS)]
    for day, template in itertools.product(days, templates):
        clock.at = datetime(day.year, day.month, day.day)
        expected = written(template)
        clock.at = datetime(1999, 9, 9, 9, 9, 9)
        assert written(fix_date(template, day)) == expected, (template, day)


@pytest.mark.parametrize(
    "head", ["", "\n", "\n\n", "  \n", "   ", "\t", "text\n", "{{- 'x' }}\n", "{# a comment #}\n", "  {#- b -#} "]
)
def test_what_stands_around_the_date_stays(head: str, clock: type[Clock]) -> None:
    """White space at the head of a template is kept or taken out as without the macro."""
    clock.at = datetime(2025, 1, 1)
    for body in (
        "{% if true %}\n  a{% endif %}{{ strftime_now('%d') }}\n",
        "  {%- set d = strftime_now('%F') %}\n {{ d }}",
    ):
        assert written(fix_date(head + body, date(2025, 1, 1))) == written(head + body)


def test_a_date_that_is_fixed_can_be_fixed_again() -> None:
    """A trained policy's tokenizer has the macro already; another recipe has another date."""
    template = "{{ strftime_now('%F') }}"
    first = fix_date(template, date(2025, 1, 1))
    assert fix_date(first, date(2025, 1, 1)) == first
    assert fix_date(first, date(2031, 5, 6)) == fix_date(template, date(2031, 5, 6))
    assert written(fix_date(first, date(2031, 5, 6))) == "2031-05-06"
    assert fix_date("{{ 'no clock' }}", date(2025, 1, 1)) == "{{ 'no clock' }}"


def test_every_named_template_is_dated(tokenizer: Any, tmp_path: Path) -> None:
    other = copy.deepcopy(tokenizer)
    plain = tokenizer.chat_template
    assert not date_tokenizer(other, CHAT_DATE)
    assert other.chat_template == plain
    other.chat_template = {"default": plain, "tool_use": "{{ strftime_now('%F') }}" + plain}
    assert date_tokenizer(other, date(2026, 3, 4))
    assert other.chat_template["default"] == plain
    other.save_pretrained(tmp_path)
    turns = [{"role": "user", "content": "Hi"}]
    again = load_tokenizer(tmp_path)
    assert again.apply_chat_template(turns, chat_template="tool_use", tokenize=False).startswith("2026-03-04<|user|>")
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    assert not date_tokenizer(bare, CHAT_DATE)
    assert bare.chat_template is None
