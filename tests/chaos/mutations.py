"""What happens to sound input: other values, keys gone or misspelt, bytes cut, flipped or put in."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "", " ", "\n", "\0", "\ud800", "\u202eabc", "\x1b[2J", "<script>alert(1)</script>", "a|b", "../../../etc/passwd",
    "{", "{x}", "{0}", "%s", "{{", "[[5]]", "[[A]]", "x" * 300, "ä" * 5000, "nan", "-inf", "1e400", "true", "null",
    "tiny", "~", "C:\\x", "\r\n", "\u2028", "\ufeff", "<|im_end|>",
)  # fmt: skip
ODD_NUMBERS = (
    0, -1, 1, 2, 10**9, 10**18, 2**63, 10**30, -(10**30), 10**400, 0.5, -0.0, 1e308, 5e-324, math.nan, math.inf,
)  # fmt: skip

TEXTS = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=20))
LEAVES = st.one_of(st.none(), st.booleans(), st.sampled_from(ODD_NUMBERS), st.integers(), st.floats(), TEXTS)
VALUES = st.one_of(
    LEAVES,
    LEAVES,
    st.lists(LEAVES, max_size=4),
    st.dictionaries(TEXTS, LEAVES, max_size=3),
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)),
    st.integers(2, 1200).map(lambda depth: _nested(depth)),
)
"""Any JSON value, odd ones more often."""


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values in a value, itself included."""
    yield before
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from _places(part, (*before, key))


def _changed(draw: st.DrawFn, sound: Any, most: int = 3) -> Any:
    """A JSON value with some of its parts changed.

    Args:
        draw: of hypothesis.
        sound: the value.
        most: changes.
    """
    value = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(list(_places(value))))
        if not path:
            if draw(st.integers(0, 20)) == 0:
                value = draw(VALUES)
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        what = draw(st.sampled_from(("value", "value", "value", "gone", "name", "twice")))
        if what == "gone":
            del holder[path[-1]]
        elif what == "name" and isinstance(holder, dict):
            holder[draw(TEXTS)] = holder.pop(path[-1])
        elif what == "twice" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        else:
            holder[path[-1]] = draw(VALUES)
    return value


changed = st.composite(_changed)
"""A strategy for a value with some of its parts changed."""


def _torn(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes that were cut, flipped, doubled, or got others put in.

    Args:
        draw: of hypothesis.
        sound: the bytes.
    """
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(("cut", "flip", "put", "double", "remove")))
        if what == "cut":
            del data[place:]
        elif what == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif what == "put":
            data[place:place] = draw(
                st.one_of(st.binary(max_size=6), TEXTS.map(lambda t: t.encode("utf-8", "replace")))
            )
        elif what == "double":
            data[place:place] = data[: draw(st.integers(0, min(len(data), 200)))]
        else:
            del data[place : place + draw(st.integers(1, 30))]
    return bytes(data)


torn = st.composite(_torn)
"""A strategy for bytes to which something has happened."""
