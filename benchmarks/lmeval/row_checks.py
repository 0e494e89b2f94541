"""Checks of rows of question files: official questions in the columns of the Hub's copies, and rows of any task. Pure.

What is wrong is a :class:`~harness.store.user_files.Malformed`, whose message ends a sentence that begins with file
and line.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from typing import Any

from harness.benchmark import Row
from harness.store.user_files import LONE_SURROGATE, Malformed, has_lone_surrogate

LETTERS = ("A", "B", "C", "D", "E")
KIND_NAMES = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}


def mmlu_question(row: Row) -> Row:
    """A question of MMLU in the Hub's columns: four options, the answer a number from 0 or a letter.

    Raises:
        Malformed: the row is none.
    """
    options, answer = _texts(row, "choices"), row.get("answer")
    if len(options) != 4:
        raise Malformed(f"'choices' must be 4 texts, not {len(options)}")
    if isinstance(answer, str) and answer in LETTERS[:4]:
        answer = LETTERS.index(answer)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < 4:
        raise Malformed(f"'answer' must be 0 to 3, or A to D, not {reprlib.repr(answer)}")
    subject = _text(row, "subject")
    return {"question": _text(row, "question"), "subject": subject, "choices": options, "answer": answer}


def arc_question(row: Row) -> Row:
    """A question of ARC in the Hub's columns: options with labels (letters, if there are none) and an ``answerKey``, or
    ``answer``, a number from 0.

    Raises:
        Malformed: the row is none.
    """
    choices, name = row.get("choices"), str(row.get("id") or "")
    if isinstance(choices, list):
        choices = {"text": choices, "label": row.get("labels") or list(LETTERS[: len(choices)])}
    if not isinstance(choices, dict):
        raise Malformed("'choices' must be a list of texts, or an object with the lists 'text' and 'label'")
    texts, labels = _texts(choices, "text"), _texts(choices, "label")
    if len(texts) != len(labels) or len(set(labels)) < len(labels) or len(texts) < 2:
        raise Malformed(
            f"each of two or more options needs a label of its own: {len(texts)} have {reprlib.repr(labels)}"
        )
    if not all(text.strip() for text in texts):
        raise Malformed("an option is empty")
    if "answerKey" in row:
        key = row["answerKey"]
        if key not in labels:
            raise Malformed(f"'answerKey' must be one of {', '.join(labels)}, not {reprlib.repr(key)}")
    else:
        answer = row.get("answer")
        if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(labels):
            raise Malformed(f"'answer' must be 0 to {len(labels) - 1}, not {reprlib.repr(answer)}")
        key = labels[answer]
    if has_lone_surrogate(name):
        raise Malformed(f"'id' holds {LONE_SURROGATE}")
    choices = {key: choices[key] for key in choices if key in ("text", "label")}
    return {"id": name, "question": _text(row, "question"), "choices": choices, "answerKey": key}


def kinds_of_parts(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Each part of a row by name, and its kind (``a number``). A column of lm-eval's tables holds one kind, or nothing.

    Args:
        value: a row, or a part of it.
        at: name of that part (``mc1_targets.labels[]``); empty for the row itself.

    Raises:
        Malformed: a text cannot be tokenised.
    """
    if isinstance(value, str) and has_lone_surrogate(value):
        raise Malformed(f"{at!r} holds {LONE_SURROGATE}")
    if at and value is not None:
        yield at, KIND_NAMES[type(value)]
    if isinstance(value, dict):
        for key, part in value.items():
            yield from kinds_of_parts(part, f"{at}.{key}" if at else key)
    if isinstance(value, list):
        for part in value:
            yield from kinds_of_parts(part, f"{at}[]")


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Malformed(f"{key!r} must be a text that is not empty, not {reprlib.repr(value)}")
    if has_lone_surrogate(value):
        raise Malformed(f"{key!r} holds {LONE_SURROGATE}")
    return value


def _texts(row: Row, key: str) -> list[str]:
    values = row.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Malformed(f"{key!r} must be a list of texts, not {reprlib.repr(values)}")
    if any(map(has_lone_surrogate, values)):
        raise Malformed(f"{key!r} holds {LONE_SURROGATE}")
    return values
