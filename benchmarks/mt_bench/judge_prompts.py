"""MT-Bench's judge prompts (arXiv 2306.05685): which one a question and turn takes, and how it is filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REFERENCED = ("math", "reasoning", "coding")
"""Categories whose questions are judged beside a reference answer."""

PAIRWISE_PROMPTS = ("pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn")


def single_prompt_name(category: str, turn: int) -> str:
    """Name of the official single-answer prompt for a category and a turn (1 or 2)."""
    name = "single-math-v1" if category in REFERENCED else "single-v1"
    return name if turn == 1 else f"{name}-multi-turn"


def pairwise_prompt_name(category: str, turn: int) -> str:
    """Name of the official pairwise prompt for a category and a turn (1 or 2)."""
    name = "pair-math-v1" if category in REFERENCED else "pair-v2"
    return name if turn == 1 else f"{name}-multi-turn"


def fill_prompt(
    template: str, question: Sequence[str], answers: Mapping[str, Sequence[str]], reference: Sequence[str], turn: int
) -> str:
    """The judge's user prompt for one turn. Braces inside texts are left alone.

    Args:
        template: of FastChat's ``judge_prompts.jsonl``.
        question: both turns.
        answers: both turns of each answer, by its name in the template: ``answer`` of a single-answer prompt,
            ``answer_a`` and ``answer_b`` of a pairwise one.
        reference: both turns; empty where the template has none.
        turn: 1 or 2.
    """
    values = {"question": question[0]} | {name: turns[0] for name, turns in answers.items()} if turn == 1 else {}
    for i in range(turn):
        values[f"question_{i + 1}"] = question[i]
        values |= {f"{name}_{i + 1}": turns[i] for name, turns in answers.items()}
        if reference:
            values[f"ref_answer_{i + 1}"] = reference[i]
    return template.format(**values)


def needed_fields(answers: Sequence[str], turn: int, *, referenced: bool) -> list[tuple[str, ...]]:
    """What a template must show the judge of the turn that it judges: one name of each group.

    Args:
        answers: names of the answers.
        turn: 1 or 2.
        referenced: whether there is a reference answer.
    """
    shown = ["question", *answers]
    groups: list[tuple[str, ...]] = [(name, f"{name}_1") if turn == 1 else (f"{name}_{turn}",) for name in shown]
    return groups + ([(f"ref_answer_{turn}",)] if referenced else [])


def template_fields(answers: Sequence[str], turn: int, *, referenced: bool) -> set[str]:
    """Names that :func:`fill_prompt` gives texts to.

    Args:
        answers: names of the answers.
        turn: 1 or 2.
        referenced: whether there is a reference answer.
    """
    names = {"question", *answers} if turn == 1 else set()
    for i in range(1, turn + 1):
        names |= {f"question_{i}", *(f"{name}_{i}" for name in answers)}
        names |= {f"ref_answer_{i}"} if referenced else set()
    return names
