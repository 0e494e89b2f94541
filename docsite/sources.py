"""The sources of the site: pages of ``docs/``, what they link to elsewhere in the repository, and generated pages."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from docsite.api_pages import api_pages
from docsite.commands_page import commands_page
from docsite.links import PICTURES, TOP, anchors, place, resolved, targets, with_links
from docsite.plugin_pages import benchmarks_page, methods_page, oracles_page
from docsite.recipe_page import recipe_page
from harness.report.marked_sections import has_sections, with_sections

ROOT = Path(__file__).parent.parent

GENERATED: Mapping[str, Callable[[], str]] = {
    "docs/reference/recipe.md": recipe_page,
    "docs/reference/methods.md": methods_page,
    "docs/reference/benchmarks.md": benchmarks_page,
    "docs/reference/oracles.md": oracles_page,
    "docs/reference/commands.md": commands_page,
    **{f"docs/reference/api/{name}.md": partial(str, text) for name, text in api_pages().items()},
}
"""Pages that are made when the site is built, by the path that they would have in the repository."""

_MARKS = re.compile(r'(?<=\S) (?:not-run|nightly|nightly-adds|run-by)="[^"\n]*"')
"""What a fence says to the tests of the documentation."""

_SECTION = re.compile(r"^<!-- /?sail-bench\S* -->$", re.M)
"""Where a section that is made from results begins or ends."""

_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml", ".txt": "text"}


class BrokenLinkError(Exception):
    """A link leads to no file of the repository, or to no heading of its page."""


class Sources:
    """Collects the pages of the site, beginning with those of ``docs/`` and going on to whatever they link to."""

    def __init__(self, root: Path = ROOT, generated: Mapping[str, Callable[[], str]] = GENERATED) -> None:
        self.root = root
        self.generated = {path: make() for path, make in generated.items()}
        self.texts: dict[str, str] = {}
        self.pictures: set[str] = set()
        self._waiting = [*sorted(f"docs/{p.name}" for p in (root / "docs").glob("*.md")), *TOP, *self.generated]

    def collect(self) -> None:
        """Read all pages, and follow their links.

        Raises:
            BrokenLinkError: for all links that lead nowhere.
        """
        broken: list[str] = []
        while self._waiting:
            path = self._waiting.pop(0)
            if path in self.texts:
                continue
            text = self.texts[path] = self._read(path)
            for target in targets(text) if self._is_prose(path) else ():
                to, _ = self._resolved(path, target)
                if to not in self.generated and not (self.root / to).exists():
                    broken.append(f"{path}: {target} is no file of the repository")
                elif to.endswith(PICTURES):
                    self.pictures.add(to)
                elif to not in self.texts:
                    self._waiting.append(to)
        broken += self._missing_anchors()
        if broken:
            raise BrokenLinkError("\n".join(broken))

    def _missing_anchors(self) -> list[str]:
        have = {path: anchors(text) for path, text in self.texts.items() if self._is_prose(path)}
        missing = []
        for path in have:
            for target in targets(self.texts[path]):
                to, anchor = self._resolved(path, target)
                if anchor and to in have and anchor not in have[to]:
                    missing.append(f"{path}: {target} has an anchor that {to} lacks")
        return missing

    def _resolved(self, path: str, target: str) -> tuple[str, str]:
        """File and anchor of a link; a folder with a README stands for that."""
        to, anchor = resolved(path, target)
        readme = f"{to}/README.md"
        return (readme if (self.root / readme).is_file() else to), anchor

    def _is_prose(self, path: str) -> bool:
        return path.endswith(".md") or (self.root / path).is_dir()

    def _read(self, path: str) -> str:
        if path in self.generated:
            return self.generated[path]
        file = self.root / path
        if file.is_dir():
            return _listing(path, file)
        text = file.read_text(encoding="utf-8")
        if path.endswith(".md"):
            return with_sections(text, file, self.root / "results") if has_sections(file) else text
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
        return f"# {path}\n\n{fence}{_LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"

    def write(self, folder: Path) -> None:
        """Write all pages with their links rewritten, and the pictures."""
        shutil.rmtree(folder, ignore_errors=True)
        for path, text in self.texts.items():
            to = folder / place(path, self.root)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(self._on_site(path, text) if self._is_prose(path) else text, encoding="utf-8")
        for path in sorted(self.pictures):
            to = folder / place(path, self.root)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / path, to)
        for extra in sorted((Path(__file__).parent / "static").iterdir()):
            (folder / "assets").mkdir(exist_ok=True)
            shutil.copyfile(extra, folder / "assets" / extra.name)

    def _on_site(self, path: str, text: str) -> str:
        here = posixpath.dirname(place(path, self.root))

        def moved(target: str) -> str:
            to, anchor = self._resolved(path, target)
            address = posixpath.relpath(place(to, self.root), here or ".")
            return ("" if to == path else address) + (f"#{anchor}" if anchor else "") or address

        text = _SECTION.sub("", _MARKS.sub("", with_links(text, moved)))
        return text.replace("<details>", '<details markdown="1">').replace("<summary>", '<summary markdown="span">')


def _listing(path: str, folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return f"# {path}\n\n" + "\n".join(f"* [{name}]({posixpath.basename(path)}/{name})" for name in names) + "\n"
