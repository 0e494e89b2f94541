"""The scripts for Slurm: their syntax, and that their commands exist. They are not run under Slurm."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from kit.doc_blocks import ROOT, fault

SCRIPTS = sorted((ROOT / "examples" / "slurm").glob("*.sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_its_commands_exist(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    commands = re.findall(r"^(?:exec )?(sail-bench .*)$", text, re.M)
    assert commands
    assert [wrong for wrong in map(fault, commands) if wrong] == []
    assert "llama" not in text, "the recipe is an argument"


def test_there_is_one_for_each_way() -> None:
    assert [path.name for path in SCRIPTS] == ["driver.sh", "ray.sh", "workers.sh"]
