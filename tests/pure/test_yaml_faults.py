"""Text that is no YAML: the line and the fix, without the parser's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.recipe.yaml_text import read_yaml


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "data:\n  task: x\n   train: y\n",
            "line 3 is indented more than line 2 (3 against 2 spaces): give keys of one level the same indentation",
        ),
        ("methods: [dpo]\n\n# a comment\n model: x\n", "line 4 is indented more than line 1 (1 against 0 spaces)"),
        ("data:\n    task: x\n  train: y\n", "line 3 is indented less than line 2 (2 against 4 spaces)"),
        ("methods:\n  - dpo\n - sail-pr\n", "line 3 is indented less than line 2"),
        ("data:\n\ttask: x\n", "line 2 is indented with a tab: use spaces"),
        ("a: 1\nb:\tx\n", "line 2 has a tab where a value should stand: use spaces"),
        ("a: [1, 2\nb: 3\n", "the '[' on line 1 has no ']', or a comma is missing before line 2"),
        ("a: {x: 1\nb: 3\n", "the '{' on line 1 has no '}', or a comma is missing before line 2"),
        ('a: 1\nb: "x\nc: 3\n', "the quote that begins on line 2 is not closed"),
        ("a: 1\nb\nc: 2\n", "line 2 has no colon after its key: write 'key: value'"),
        ("a: @x\n", "a text on line 1 begins with '@': put it in quotes"),
        ("a: *x\n", "line 1 has a '*' before a name that no '&' gives: put the text in quotes"),
        ("a: b: c\n", "line 1 does not fit here: write one 'key: value' a line, and put a text with a colon in quotes"),
        ("a: 1\n---\nb: 2\n", "a second document begins on line 2: a recipe is one, so leave out the '---'"),
        ("a: !x 1\n", "line 1 has a tag (a '!' before a value): leave it out, or put the text in quotes"),
        ("a: 1\nb: \x07\n", "line 2 has a control character (U+0007): remove it"),
    ],
)
def test_the_line_and_the_fix(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(tmp_path / "a.yaml")
    shown = str(caught.value)
    assert shown.startswith(f"The recipe file {tmp_path}/a.yaml cannot be read as YAML: {sentence}")
    assert not any(word in shown for word in ("while ", "token", "block", "scalar", "unicode string", "\n"))
