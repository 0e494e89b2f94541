"""Whether two answers that are plain texts begin with the prompt, or another column holds it. Pure.

TRL takes what two texts without a ``prompt`` have in common at their beginning as the prompt. Where the prompt has
another name, that would be a few words of the answers ("The answer is").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

from harness.pairs.overlap import normalised, split_words
from harness.pairs.row_texts import REFUSED_COLUMNS, SYSTEM_COLUMNS, RawRow, has_no_prompt, is_absent
from harness.store.user_files import Malformed

PROMPT_LIKE = (
    *("instruction", "question", "query", "input", "messages", "prompt", "user_prompt", "prompts"),
    *("context", "conversation", "conversations", "trajectory"),
)
"""Columns (in any case) that often hold the prompt where a row has no ``prompt``, however short it is."""

FEWEST_WORDS = 3
"""Words of a text that may be a prompt, in a column with any other name."""

_METADATA = re.compile(
    "(id|uid|uuid|hash|index|idx|key|file|path|url|link|license|source|origin|dataset|subset|split|config|type|kind|class|"
    "status|version|model|generator|engine|name|author|annotator|rater|category|categorie|subcategory|topic|domain|subject|"
    "field|skill|tag|keyword|language|lang|locale|country|difficulty|level|quality|metadata|meta|info|extra|date|time|"
    "timestamp|at|score|rating|reward|margin|rank|label|preference|tie|winner|rationale|reason|explanation|justification|"
    "feedback|critique|comment|note|statement|annotation|judge?ment)s?"
)
"""The last word of the name of a column that says something about a row."""


def refuse_prompt_elsewhere(row: RawRow) -> None:
    """Refuse a row without ``prompt`` if another column could be the prompt.

    That is a column with a usual name of prompts. If both answers are texts, it is also any other column with messages
    or with a text of at least :data:`FEWEST_WORDS` words, unless its name says that it is about the row (``source``,
    ``model_name``) or about an answer (``chosen_model``). A text that both answers begin with is no matter.

    Args:
        row: the raw row, with ``chosen`` and ``rejected``.

    Raises:
        Malformed: there is such a column.
    """
    chosen, rejected = row["chosen"], row["rejected"]
    texts = isinstance(chosen, str) and isinstance(rejected, str)
    if not has_no_prompt(row.get("prompt")) or (isinstance(chosen, list) and len(chosen) > 1):
        return
    shared = normalised(_common_beginning(chosen, rejected)) if texts else ""
    candidates = [key for key in _candidates(row, any_name=texts) if not _begins_with(shared, row[key])]
    if candidates:
        key = min(candidates, key=lambda key: key.casefold() not in PROMPT_LIKE)
        more = ", with 'input' at its end" if key == "instruction" and "input" in row else ""
        unless = ", or remove the column if it is none" if key.casefold() not in PROMPT_LIKE else ""
        raise Malformed(
            f"there is {key!r} but no 'prompt': rename it to 'prompt'{more}{unless} (or, if 'chosen' and 'rejected' "
            "begin with the prompt, set data.format: trl in the recipe)"
        )


def _candidates(row: RawRow, any_name: bool) -> Iterator[str]:
    for key, value in row.items():
        name = key.casefold()
        if key in ("chosen", "rejected", "prompt", *SYSTEM_COLUMNS, *REFUSED_COLUMNS) or is_absent(value):
            continue
        if name in PROMPT_LIKE or (any_name and not _is_metadata(name) and _may_be_a_prompt(value)):
            yield key


def _is_metadata(name: str) -> bool:
    parts = re.split(r"[^a-z0-9]+", name)
    return _METADATA.fullmatch(parts[-1]) is not None or not {"chosen", "rejected"}.isdisjoint(parts)


def _may_be_a_prompt(value: Any) -> bool:
    """Whether a value is a text of some words, or holds messages or such a text."""
    if isinstance(value, str):
        return len(split_words(" ".join(value.split()))) >= FEWEST_WORDS
    if isinstance(value, Mapping):
        is_message = {"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()
        return is_message or any(map(_may_be_a_prompt, value.values()))
    return isinstance(value, list | tuple) and any(map(_may_be_a_prompt, value))


def _begins_with(shared: str, value: Any) -> bool:
    return isinstance(value, str) and _may_be_a_prompt(value) and normalised(value) in shared


def _common_beginning(first: str, second: str) -> str:
    return "".join(a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
