"""Why pairs are left out after they were read, and what to change where none is left."""

from __future__ import annotations

from collections.abc import Mapping

REFUSED_BY_TEMPLATE = "refused by the chat template"
EMPTY_RENDERED, EQUAL_RENDERED = "empty after the chat template", "equal after the chat template"
LONG_PROMPT, LONG_PAIR = "prompts too long", "pairs too long"
CUT, EQUAL_CUT = "cut at train.max_length", "equal after the cut"


def advice(left_out: Mapping[str, int], part: str, template: str = "the start policy") -> str:
    """What to change so that rows of a part are left: one clause for each kind of cause, the most frequent one first.

    Args:
        left_out: rows left out, by reason.
        part: ``train``, ``tune``, ``eval`` or ``heldout``.
        template: whose chat template it is.
    """
    cures: dict[str, int] = {}
    for reason, count in left_out.items():
        cure = _cure(reason, part, template)
        cures[cure] = cures.get(cure, 0) + count
    ordered = sorted((cure for cure in cures if cure), key=lambda cure: -cures[cure])
    return ", and ".join(ordered) or f"raise data.{part}_prompts"


def _cure(reason: str, part: str, template: str) -> str:
    """What to change for one reason; "" where there is nothing."""
    if reason.startswith(REFUSED_BY_TEMPLATE):
        return (
            f"the chat template of {template} does not take these conversations: set 'chat_template:' to one that "
            "does, or change the turns that it refuses in the data"
        )
    if reason in (EQUAL_RENDERED, EMPTY_RENDERED):
        return (
            f"the chat template of {template} takes away what the answers differ in (thoughts, say): set "
            "'chat_template:' to one that keeps it"
        )
    if reason in (LONG_PAIR, EQUAL_CUT):
        return "raise train.max_length (or set data.too_long: cut)" if reason == LONG_PAIR else "raise train.max_length"
    if reason == LONG_PROMPT and part in ("train", "heldout"):
        return f"raise train.max_length, data.max_prompt_length or data.{part}_prompts"
    if reason == LONG_PROMPT:
        return f"raise data.max_prompt_length or data.{part}_prompts, or lower data.max_new_tokens"
    return ""
