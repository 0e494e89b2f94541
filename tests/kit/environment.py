"""A fresh virtual environment with our wheel, for packages of others and for tutorials."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


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
