"""Blocks and commands of the documentation, and a parse of commands that runs nothing."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner

from harness.cli import main

ROOT = Path(__file__).parent.parent.parent
PROSE = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence) *$", re.M | re.S
)
_USAGE = re.compile(r"^(?:\$ )?(?:sail-bench|python) ", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file, from the repository's root.
        line: of its fence, from 1.
        language: as the fence names it; empty if it names none.
        marks: what the fence says besides: ``title``, ``not-run``, ``nightly``, ``run-by``; ``nightly-adds``: options
            that the nightly test adds to the page's command, so that it does a part of what a reader's does.
        text: without its indentation.
    """

    page: str
    line: int
    language: str
    marks: dict[str, str]
    text: str

    @property
    def where(self) -> str:
        """Page and line, for a failing test."""
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """All blocks of a page."""
    text = path.read_text(encoding="utf-8")
    every = []
    for match in _FENCE.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.M)
        line = text.count("\n", 0, match.start()) + 1
        marks = dict(re.findall(r'([\w-]+)="([^"]*)"', rest))
        every.append(Block(str(path.relative_to(ROOT)), line, language, marks, body))
    return every


def command_lines(block: Block) -> list[str]:
    """The commands of a shell block, or of one without a language that begins lines with a command."""
    if block.language == "bash":
        lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
        commands = [part.strip() for line in lines for part in re.split(r"&&|\|\||;", _uncommented(line))]
    elif not block.language and _USAGE.search(block.text):
        text = re.sub(r"\\?\n +", " ", block.text)
        lines = [_uncommented(line) for line in text.splitlines()]
        if any(line.startswith("$ ") for line in lines):
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        commands = [command for line in lines for command in alternatives(line)]
    else:
        return []
    return [command for command in commands if command]


def inline_commands(path: Path) -> list[str]:
    """Commands of ours within the prose of a page, in single backticks."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    spans = re.findall(r"(?<!`)`(sail-bench [^`]+)`(?!`)", text)
    return [command for span in spans for command in alternatives(" ".join(span.split()))]


def alternatives(line: str) -> list[str]:
    """Commands that a line of usage stands for: `a b | c` is `a b` and `a c`."""
    line = re.sub(r"\[([^\[\]|]*) \| [^\[\]]*\]", r"[\1]", line)  # of alternative options the first is taken
    first, *others = [part.strip() for part in line.split(" | ")]
    head = first.rpartition(" ")[0]
    return [first, *(other if other.startswith("sail-bench ") else f"{head} {other}" for other in others)]


def fault(command: str, root: Path = ROOT) -> str:
    """What is wrong with a command, as far as that shows without running it; empty if nothing is."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"{command}: {error}"
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words.pop(0)
    if words[:1] == ["sail-bench"]:
        return _fault_of_ours(_written_out(words))
    if words[:1] == ["nox"] or words[:3] == ["python", "-m", "nox"]:
        return _fault_of_nox(words[1:] if words[0] == "nox" else words[3:], root)
    if words[:2] == ["python", "-m"]:
        return _fault_of_module(words[2:], root)
    if words[:1] == ["python"]:
        return "" if len(words) > 1 and (root / words[1]).is_file() else f"{command}: there is no such file"
    return f"{command}: not checked; say why it is not run"


def _fault_of_ours(words: Sequence[str]) -> str:
    """Whether a command of ours exists and takes these options and arguments; values are checked against choices."""
    command: click.Command = main
    left = [word for word in words[1:] if word != "..."]
    if not left or left[0].startswith("-") or left[0] == "COMMAND":
        return ""
    while isinstance(command, click.Group):
        if not left or left[0] not in command.commands:
            return f"{' '.join(words)}: there is no such command"
        command = command.commands[left.pop(0)]
    if left[:1] == ["--help"]:
        return ""
    context = click.Context(command, info_name=command.name)
    try:
        with CliRunner().isolation(), context:
            values, rest, _ = command.make_parser(context).parse_args(list(left))
    except click.UsageError as error:
        return f"{' '.join(words)}: {error.format_message()}"
    if rest:
        return f"{' '.join(words)}: more arguments than it takes: {' '.join(rest)}"
    for parameter in command.params:
        for value in _given(values.get(parameter.name or "")):
            if isinstance(parameter.type, click.Choice) and value not in parameter.type.choices and value.islower():
                return f"{' '.join(words)}: {value} is none of {', '.join(parameter.type.choices)}"
    return ""


def _given(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (part for part in value if isinstance(part, str))


def _written_out(words: Sequence[str]) -> list[str]:
    """The words of a line of usage: optional parts are there, of `a|b` the first is taken."""
    return [re.sub(r"[\[\]]", "", word).split("|")[0] for word in words]


def _fault_of_nox(words: Sequence[str], root: Path) -> str:
    if words[:1] == ["--list"]:
        return ""
    tree = ast.parse((root / "noxfile.py").read_text(encoding="utf-8"))
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    if len(words) < 2 or words[0] != "-s" or words[1] not in sessions:
        return f"nox {' '.join(words)}: there is no such session"
    after = list(words[words.index("--") + 1 :]) if "--" in words else []
    if words[1] in ("compare", "leaderboard") and after:
        given = after if not after[0].startswith("-") or words[1] == "leaderboard" else ["smollm2", *after]
        return _fault_of_ours(["sail-bench", words[1], *given])
    return ""


def _fault_of_module(words: Sequence[str], root: Path) -> str:
    module = words[0]
    if module == "pip":
        extras = re.findall(r"(?:\.|sail-bench)\[([\w,-]+)\]", " ".join(words))
        known = (root / "pyproject.toml").read_text(encoding="utf-8")
        missing = [e for group in extras for e in group.split(",") if f"\n{e} = [" not in known]
        return f"there is no extra {missing}" if missing else ""
    if module == "pytest":
        paths = [word for word in words[1:] if "/" in word]
        return "".join(f"{path} does not exist" for path in paths if not (root / path).exists())
    if module.startswith(("tests.", "harness")):
        path = root / module.replace(".", "/")
        return "" if path.with_suffix(".py").is_file() or path.is_dir() else f"there is no module {module}"
    return "" if module in ("venv", "build", "mkdocs", "docsite") else f"python -m {module}: not checked"


def _uncommented(line: str) -> str:
    return re.sub(r"(?:^|\s)#.*$", "", line).rstrip()
