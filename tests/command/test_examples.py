"""The example package and the tutorial, in a fresh environment with wheels of ours and of theirs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from kit.command import Cli
from kit.results import details

pytestmark = pytest.mark.slow


class Environment:
    """A virtual environment that borrows the libraries of this one (pip too), but not our package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = folder / "lib" / python / "site-packages"
        libraries = [path for path in sys.path if Path(path).name == "site-packages"]
        (site / "borrowed.pth").write_text("\n".join(libraries) + "\n")
        path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
        self.variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        self.variables |= {"PATH": path, "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}

    def run(self, command: str, cwd: Path) -> str:
        """Output of a shell command that must succeed."""
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=cwd,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def wheel(project: Path, folder: Path) -> Path:
    """The project's wheel, built from a copy so that the working tree stays clean."""
    copy = folder / "source"
    keep = shutil.ignore_patterns(".git", ".nox", ".venv", ".sail-bench", "results", "__pycache__", "dist")
    shutil.copytree(project, copy, ignore=keep)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(copy)],
        check=True,
    )
    shutil.rmtree(copy)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def environment(once: Callable[[str, Callable[[Path], object]], Path], tmp_path: Path) -> Environment:
    """A fresh environment with our wheel."""
    (ours,) = once("wheels", lambda folder: wheel(ROOT, folder)).glob("*.whl")
    fresh = Environment(tmp_path / "venv")
    fresh.run(f"python -m pip install -q {ours}", tmp_path)
    where = fresh.run("python -c 'import harness; print(harness.__file__)'", tmp_path)
    assert str(tmp_path / "venv") in where, "the wheel is what is imported, not the checkout"
    return fresh


def test_the_example_package(environment: Environment, tiny_copy: Path, tmp_path: Path) -> None:
    """Built as a wheel and installed beside ours: listed, compared, and in the leaderboard with its origin."""
    (tmp_path / "wheels").mkdir()
    built = wheel(ROOT / "examples" / "sail-revkl", tmp_path / "wheels")
    environment.run(f"python -m pip install -q {built}", tmp_path)
    shown = environment.run("sail-bench methods", tmp_path)
    assert "sail-revkl  SAIL-PR with a reverse-KL penalty to the start policy (sail-revkl 0.1.0)" in shown
    assert "penalty 0.05" in shown
    environment.run("sail-bench compare tiny --methods start,dpo,sail-revkl --benchmarks preference", tiny_copy)
    page = (tiny_copy / "results/local/tiny/pairs-16/LEADERBOARD.md").read_text()
    row = next(line for line in details(page, "Methods").split("\n") if line.startswith("| `sail-revkl`"))
    assert "sail-revkl 0.1.0" in row
    assert "penalty 0.05" in row
    assert "Failed runs" not in page
    tests = ROOT / "examples" / "sail-revkl" / "tests"
    assert "2 passed" in environment.run(f"python -m pytest -q -p no:cacheprovider {tests}", tmp_path)


def test_the_tutorial_as_it_stands(environment: Environment, finished_tiny: Path, tmp_path: Path) -> None:
    """Every ``bash`` block of docs/add-a-method.md, one after the other in one shell. The store has `start` and
    `dpo` already."""
    text = (ROOT / "docs" / "add-a-method.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    assert len(blocks) == 4
    blocks.insert(1, f"cp -r {finished_tiny / '.sail-bench'} .")
    shown = environment.run("\n".join(blocks), tmp_path)
    assert "3 passed" in shown
    assert "win-by-margin  one line for the listing (win-by-margin 0.1.0)" in shown
    page = (tmp_path / "win-by-margin/results/local/tiny/pairs-16/LEADERBOARD.md").read_text()
    assert "| `win-by-margin` |" in page
    code = (tmp_path / "win-by-margin" / "win_by_margin.py").read_text()
    (shown_code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    for line in shown_code.strip().split("\n")[1:]:
        assert line in code, "the page shows the code that the command writes"


def test_the_skeleton_refuses_what_it_should(cli: Cli, tmp_path: Path) -> None:
    for name, words in (("My_Method", "no name for a method"), ("dpo", "installed already")):
        done = cli("new-method", name, cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
    assert cli("new-method", "ok", cwd=tmp_path).returncode == 0
    done = cli("new-method", "ok", cwd=tmp_path)
    assert done.returncode == 2
    assert "ok exists" in done.stderr
