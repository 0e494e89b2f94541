"""Shared fixtures: the tiny policy on disk, golden data, the command line, and one finished comparison."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("SAIL_BENCH_WORKERS", "1")  # tests run side by side themselves
os.environ["OPENAI_API_KEY"] = "sk-very-secret"  # a run process has the environment that its fork server began with

import pytest
from filelock import FileLock
from kit.command import Cli, run_here, run_process
from kit.environment import Environment, wheel
from kit.judge_server import Behaviour, Server
from kit.official_data import scripted, write_official_data
from kit.training_cases import build_models

API_KEY = os.environ["OPENAI_API_KEY"]
ROOT = Path(__file__).parent.parent
GOLDEN = Path(os.environ.get("SAIL_BENCH_GOLDEN") or ROOT.parent / "shared" / "golden")


def golden(*parts: str) -> Path:
    """A golden file; the test is skipped with a reason where the data is absent (a user's clone)."""
    path = GOLDEN.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"golden data absent: {'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny start policy, saved."""
    from harness.answer.tiny_model import build_tiny

    folder = tmp_path_factory.mktemp("tiny")
    model, tokenizer = build_tiny()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def case_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the models that the recipes of ``shared/cases/training`` name."""
    return build_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def tokenizer(tiny_dir: Path) -> Any:
    """Tokenizer of the tiny policy."""
    from harness.answer.load import load_tokenizer

    return load_tokenizer(tiny_dir)


@pytest.fixture
def load(tiny_dir: Path) -> Callable[[], Any]:
    """Loads a fresh copy of the tiny model."""
    from harness.answer.load import load_model

    return lambda: load_model(tiny_dir)


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], Server]]:
    servers = []

    def inner(behaviour: Behaviour) -> Server:
        server = Server(behaviour)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return server

    yield inner
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run ``sail-bench`` in this process."""
    return run_here


@pytest.fixture(scope="session")
def cli_process() -> Cli:
    """Run ``sail-bench`` in a process of its own."""
    return run_process


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder by name, filled by the first test that needs it, whatever its worker. Tests only read it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def inner(name: str, fill: Callable[[Path], object]) -> Path:
        folder, complete = shared / name, shared / f"{name}.complete"
        with FileLock(shared / f"{name}.lock"):
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return inner


@pytest.fixture(scope="session")
def finished_tiny(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of a finished comparison of the recipe `tiny`: `results/` and `.sail-bench/`. Tests only read it."""

    def compare(folder: Path) -> None:
        done = run_here("compare", "tiny", cwd=folder)
        assert done.returncode == 0, done.stderr

    return once("finished-tiny", compare)


@pytest.fixture(scope="session")
def smollm2_start(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The embedded model, unpacked and saved; the test is skipped where its package is absent."""
    from harness.answer.smollm2 import smollm2_folder
    from harness.answer.start_policy import build_start, start_stage
    from harness.errors import UserError
    from harness.store.stages import Store

    try:
        smollm2_folder()
    except UserError as error:
        pytest.skip(str(error))
    return Store(once("smollm2", lambda folder: build_start("smollm2", Store(folder)))).path(start_stage("smollm2"))


@pytest.fixture
def tiny_copy(finished_tiny: Path, tmp_path: Path) -> Path:
    """A copy of the finished comparison, to change."""
    return Path(shutil.copytree(finished_tiny, tmp_path / "tiny"))


@pytest.fixture
def official_data(tmp_path: Path) -> Path:
    """A small folder of our own in the layout of the official sets."""
    return write_official_data(tmp_path / "official")


@pytest.fixture
def official_judge(serve: Callable[[Behaviour], Server]) -> Server:
    """A server that judges it, and answers as a policy."""
    return serve(scripted)


@pytest.fixture
def environment(once: Callable[[str, Callable[[Path], object]], Path], tmp_path: Path) -> Environment:
    """A fresh environment with our wheel."""
    (ours,) = once("wheels", lambda folder: wheel(ROOT, folder)).glob("*.whl")
    fresh = Environment(tmp_path / "venv")
    fresh.run(f"python -m pip install -q {ours}", tmp_path)
    where = fresh.run("python -c 'import harness; print(harness.__file__)'", tmp_path)
    assert str(tmp_path / "venv") in where, "the wheel is what is imported, not the checkout"
    return fresh
