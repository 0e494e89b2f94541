"""What follows the build: formulas become MathML, and every link and asset of the built site is checked."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.S)
_LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class _Page(HTMLParser):
    """Anchors of a page, what it links to, and what a browser loads with it."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ("canonical", "next", "prev", "alternate"):
            return
        self.loaded += [values[name] for kind, name in _LOADED if kind == tag and values.get(name)]


def typeset(site: Path) -> int:
    """Write each formula as MathML, which browsers draw without a script.

    Returns:
        how many formulas there were.
    """
    from latex2mathml.converter import convert

    def formula(match: re.Match[str]) -> str:
        tex = html.unescape(match[2]).strip()
        block = tex.startswith("\\[")
        return str(convert(tex[2:-2].strip(), display="block" if block else "inline"))

    count = 0
    for page in sorted(site.rglob("*.html")):
        text, changed = _FORMULA.subn(formula, page.read_text(encoding="utf-8"))
        if changed:
            page.write_text(text, encoding="utf-8")
            count += changed
    return count


def faults(site: Path) -> Iterator[str]:
    """Links within the site that lead nowhere, and everything that a page would load from a network."""
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = parsed = _Page()
        parsed.feed(path.read_text(encoding="utf-8"))
    for path, parsed in pages.items():
        name = path.relative_to(site)
        if name.name == "404.html":
            continue
        yield from (f"{name} loads {address}" for address in parsed.loaded if urlsplit(address).netloc)
        for address in {*parsed.links, *parsed.loaded}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name} links to {address}, which is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name} links to {address}, which has no such anchor"
    for sheet in sorted(site.rglob("*.css")):
        for address in re.findall(r"url\(\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")):
            yield f"{sheet.relative_to(site)} loads from {address or 'a network'}"
