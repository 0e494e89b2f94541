"""A comparison on a Ray cluster of two nodes of this machine, one of which is killed: the results of one process.

``nox -s ray`` runs it; elsewhere it is skipped where Ray is absent.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kit.command import Cli
from kit.comparison import timeless_results
from kit.ray_processes import job_of, kill_tree
from kit.slurm import free_port

from harness.recipe.load import load_recipe
from harness.run.cluster import key_variables
from harness.run.ray_pool import Needs, RayPool, _unreachable

ray = pytest.importorskip("ray", reason="Ray is not installed: nox -s ray installs it")

METHODS = ("start", "dpo", "sail-pr")
KEY = "sk-very-secret"
STORE = {"object_store_memory": 100 * 2**20}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without a core for jobs, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **STORE})
    try:
        yield made
    finally:
        made.shutdown()


def raylet(node: Any) -> psutil.Process:
    """The process of a node that begins all others."""
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def in_training(nodes: list[Any]) -> list[Any]:
    """The nodes of which a process works on a job of a method that trains."""
    return [node for node in nodes if any(job_of(one).startswith(METHODS[1:]) for one in raylet(node).children())]


@pytest.mark.nightly
def test_two_nodes_one_killed_give_the_results_of_one_process(
    finished_tiny: Path, cli_process: Cli, tmp_path: Path, cluster: Any
) -> None:
    """A node that trains is killed with all its processes once there is a checkpoint, so that its job is lost."""
    nodes = [cluster.add_node(num_cpus=1, **STORE) for _ in range(2)]
    store, killed = tmp_path / ".sail-bench", []

    def kill_one() -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if any(store.glob("work/train-*/checkpoints/checkpoint-*/ledger.json")) and (busy := in_training(nodes)):
                kill_tree(raylet(busy[0]))
                cluster.remove_node(busy[0], allow_graceful=False)
                killed.append(busy[0])
                return
            time.sleep(0.005)

    thread = threading.Thread(target=kill_one)
    thread.start()
    arguments = [
        "compare",
        "tiny",
        "--methods",
        ",".join(METHODS),
        "--workers",
        "2",
        "--cluster",
        f"ray:{cluster.address}",
    ]
    done = cli_process(*arguments, cwd=tmp_path)
    thread.join()
    assert done.returncode == 0, done.stderr
    assert killed
    assert "was lost: the job begins again from its last checkpoint" in done.stderr
    assert "raylet" not in done.stdout + done.stderr
    again, expected = timeless_results(tmp_path, METHODS), timeless_results(finished_tiny, METHODS)
    for method in METHODS:
        assert again[method]["benchmarks"] == expected[method]["benchmarks"], method
        assert again[method]["train_log"] == expected[method]["train_log"], method
    written = [p for folder in (store / "logs", Path(cluster.head_node.get_logs_dir_path())) for p in folder.rglob("*")]
    assert written
    assert not any(KEY in p.read_text(errors="replace") for p in written if p.is_file())


def test_no_cluster_at_an_address_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    for address, words in {
        "ray://head:10001": "is for Ray's client",
        "nohost.invalid:6379": "no Ray cluster at",
    }.items():
        done = cli("compare", "tiny", "--cluster", f"ray:{address}", cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("Error:") == 1


def test_a_cluster_that_is_started_for_a_command_leaves_no_token_in_the_home_folder(
    cli_process: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray would write one, and every later cluster of this user would ask for it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    done = cli_process("compare", "tiny", "--methods", "start", "--cluster", "ray", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (home / ".ray" / "auth_token").exists()


def test_a_cluster_that_asks_for_a_token_is_named_with_the_fix(
    cli_process: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{(port := free_port())}"
    with monkeypatch.context() as token:
        token.setenv("RAY_AUTH_MODE", "token")
        token.setenv("RAY_AUTH_TOKEN", "0" * 64)
        head = ["start", "--head", "--block", f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
        command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *head]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while _unreachable(address):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        done = cli_process("compare", "tiny", "--methods", "start", "--cluster", f"ray:{address}", cwd=tmp_path)
    finally:
        process.terminate()
        process.wait(60)
    assert done.returncode == 2
    assert f"Error: The Ray cluster at {address} does not let this command in (" in done.stderr
    assert "set RAY_AUTH_MODE=token" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_that_has_just_gone_does_not_stop_a_command(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray lists a node until it has noticed that it is lost."""
    cluster.add_node(num_cpus=1, **STORE)
    pool = RayPool(cluster.address, None, Needs(None, [], tmp_path))
    gone = {"NodeID": "ab" * 28, "NodeManagerAddress": "192.0.2.9", "Alive": True, "Resources": {}}
    nodes = ray.nodes()
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, gone])
    with pool:
        assert not list(tmp_path.iterdir()), "the probe is removed"


def test_room_is_for_runs_whose_processes_share_a_node(cluster: Any, tmp_path: Path) -> None:
    """Nodes of 3 cores and of 1: two processes a run have room for one run, one process a run for four."""
    for cores in (3, 1):
        cluster.add_node(num_cpus=cores, **STORE)
    for processes, room in ((1, 4), (2, 1), (3, 1)):
        with RayPool(cluster.address, None, Needs(None, [], tmp_path, processes)) as pool:
            assert (pool.count, pool.room) == (room, room)


def test_only_names_of_keys_are_handed_over() -> None:
    recipe = load_recipe("llama3-8b-ultrafeedback")
    assert key_variables(recipe, {"OPENAI_API_KEY": KEY}) == ["OPENAI_API_KEY"]
    assert key_variables(recipe, {}) == []
