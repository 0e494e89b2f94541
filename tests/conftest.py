"""Shared fixtures: the tiny policy on disk, golden data, and the command line in a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from kit.judge_server import Behaviour, Server

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
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``sail-bench`` in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from harness.cli import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )

    return run
