"""The date in prompts: chat templates that ask the clock get a fixed date instead.

Templates of Llama 3.x, SmolLM3, Granite, gpt-oss and others write ``strftime_now(FORMAT)``, which transformers answers
with today's date. A macro of that name at the head of the template answers with the recipe's ``chat_date``, 00:00:00.
The tokenizer keeps its template when it is saved, so every process that loads it writes the same prompts.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Any

CLOCK = "strftime_now"

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

_OPENING, _CLOSING = "{%- macro strftime_now(format) -%}", "{% endmacro %}\n"

_OURS = re.compile(re.escape(_OPENING) + r"\{#- chat_date .*?" + re.escape(_CLOSING), re.DOTALL)


def date_tokenizer(tokenizer: Any, day: date) -> bool:
    """Fix the date in a tokenizer's chat templates; whether one of them writes a date.

    Args:
        tokenizer: its template is a text, or several texts by name; those that ask no clock stay as they are.
        day: replaces the clock, and a date that was fixed before.
    """
    template = tokenizer.chat_template
    templates = template if isinstance(template, dict) else {"": template or ""}
    dated = {name: fix_date(text, day) for name, text in templates.items()}
    if template:
        tokenizer.chat_template = dated if isinstance(template, dict) else dated[""]
    return any(_OURS.match(text) for text in dated.values())


def fix_date(template: str, day: date) -> str:
    """A chat template that writes ``day`` wherever it asks for today's date; one that asks no clock is not changed.

    Args:
        template: Jinja text.
        day: replaces the clock, and a date that was fixed before.
    """
    template = _OURS.sub("", template, count=1)
    return _macro(day) + template if CLOCK in template else template


def _macro(day: date) -> str:
    """``strftime_now`` as a Jinja macro. It ends with a line break, which the renderer of transformers takes out."""
    return (
        _OPENING + "{#- chat_date " + day.isoformat() + " -#}"
        "{%- for part in format.split('%%') -%}"
        "{%- set written = namespace(text=part) -%}"
        "{%- for code, value in " + json.dumps(_written(day)) + ".items() -%}"
        "{%- set written.text = written.text.replace(code, value) -%}"
        "{%- endfor -%}"
        "{{- '' if loop.first else '%' -}}{{- written.text -}}"
        "{%- endfor -%}" + _CLOSING
    )


def _written(day: date) -> dict[str, str]:
    """What each code of ``strftime`` writes at the beginning of a day, in English, without a time zone."""
    weekday, month, iso = _DAYS[day.weekday()], _MONTHS[day.month - 1], day.isocalendar()
    day_of_year = day.timetuple().tm_yday
    words = {"a": weekday[:3], "A": weekday, "b": month[:3], "B": month, "h": month[:3], "p": "AM"}
    numbers: dict[str, tuple[int, str]] = {  # value, and how it is filled up
        **{"d": (day.day, "02"), "e": (day.day, "2"), "m": (day.month, "02"), "j": (day_of_year, "03")},
        **{"y": (day.year % 100, "02"), "C": (day.year // 100, "02"), "g": (iso.year % 100, "02")},
        **{"u": (iso.weekday, ""), "w": (iso.weekday % 7, ""), "V": (iso.week, "02")},
        **{"U": ((day_of_year + 6 - iso.weekday % 7) // 7, "02"), "W": ((day_of_year + 7 - iso.weekday) // 7, "02")},
        **{"H": (0, "02"), "I": (12, "02"), "k": (0, "2"), "l": (12, "2"), "M": (0, "02"), "S": (0, "02")},
    }
    others = {
        **{"Y": f"{day.year}", "G": f"{iso.year}", "P": "am", "f": "000000", "z": "", "Z": "", "n": "\n", "t": "\t"},
        **{"D": f"{day:%m/%d/%y}", "x": f"{day:%m/%d/%y}", "F": day.isoformat(), "T": "00:00:00", "X": "00:00:00"},
        **{"R": "00:00", "r": "12:00:00 AM", "c": f"{weekday[:3]} {month[:3]} {day.day:2} 00:00:00 {day.year}"},
        "s": f"{datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp():.0f}",
    }
    codes = words | {code: format(value, width) for code, (value, width) in numbers.items()} | others
    codes |= {f"^{code}": word.upper() for code, word in words.items()}
    for code, (value, width) in numbers.items():
        places = int(width or 1)
        codes |= {f"-{code}": f"{value}", f"_{code}": f"{value:{places}}", f"0{code}": f"{value:0{places}}"}
    return {f"%{code}": text for code, text in codes.items()}
