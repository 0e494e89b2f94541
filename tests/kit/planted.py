"""What foreign text can try, to be planted wherever such text enters."""

from __future__ import annotations

import re

KEY = "sk-proj-Zq8Wv3Lt0Yx5Nd7Rb2"
"""A key as providers give them."""

HOSTILE = (
    "<script>alert(1)</script> a|b\n| forged | row |\nError: forged \x1b[31mred\x1b[0m \x1b]0;title\x07 "
    "\u202ederf\u202c \u2066o\u2069 \x9b1m [x](javascript:x) ![x](http://tracker/x.png) [/bold]"
)
"""HTML, a table's row, a line that looks like ours, ESC, OSC, CSI, right-to-left marks, Markdown and rich's markup."""

PLANTED = f"{HOSTILE} {KEY} {KEY[3:]}"
"""With the key whole, and without its first three characters."""

ACTIVE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def check_secret(text: str) -> None:
    """Nothing in the text shares eight characters with the key."""
    pieces = [KEY[at : at + 8] for at in range(len(KEY) - 7)]
    assert not [piece for piece in pieces if piece in text], text


def check_shown(text: str) -> None:
    """Nothing in a text for the terminal, or in a log, acts there, and no line of it is the planted one."""
    assert not ACTIVE.search(text), text
    assert not any(line.startswith(("Error: forged", "| forged")) for line in text.split("\n")), text


def check_page(text: str) -> None:
    """Nothing in Markdown is HTML of others, or a row of a table that is not ours."""
    check_shown(text)
    assert "<script" not in text
