"""Keys are kept out of errors and logs: whatever shares a piece of a key is replaced.

A key is the value of a variable that a recipe names as ``api_key_env``, of any variable whose name says that it holds a
secret, and what a ``base_url`` holds of one (a password, a parameter after ``?``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import parse_qsl, unquote, urlsplit

SHARED = 8
"""Consecutive characters that a text and a key have in common, from which they are replaced."""

SHORTEST_KEY = 16
"""Characters of a key whose pieces are replaced; a shorter one, of at least :data:`SHARED`, is replaced as a whole."""

MARK = "***"
"""What stands for a key."""

_SECRET_NAME = re.compile(r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)

_variables: set[str] = set()
_values: set[str] = set()


def keep_out(variable: str = "", address: str | None = None) -> None:
    """Remember what errors and logs of this process must not show.

    Args:
        variable: name of the environment variable that holds a key; it need not be set yet.
        address: that may hold a password, or keys after its ``?``.
    """
    if variable:
        _variables.add(variable)
    if address:
        _values.update(address_keys(address))


def address_keys(address: str) -> set[str]:
    """What of an address may be a key: its password, and the values of its query, as written and decoded."""
    try:
        parts = urlsplit(address)
        password = parts.password or ""
    except ValueError:  # no address; whoever asks it says so
        return set()
    raw = [part.partition("=")[2] or part for part in parts.query.split("&")]
    values = {password, unquote(password), *raw, *(value for _, value in parse_qsl(parts.query))}
    return {value for value in values if len(value) >= SHARED}


def shown_address(address: str) -> str:
    """An address without user name, password, query and fragment."""
    return re.sub(r"//[^/@?#]*@", "//", re.split(r"[?#]", address, maxsplit=1)[0])


def redacted(text: str) -> str:
    """Text with :data:`MARK` for every stretch that it shares with a key of this process."""
    keys = _keys()
    pieces, wholes = _pieces(keys)
    for whole in wholes:
        text = text.replace(whole, MARK)
    if not pieces:
        return text
    covered = [at for at in range(len(text) - SHARED + 1) if text[at : at + SHARED] in pieces]
    return _replaced(text, covered)


def _replaced(text: str, covered: Iterable[int]) -> str:
    """Text with the mark in place of the stretches of :data:`SHARED` characters that begin at these places."""
    parts, end = list[str](), 0
    for at in covered:
        if at > end or not parts:
            parts += [text[end:at], MARK]
        end = at + SHARED
    return "".join([*parts, text[end:]])


def _keys() -> frozenset[str]:
    """All keys that are known now."""
    named = {value for name, value in os.environ.items() if name in _variables or _SECRET_NAME.search(name)}
    addresses = {key for name, value in os.environ.items() if name == "OPENAI_BASE_URL" for key in address_keys(value)}
    return frozenset(key for key in named | addresses | _values if len(key) >= SHARED and not _is_file(key))


@lru_cache(maxsize=64)
def _is_file(value: str) -> bool:
    """Whether a variable such as ``SSH_KEY`` names a file that holds a key."""
    return os.path.exists(value)  # noqa: PTH110 - Path.exists raises an error for a long name


@lru_cache(maxsize=4)
def _pieces(keys: frozenset[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Pieces of the long keys, and the short keys, the longest first."""
    long = [key for key in keys if len(key) >= SHORTEST_KEY]
    pieces = frozenset(key[at : at + SHARED] for key in long for at in range(len(key) - SHARED + 1))
    return pieces, tuple(sorted((key for key in keys if len(key) < SHORTEST_KEY), key=len, reverse=True))
