"""Gold reward: the share of checkable format constraints that an answer meets.

A prompt is a short question followed by two constraints. The prompt's id determines both, so a prompt is the same in
every run. The reward is exact and free, and needs no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from harness.answer.chat import Prompt
from harness.oracles.base import Oracle

Split = Literal["train", "eval"]


@dataclass(frozen=True)
class Kind:
    """A kind of constraint.

    ``{}`` in the text stands for the argument, one of ``values``. ``check`` takes an answer and the argument. The two
    constraints of a prompt are of different families.
    """

    family: str
    text: str
    check: Callable[[str, Any], bool]
    values: tuple[Any, ...] = (None,)


def words(text: str) -> list[str]:
    """Words of a text, case folded; apostrophes stay inside a word."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower().replace("\u2019", "'"))


def count_sentences(text: str) -> int:
    """Number of sentences: stretches that end with ., ! or ? and a possible quote; 0 if the last one does not end."""
    complete = re.findall(r"[^.!?]*[A-Za-z0-9][^.!?]*[.!?]+[\"')\]]*", re.sub(r"(\d)\.(\d)", r"\1\2", text.strip()))
    return len(complete) if re.search(r"[.!?][\"')\]]*$", text.strip()) else 0


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalpha())


KINDS: dict[str, Kind] = {
    "max_words": Kind("length", "Answer in at most {} words.", lambda t, n: len(words(t)) <= n, (10, 15, 20)),
    "max_characters": Kind("length", "Use at most {} characters.", lambda t, n: len(t.strip()) <= n, (80, 120)),
    "one_sentence": Kind("length", "Write exactly one sentence.", lambda t, _: count_sentences(t) == 1),
    "one_line": Kind("shape", "Write everything on one line.", lambda t, _: "\n" not in t.strip()),
    "lowercase": Kind("case", "Use only lowercase letters.", lambda t, _: _letters(t).islower()),
    "end_stop": Kind("ending", "End with a full stop.", lambda t, _: t.rstrip().endswith(".")),
    "end_question": Kind("ending", "End with a question mark.", lambda t, _: t.rstrip().endswith("?")),
    "no_commas": Kind("marks", "Do not use any commas.", lambda t, _: "," not in t),
    "no_colons": Kind("marks", "Do not use any colons.", lambda t, _: ":" not in t),
    "no_digits": Kind("marks", "Do not use any digits.", lambda t, _: not re.search(r"\d", t)),
    "include": Kind(
        "wording",
        'Include the word "{}".',
        lambda t, w: w in words(t),
        ("today", "simple", "friend", "always", "small", "morning"),
    ),
    "avoid": Kind("wording", 'Do not use the word "{}".', lambda t, w: w not in words(t), ("the", "and", "is")),
}


def is_met(constraint: dict[str, Any], text: str) -> bool:
    """Whether an answer meets a constraint ``{"kind", "value"}``. An empty answer meets none."""
    return bool(words(text)) and KINDS[constraint["kind"]].check(text, constraint["value"])


def constraints_for(prompt_id: str) -> list[dict[str, Any]]:
    """Two constraints (``kind``, ``value``) of different families: a pure function of the prompt's id.

    The files of prompts hold what it gives, so that reading them draws nothing.
    """
    from sail.noise import uniforms

    draws = uniforms(("constraints", prompt_id), 4)
    names = sorted(KINDS)
    first = names[int(draws[0] * len(names))]
    rest = [n for n in names if KINDS[n].family != KINDS[first].family]
    second = rest[int(draws[1] * len(rest))]
    pick = [KINDS[n].values[int(d * len(KINDS[n].values))] for n, d in ((first, draws[2]), (second, draws[3]))]
    return [{"kind": first, "value": pick[0]}, {"kind": second, "value": pick[1]}]


@cache
def load_prompts(split: Split) -> list[Prompt]:
    """All prompts of a split: ``id``, ``prompt`` (the user's turn) and ``constraints``.

    They are read once and shared by all callers (every key of a plan needs them), so do not change them.
    """
    text = (files("harness.oracles") / "constraint_prompts" / f"{split}.jsonl").read_text(encoding="utf-8")
    prompts = []
    for line in text.split("\n"):
        if not line:
            continue
        item = json.loads(line)
        instructions = " ".join(KINDS[c["kind"]].text.format(c["value"]) for c in item["constraints"])
        prompt = f"{item['question']} {instructions}"
        prompts.append({"id": item["id"], "prompt": prompt, "constraints": item["constraints"]})
    return prompts


class ConstraintOracle(Oracle):
    """Scores an answer by the share of the prompt's constraints that it meets, in [0, 1]."""

    name = "constraints"
    summary = "share of a prompt's checkable format constraints that the answer meets (gold reward)"
    unit = "share met"

    def score(self, rows: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """Scores of the texts as answers to the prompts ``rows`` (each with ``constraints``)."""
        return [
            sum(is_met(c, text) for c in row["constraints"]) / len(row["constraints"])
            for row, text in zip(rows, texts, strict=True)
        ]
