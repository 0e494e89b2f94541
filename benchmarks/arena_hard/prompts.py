"""Arena-Hard's judge prompts, from its repository's files: YAML, and for v2.0 a Python file, read but never run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.asking import fill_template
from harness.errors import UserError
from harness.store import user_files

TABLE = "JUDGE_SETTINGS"

_PLACEHOLDERS = (("{question_1}", "{QUESTION}"), ("{answer_1}", "{ANSWER_A}"), ("{answer_2}", "{ANSWER_B}"))
"""Names of each text in a template: v0.1's, and v2.0's."""


@dataclass(frozen=True)
class JudgePrompts:
    """``system``: instruction by category of questions. ``template``: of the user's turn."""

    system: Mapping[str, str]
    template: str

    def messages(self, category: str, question: str, first: str, second: str) -> tuple[tuple[str, str], ...]:
        """A game's conversation, as (role, content).

        Args:
            category: of the question; it picks the instruction.
            question: the prompt that both answered.
            first: the answer of assistant A.
            second: the answer of assistant B.
        """
        values = {"question_1": question, "answer_1": first, "answer_2": second}
        values |= {"QUESTION": question, "ANSWER_A": first, "ANSWER_B": second}
        return ("system", self.system[category]), ("user", fill_template(self.template, values))


def read_judge_prompts(config: Path, categories: Sequence[str], code: Path | None = None) -> JudgePrompts:
    """Prompts of upstream's files.

    Args:
        config: a YAML file with ``prompt_template`` and an instruction for each category (a key of its name, or one
            ``system_prompt`` for all).
        categories: those that need an instruction.
        code: a Python file whose ``JUDGE_SETTINGS`` has the instructions, if the YAML file has none.

    Raises:
        UserError: a file that does not hold them.
    """
    settings = _read_yaml(config)
    template = settings.get("prompt_template")
    if isinstance(template, list) and len(template) == 1:
        template = template[0]
    if not isinstance(template, str) or not all(any(name in template for name in names) for names in _PLACEHOLDERS):
        raise UserError(f"{config} needs prompt_template: one text with {{question_1}}, {{answer_1}} and {{answer_2}}")
    instructions = _read_python_table(code) if code else settings
    system = {category: _instruction(instructions, category) for category in categories}
    missing = [category for category, text in system.items() if not text]
    if missing:
        raise UserError(
            f"{code or config} holds no instruction for the judge of {missing[0]}: add the key system_prompt"
        )
    return JudgePrompts(system, template)


def holds_instructions(config: Path, categories: Sequence[str]) -> bool:
    """Whether a YAML file holds the judge's instruction for all categories itself."""
    settings = _read_yaml(config)
    return all(_instruction(settings, category) for category in categories)


def _instruction(table: Mapping[str, Any], category: str) -> str:
    """The judge's instruction for a category; empty if the table has none."""
    text = table.get(category, table.get("system_prompt"))
    text = text.get("system_prompt") if isinstance(text, Mapping) else text
    return text if isinstance(text, str) else ""


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(user_files.read_text_file(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError by a date that does not exist
        raise UserError(f"{path} is no YAML ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no YAML of keys and values: it needs prompt_template")
    return content


def _read_python_table(path: Path) -> dict[str, Any]:
    """The table ``JUDGE_SETTINGS`` of a Python file; names in it stand for texts assigned before."""

    class InlineNames(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return assigned.get(node.id, node)

    assigned: dict[str, ast.expr] = {}
    try:
        for node in ast.parse(user_files.read_text_file(path)).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                assigned[node.targets[0].id] = node.value
        table = ast.literal_eval(InlineNames().visit(assigned[TABLE]))
    except (SyntaxError, KeyError, ValueError, TypeError, RecursionError, MemoryError):
        table = None
    if not isinstance(table, dict):
        raise UserError(f"{path} holds no table {TABLE} of plain texts: take judge_utils.py of the repository")
    return table
