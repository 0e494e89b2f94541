"""Arena-Hard's judge prompts, from its repository's files: YAML, and for v2.0 a Python file, read but never run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared.asking import filled
from harness.errors import UserError
from harness.store import user_files as files

TABLE = "JUDGE_SETTINGS"


@dataclass(frozen=True)
class Prompts:
    """``system``: instruction by category of questions. ``template``: of the user's turn."""

    system: Mapping[str, str]
    template: str

    def messages(self, category: str, question: str, first: str, second: str) -> tuple[tuple[str, str], ...]:
        """A game's conversation: ``first`` is the answer of assistant A, ``second`` that of B."""
        values = {"question_1": question, "answer_1": first, "answer_2": second}
        values |= {"QUESTION": question, "ANSWER_A": first, "ANSWER_B": second}
        return ("system", self.system[category]), ("user", filled(self.template, values))


def read_prompts(config: Path, categories: Sequence[str], code: Path | None = None) -> Prompts:
    """Prompts of a YAML file: ``prompt_template``, and an instruction for each category (a key of its name, or one
    ``system_prompt`` for all), else that of ``JUDGE_SETTINGS`` in the Python file ``code``.

    Raises:
        UserError: a file that does not hold them.
    """
    found = _yaml(config)
    template = found.get("prompt_template")
    if isinstance(template, list) and len(template) == 1:
        template = template[0]
    if not isinstance(template, str) or not all(_holds(template, pair) for pair in _SLOTS):
        raise UserError(f"{config} needs prompt_template: one text with {{question_1}}, {{answer_1}} and {{answer_2}}")
    table = _settings(code) if code else found
    system = {c: _instruction(table, c) for c in categories}
    lacking = [c for c, text in system.items() if not text]
    if lacking:
        raise UserError(
            f"{code or config} holds no instruction for the judge of {lacking[0]}: add the key system_prompt"
        )
    return Prompts(system, template)


_SLOTS = (("{question_1}", "{QUESTION}"), ("{answer_1}", "{ANSWER_A}"), ("{answer_2}", "{ANSWER_B}"))


def holds_instructions(config: Path, categories: Sequence[str]) -> bool:
    """Whether a YAML file holds the judge's instruction for all categories itself."""
    found = _yaml(config)
    return all(_instruction(found, c) for c in categories)


def _holds(template: str, names: tuple[str, ...]) -> bool:
    return any(name in template for name in names)


def _instruction(table: Mapping[str, Any], category: str) -> str:
    found = table.get(category, table.get("system_prompt"))
    found = found.get("system_prompt") if isinstance(found, Mapping) else found
    return found if isinstance(found, str) else ""


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(files.read_text_file(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is no YAML of keys and values: it needs prompt_template")
    return found


def _settings(path: Path) -> dict[str, Any]:
    """The table ``JUDGE_SETTINGS`` of a Python file; names in it stand for texts assigned before."""

    class Inline(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return known.get(node.id, node)

    known: dict[str, ast.expr] = {}
    try:
        for node in ast.parse(files.read_text_file(path)).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                known[node.targets[0].id] = node.value
        found = ast.literal_eval(Inline().visit(known[TABLE]))
    except (SyntaxError, KeyError, ValueError):
        raise UserError(f"{path} holds no table {TABLE} of plain texts") from None
    return dict(found)
