"""Foreign text on its way into the page: made visible, written as JSON, compressed. The page shows it as text only."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from typing import Any

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with each control character, and each mark that reorders or hides text, written out as ``⟦U+202E⟧``.

    Tabs and line ends stay.
    """
    return _HIDDEN.sub(lambda match: f"⟦U+{ord(match[0]):04X}⟧", text.replace("\r\n", "\n"))


def plain(value: Any) -> Any:
    """A JSON value whose strings are all :func:`visible`, keys included, and whose numbers are finite or None."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {visible(str(key)): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def script_json(value: Any) -> str:
    """JSON for the inside of a ``<script>`` element: ASCII, with no character that could end or open an element."""
    text = json.dumps(plain(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def compressed_json(value: Any) -> str:
    """JSON as deflated bytes (zlib format) in base64, for the browser's ``DecompressionStream("deflate")``."""
    text = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), 6)).decode("ascii")
