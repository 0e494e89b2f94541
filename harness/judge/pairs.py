"""Pairs with known preferences that a user brings, to try a judge on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from harness import files
from harness.errors import UserError

PREFERRED = "ultrafeedback_binarized_test_prefs_500.jsonl"


class Pair(NamedTuple):
    """A request and two answers to it, the better one first."""

    prompt: str
    chosen: str
    rejected: str


def read_pairs(path: Path, limit: int) -> tuple[list[Pair], int]:
    """The first ``limit`` usable pairs of a file, and how many were passed over because both answers are equal.

    Rows hold ``chosen`` and ``rejected`` as texts or as message lists whose last message is the answer; the request is
    what goes before it, or ``prompt`` (a text or messages), or ``instruction`` with an optional ``input``.

    Raises:
        UserError: no file, a row that is no pair (named with its line), or no usable pair at all.
    """
    found: list[Pair] = []
    equal = 0
    for where, row in files.numbered(path, ("chosen", "rejected")):
        pair = _pair(row, f"{path}, {where}")
        equal += pair.chosen == pair.rejected
        if pair.chosen != pair.rejected:
            found.append(pair)
        if len(found) == limit:
            break
    if not found:
        raise UserError(f"{path} holds no usable pair ({equal} with equal answers): name another file with --pairs")
    return found, equal


def pairs_file(folder: Path) -> Path:
    """The file of pairs in a data folder: ``preference/`` holds UltraFeedback's test pairs, or one file alone.

    Raises:
        UserError: it is not there, or there is a choice.
    """
    known = folder / "preference" / PREFERRED
    there = [known] if known.is_file() else sorted((folder / "preference").glob("*.jsonl"))
    if len(there) == 1:
        return there[0]
    held = ", ".join(p.name for p in there) or "no .jsonl file"
    raise UserError(f"{folder / 'preference'} holds {held}: name one file of pairs with --pairs")


def _pair(row: dict[str, Any], where: str) -> Pair:
    before, chosen = _answer(row, "chosen", where)
    other, rejected = _answer(row, "rejected", where)
    if before != other:
        raise UserError(f"{where}: 'chosen' and 'rejected' answer different conversations")
    return Pair(_told(before) if before else _request(row, where), chosen, rejected)


def _answer(row: dict[str, Any], key: str, where: str) -> tuple[list[dict[str, str]], str]:
    """The messages before an answer (none where it is a text), and the answer."""
    value = row[key]
    if isinstance(value, str):
        return [], value
    if not _messages(value):
        raise UserError(f"{where}: {key!r} must be a text or a list of messages with role and content")
    return value[:-1], value[-1]["content"]


def _request(row: dict[str, Any], where: str) -> str:
    prompt = row.get("prompt", row.get("instruction"))
    if _messages(prompt):
        return _told(prompt)
    if not isinstance(prompt, str) or not isinstance(row.get("input") or "", str):
        raise UserError(f"{where}: there is no request: give 'prompt', or 'instruction' (and 'input'), as a text")
    return f"{prompt}\n\n{row['input']}" if "prompt" not in row and row.get("input") else prompt


def _messages(value: Any) -> TypeGuard[list[dict[str, str]]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, dict) and {type(m.get("role")), type(m.get("content"))} == {str} for m in value)
    )


def _told(messages: list[dict[str, str]]) -> str:
    """A conversation as one text; a single user turn is that turn."""
    if [m["role"] for m in messages] == ["user"]:
        return messages[0]["content"]
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)
