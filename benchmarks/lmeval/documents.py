"""Documents of a built task of lm-eval: whether each of them can be asked, looked at before any work."""

from __future__ import annotations

from typing import Any

from harness.errors import reason_of


def document_fault(task: Any) -> str:
    """What is wrong with the first document that cannot be asked; empty if all can, and there is one.

    Args:
        task: of lm-eval, built.
    """
    documents = task.eval_docs
    for number, document in enumerate(documents, 1):
        try:
            fault = _fault(task, document)
        except Exception as error:  # noqa: BLE001 - lm-eval, its templates and its functions raise anything
            fault = reason_of(error)
        if fault:
            return f"question {number:,} cannot be asked ({fault})"
    return "" if len(documents) else "no question is left of them"


def _fault(task: Any, document: Any) -> str:
    """Of one document: its texts are made as lm-eval will make them."""
    task.doc_to_text(document)
    if task.OUTPUT_TYPE != "multiple_choice":
        task.doc_to_target(document)
        return ""
    choices = task.doc_to_choice(document)
    if not choices:
        return "it has no choices"
    target = task.doc_to_target(document)
    if isinstance(target, int) and not -len(choices) <= target < len(choices):
        return f"its answer is number {target}, and it has {len(choices)} choices"
    return ""
