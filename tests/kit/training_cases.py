"""The inputs of ``shared/cases/training`` that went wrong once, and the small models that its recipes name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent.parent.parent.parent / "shared" / "cases" / "training"


def cases(*parts: str) -> Path:
    """A file or folder of the cases; the test is skipped with a reason where they are absent (a user's clone)."""
    path = CASES.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"training cases absent: {'/'.join(parts)}")
    return path


def build_models(out: Path) -> Path:
    """Make the models of the cases in a folder, once; returns the folder."""
    script = cases("build.py")
    if not (out / "rm-gemma" / "config.json").is_file():
        subprocess.run([sys.executable, str(script), str(out)], check=True, capture_output=True)
    return out


def case_recipe(folder: Path, models: Path, out: Path) -> Path:
    """A copy of a case's recipe with its model addresses filled in and its data files beside it.

    Args:
        folder: of the case, with ``recipe.yaml``, ``train.jsonl`` and ``test.jsonl``.
        models: by :func:`build_models`.
        out: folder of the copy.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in ("train.jsonl", "test.jsonl"):
        (out / name).write_bytes((folder / name).read_bytes())
    recipe = out / "recipe.yaml"
    recipe.write_text(
        (folder / "recipe.yaml").read_text(encoding="utf-8").replace("MODELS", str(models)), encoding="utf-8"
    )
    return recipe
