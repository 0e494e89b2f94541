"""Layouts of preference data that are recognised but not read: each has a sentence with the conversion. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class UnreadLayout(NamedTuple):
    """A layout by its keys.

    ``cure`` says what to do; ``conversion`` is Python that makes ``pair``, a row that can be read, from ``row``.
    """

    name: str
    keys: frozenset[str]
    cure: str = ""
    conversion: str = ""


_RANKED = "write each row as the best and the worst answer"
_ONE_ANSWER = "a preference needs two answers to each prompt, so name a file with 'chosen' and 'rejected'"
_MERGE = (
    'rows[rows.label].merge(rows[~rows.label], on="prompt").rename(columns={"completion_x": "chosen", "completion_y": '
    '"rejected"})[["prompt", "chosen", "rejected"]]'
)

UNREAD_LAYOUTS = (
    UnreadLayout(
        "KTO's unpaired layout (a prompt, one completion, its label)",
        frozenset({"prompt", "completion", "label"}),
        f"join the good and the bad completions of each prompt, with pandas {_MERGE}",
    ),
    UnreadLayout(
        "the layout of supervised fine-tuning (a prompt, one completion)",
        frozenset({"prompt", "completion"}),
        _ONE_ANSWER,
    ),
    UnreadLayout(
        "the layout of stepwise supervision (steps and their labels)",
        frozenset({"prompt", "completions", "labels"}),
        _ONE_ANSWER,
    ),
    UnreadLayout(
        "UltraFeedback's raw layout (completions with scores)",
        frozenset({"instruction", "completions"}),
        _RANKED,
        'r = sorted(row["completions"], key=lambda c: c["overall_score"]); pair = {"prompt": row["instruction"], '
        '"chosen": r[-1]["response"], "rejected": r[0]["response"], "score_chosen": r[-1]["overall_score"], '
        '"score_rejected": r[0]["overall_score"]}',
    ),
    UnreadLayout(
        "Nectar's layout (answers with ranks)",
        frozenset({"prompt", "answers"}),
        _RANKED,
        'r = sorted(row["answers"], key=lambda a: a["rank"]); pair = {"chosen": row["prompt"] + r[0]["answer"], '
        '"rejected": row["prompt"] + r[-1]["answer"]}',
    ),
    UnreadLayout(
        "an arena's layout (two responses and a winner)",
        frozenset({"prompt", "response_a", "response_b", "winner"}),
        "leave out ties and write each other row as its winner and its loser",
        'w, l = "ab" if row["winner"].lower().endswith("a") else "ba"; pair = {"prompt": row["prompt"], '
        '"chosen": row["response_" + w], "rejected": row["response_" + l]}',
    ),
    UnreadLayout(
        "an arena's layout (two conversations and a winner)",
        frozenset({"conversation_a", "conversation_b", "winner"}),
        "leave out ties and write each other row as its winner and its loser",
        'w, l = "ab" if row["winner"].lower().endswith("a") else "ba"; pair = {"chosen": row["conversation_" + w], '
        '"rejected": row["conversation_" + l]}',
    ),
    UnreadLayout(
        "HelpSteer's layout (two responses and the strength of the preference)",
        frozenset({"prompt", "response_1", "response_2", "preference_strength"}),
        "leave out rows of strength 0 and write each other row as the better and the worse answer",
        'w, l = "21" if row["preference_strength"] > 0 else "12"; pair = {"prompt": row["prompt"], '
        '"chosen": row["response_" + w], "rejected": row["response_" + l]}',
    ),
    UnreadLayout(
        "the layout of SHP (a post and two comments)",
        frozenset({"history", "human_ref_A", "human_ref_B", "labels"}),
        "write each row as the better and the worse comment",
        'w, l = "AB" if row["labels"] == 1 else "BA"; pair = {"prompt": row["history"], '
        '"chosen": row["human_ref_" + w], "rejected": row["human_ref_" + l]}',
    ),
    UnreadLayout("ShareGPT's layout without a preference (conversations)", frozenset({"conversations"}), _ONE_ANSWER),
    UnreadLayout("the layout of single conversations (messages)", frozenset({"messages"}), _ONE_ANSWER),
    UnreadLayout("the layout of instructions (one output each)", frozenset({"instruction", "output"}), _ONE_ANSWER),
    UnreadLayout("a layout of plain text", frozenset({"text"}), _ONE_ANSWER),
)

_OTHER_NAMES = (
    *[(f"chosen_{what}", f"rejected_{what}") for what in ("response", "answer", "completion", "output", "text")],
    *[(f"{what}_chosen", f"{what}_rejected") for what in ("response", "answer", "completion", "output", "text")],
    *(("accepted", "rejected"), ("preferred", "rejected"), ("preferred", "dispreferred"), ("better", "worse")),
    *(("preferred_response", "dispreferred_response"), ("winner", "loser"), ("win", "lose"), ("positive", "negative")),
    *(("response_j", "response_k"), ("good", "bad"), ("chosen_messages", "rejected_messages")),
)
"""Other names of ``chosen`` and ``rejected``."""

_PROMPT_NAMES = ("instruction", "question", "query", "input")


def describe_unread_layout(row: Mapping[str, Any]) -> str:
    """What a row without ``chosen`` and ``rejected`` is, and how to convert it; ends a sentence."""
    keys = row.keys()
    for chosen, rejected in _OTHER_NAMES:
        if chosen in keys and rejected in keys:
            prompt = [] if "prompt" in keys else [(key, "prompt") for key in _PROMPT_NAMES if key in keys][:1]
            names = [(a, b) for a, b in ((chosen, "chosen"), (rejected, "rejected")) if a != b]
            renamed = " and ".join(f"{a!r} to {b!r}" for a, b in (*prompt, *names))
            return f"the answers are in {chosen!r} and {rejected!r}, which are not read: rename {renamed}"
    for layout in UNREAD_LAYOUTS:
        if layout.keys <= keys:
            conversion = f", in Python {layout.conversion}" if layout.conversion else ""
            return f"this is {layout.name}, which is not read: {layout.cure}{conversion}"
    listed = ", ".join(sorted(map(str, row))) or "none"
    return f"no layout is known with the keys {listed}: rename them, or name it (data.format of a recipe)"
