"""Whether thoughts are left out of a policy's answers, and which stage holds answers that were made that way.

Stripping changes nothing for an answer without thoughts. So ``strip``, the default, is in no key: the stages of
policies that write no thoughts stay what they were before there was this option. Only a stage that was made without it
(its manifest says nothing of ``thinking``) and that does hold thoughts is made again, under a key that says ``strip``.
The cache of rows still has the answers, so that no first turn is asked twice. ``keep`` is part of the protocol, or of
the answers' key where a row of ``endpoints`` has a setting of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.answer.final_answer import holds_thoughts
from harness.methods.base import Method
from harness.methods.endpoint import Remote
from harness.recipe.endpoint import Thinking
from harness.recipe.recipe import Recipe
from harness.store.json_files import read_rows
from harness.store.stages import Stage, Store


def thinking_of(recipe: Recipe, method: Method) -> Thinking:
    """Whether benchmarks judge a policy's answers without their thoughts."""
    own = method.config.thinking if isinstance(method, Remote) else None
    return own or recipe.thinking


def current_answers(stage: Stage, thinking: Thinking, store: Store) -> Stage:
    """The stage of a policy's answers, under another key if the store has it with thoughts that would be left out.

    Args:
        stage: as settings alone decide it.
        thinking: whether thoughts are left out.
        store: where it may be finished.
    """
    if thinking == "keep" or not store.done(stage) or "thinking" in store.manifest(stage):
        return stage
    if not _hold_thoughts(store.path(stage) / "rows.jsonl"):
        return stage
    return Stage(stage.kind, stage.inputs | {"thinking": thinking})


def _hold_thoughts(path: Path) -> bool:
    """Whether an answer in a file of rows holds thoughts."""
    return any(holds_thoughts(text) for row in read_rows(path) for text in _answers(row))


def _answers(node: Any) -> Iterator[str]:
    """Texts of the sampled answers in a row: those that say whether they were cut."""
    if isinstance(node, dict):
        if "truncated" in node and isinstance(node.get("text"), str):
            yield node["text"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _answers(part)
