"""What is shipped: three top-level packages with their data, built by the real build backend."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


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
        "harness/report/html/static/main.js",
    ):
        assert wanted in names


def pins(name: str) -> dict[str, str]:
    """Versions by package of a constraints file."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in (line.split("==") for line in lines)}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-gpu.txt"])
def test_pins_lie_within_the_bounds(name: str) -> None:
    project, pinned = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"], pins(name)
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    if name == "constraints-gpu.txt":
        wanted += project["optional-dependencies"]["vllm"]
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (requirement, version)


def test_the_pins_for_gpus_differ_in_what_vllm_wants_alone() -> None:
    usual, gpu = pins("constraints.txt"), pins("constraints-gpu.txt")
    differing = {name for name in usual.keys() & gpu.keys() if usual[name] != gpu[name]}
    assert differing == {"transformers", "numpy", "fastapi"}
    assert usual.keys() - gpu.keys() <= {"humanize", "tzdata"}
