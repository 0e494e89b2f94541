"""Packages of others, as pip leaves them: modules and metadata with entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Entries = Mapping[str, str]


def install(
    folder: Path, name: str, entries: Entries, kinds: Mapping[str, Entries] | None = None, **files: str
) -> Path:
    """A distribution in a folder, which has to be put on the path.

    Args:
        folder: gets it.
        name: of the distribution, whose version is 1.2.
        entries: entry points of methods, by name.
        kinds: entry points of other groups (``oracles``, ``benchmarks``).
        files: texts of its modules, by name.
    """
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    groups = {"methods": entries, **(kinds or {})}
    lines = [
        f"[harness.{kind}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items())
        for kind, named in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, text in files.items():
        (folder / f"{module}.py").write_text(text)
    return folder
