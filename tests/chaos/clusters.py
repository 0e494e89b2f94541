"""Kills of a comparison whose jobs run elsewhere: workers of a folder of jobs, and nodes of a Ray cluster."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import psutil

from harness.run import job_folder, worker
from tests.chaos.command import SETTLING_S, Command
from tests.chaos.ended import faults_of
from tests.chaos.kills import KILLS, Machines, kill_child, kill_group, terminate
from tests.chaos.outcome import Fault
from tests.chaos.setting import ARGUMENTS, DEADLINE_S
from tests.kit.ray_processes import job_of

WORKERS = 2
"""Workers of a folder, or nodes of a cluster: one core each."""

BEAT_S, LOST_S = 1.0, 6.0
"""Here a worker says so often that it is alive, and is lost after so long: 5 and 120 seconds otherwise."""

ENDING_S = 5.0
"""Seconds after which a worker has seen that its comparison has ended."""

OF_THE_DRIVER: Mapping[str, Callable[[Command], None]] = {
    name: kill for name, kill in KILLS.items() if kill is not kill_child
}


class Folder(Machines):
    """``--cluster jobs:jobs``, and two workers of it."""

    arguments = (*ARGUMENTS, "--cluster", "jobs:jobs")
    survived = ("kill -9 of a worker", "SIGTERM to a worker")
    of_a_run = "kill -9 of a worker's run"
    hands = WORKERS

    def __init__(self) -> None:
        kills = {**dict(zip(self.survived, (kill_group, terminate), strict=True)), self.of_a_run: kill_child}
        one = {name: lambda command, kill=kill: kill(self._workers[0]) for name, kill in kills.items()}
        self.kills = {**OF_THE_DRIVER, **one}
        self._workers: list[Command] = []
        self._faults: list[Fault] = []
        self._number = 0

    def possible(self, command: Command) -> list[str]:
        """All, if the next worker has a process of its own to be killed."""
        self._workers.append(self._workers.pop(0))  # take turns
        return [name for name in self.kills if name != self.of_a_run or self._workers[0].children()]

    def ready(self, folder: Path) -> None:
        """Start workers in the place of those that have ended."""
        (folder / "jobs").mkdir(exist_ok=True)
        for gone in [one for one in self._workers if not one.running()]:
            self._faults += faults_of(gone, ended=True)
            self._workers.remove(gone)
        while len(self._workers) < WORKERS:
            self._number += 1
            self._workers.append(Command(folder, ("run-job", "jobs"), folder / f"worker-{self._number}.txt"))

    def faults(self) -> list[Fault]:
        """Of all workers so far. They end when the comparison has; one that began later waits for the next one."""
        faults, self._faults = self._faults, []
        for one in self._workers:
            if not one.wait(ENDING_S):
                terminate(one)
            faults += faults_of(one, ended=one.wait(DEADLINE_S))
        self._workers = []
        return faults


@contextmanager
def folder_of_jobs() -> Iterator[Machines]:
    """Workers that are soon given up, while the context lasts."""
    machines = Folder()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(worker, "BEAT_S", BEAT_S))
        stack.enter_context(mock.patch.object(job_folder, "LOST_S", LOST_S))
        stack.callback(machines.faults)
        yield machines


NODES = """
import sys
from ray.cluster_utils import Cluster
store = {"object_store_memory": 100 * 2**20}
made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
nodes = [made.add_node(num_cpus=1, **store) for _ in range(int(sys.argv[1]))]
print(made.address, flush=True)
for line in sys.stdin:
    made.remove_node(nodes.pop(0), allow_graceful=False)
    nodes.append(made.add_node(num_cpus=1, **store))
    print("ready", flush=True)
made.shutdown()
"""
"""A cluster of this machine; each line that it reads costs it a node, for which another one comes."""


class Ray(Machines):
    """``--cluster ray:ADDRESS``, with a node for each job.

    Args:
        process: of the cluster, which has printed its address.
        address: of it.
    """

    hands = WORKERS
    survived = ("kill -9 of a node", "kill -9 of a Ray worker")

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.arguments = (*ARGUMENTS, "--cluster", f"ray:{address}")
        self.kills = {**OF_THE_DRIVER, **dict(zip(self.survived, (self._lose_node, self._kill_worker), strict=True))}
        self._process, self._seen = process, set[psutil.Process]()

    def _running(self) -> list[psutil.Process]:
        """Processes of the cluster, the newest last."""
        found = psutil.Process(self._process.pid).children(recursive=True)
        self._seen |= set(found)
        return sorted(found, key=lambda one: one.create_time())

    def _lose_node(self, command: Command) -> None:
        assert self._process.stdin and self._process.stdout
        self._running()
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the Ray cluster has ended")

    def possible(self, command: Command) -> list[str]:
        """All, if a worker of Ray's has a job."""
        return [name for name in self.kills if name != self.survived[1] or self._at_work()]

    def _at_work(self) -> list[psutil.Process]:
        return [one for one in self._running() if job_of(one)]

    def _kill_worker(self, command: Command) -> None:
        for one in self._at_work()[-1:]:
            one.kill()

    def end(self) -> None:
        """End the cluster.

        Raises:
            RuntimeError: something of it lives on.
        """
        self._running()
        self._process.communicate(timeout=DEADLINE_S)
        until = time.monotonic() + SETTLING_S
        while (left := [one for one in self._seen if _alive(one)]) and time.monotonic() < until:
            time.sleep(0.1)
        if left:
            raise RuntimeError(f"left behind by the cluster: {', '.join(' '.join(one.cmdline()) for one in left)}")


def _alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


@contextmanager
def ray_cluster() -> Iterator[Machines]:
    """A head without a core, and nodes with one each, while the context lasts."""
    command = [sys.executable, "-c", NODES, str(WORKERS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        machines = Ray(process, process.stdout.readline().strip())
        yield machines
        machines.end()
    finally:
        process.kill()


def ray_absent() -> str:
    """Why there are no Ray clusters here; "" if there can be some."""
    return "" if importlib.util.find_spec("ray") else "Ray is not installed: python -m pip install 'sail-bench[ray]'"
