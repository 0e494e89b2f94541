"""What is shipped: three top-level packages with their data, built by the real build backend."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_wheel_holds_three_packages_and_their_data(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"harness", "sail", "benchmarks"}
    for wanted in (
        "harness/recipe/builtin/smollm2.yaml",
        "harness/oracles/constraint_prompts/train.jsonl",
        "benchmarks/mmlu/mini/test.jsonl",
        "sail/py.typed",
    ):
        assert wanted in names
