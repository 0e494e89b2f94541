"""Links between files of the repository, and where each file stands on the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

PICTURES = (".svg", ".png", ".jpg")
TOP = {"README.md": "repository/index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

_FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1`*[ \t]*$", re.M | re.S)
_TARGET = re.compile(r"(?<=\]\()([^)\s]+)(?=(?:\s+\"[^\"]*\")?\))")
_WEB = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.I)


def outside_fences(text: str) -> Iterator[tuple[str, bool]]:
    """The text in parts; the flag says whether a part is prose, not a fenced block."""
    end = 0
    for fence in _FENCE.finditer(text):
        yield text[end : fence.start()], True
        yield fence[0], False
        end = fence.end()
    yield text[end:], True


def targets(text: str) -> list[str]:
    """What the links and pictures of a Markdown text lead to, addresses of the web left out."""
    every = [target for part, prose in outside_fences(text) if prose for target in _TARGET.findall(part)]
    return [target for target in every if not _WEB.match(target)]


def resolved(source: str, target: str) -> tuple[str, str]:
    """The repository's file that a link leads to, and the anchor in it.

    Args:
        source: the file with the link, from the repository's root.
        target: of the link, as written.
    """
    path, _, anchor = target.partition("#")
    if not path:
        return source, anchor
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path)), anchor


def place(path: str, root: Path) -> str:
    """Where a file of the repository stands among the sources of the site.

    A page of ``docs/`` keeps its name. Other Markdown files, pictures and folders go to ``repository/``; any other file
    becomes a page that shows it.
    """
    if path in TOP:
        return TOP[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (root / path).is_dir():
        return f"repository/{path}/index.md"
    if PurePosixPath(path).name == "README.md":
        return f"repository/{posixpath.dirname(path)}/index.md"
    return f"repository/{path}" + ("" if path.endswith((".md", *PICTURES)) else ".md")


def with_links(text: str, change: Callable[[str], str]) -> str:
    """A Markdown text with another target in each of its links within the site."""

    def changed(match: re.Match[str]) -> str:
        return match[0] if _WEB.match(match[0]) else change(match[0])

    return "".join(_TARGET.sub(changed, part) if prose else part for part, prose in outside_fences(text))


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown text: of its headings, as GitHub and the site make them, and those set by hand."""
    prose = "".join(part for part, is_prose in outside_fences(text) if is_prose)
    headings = re.findall(r"^#{1,6} +(.+?)\s*#*$", prose, re.M)
    return {anchor_of(heading) for heading in headings} | set(re.findall(r'<a id="([^"]+)"', prose))


def anchor_of(heading: str) -> str:
    """The anchor of a heading."""
    if own := re.search(r"\{ *#([\w-]+) *\}\s*$", heading):
        return own[1]
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
