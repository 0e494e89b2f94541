"""Jobs as tasks of a Ray cluster. Every node has this package installed, sees the store, and has the keys in its own
environment: a task is given names of variables, never their values."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.errors import MissingPackageError, UserError
from harness.run.job import Event, Job
from harness.run.job_file import code_versions, difference, dump_job, load_event
from harness.run.pool import RETRIES, Happening, Pool, Ticket

PROBE_S = 10.0
"""Seconds in which an address has to answer."""

LOOK_S = 60.0
"""When no event came for so long, the driver looks whether any node is left."""

STARTED_HERE = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
"""Of a Ray that is started on this machine: events are small, and nothing else is handed over."""


@dataclass
class _Task:
    """A job under way; ``events``: the generator of its task; ``attempt``: from 0."""

    ticket: Ticket
    events: Any
    attempt: int = 0


@dataclass(frozen=True)
class Needs:
    """What a job needs of a node.

    Attributes:
        memory: bytes; None if that is not known.
        variables: names of environment variables with keys.
        store: folder that every node must see.
        processes: in which a run trains, each with a GPU or a core of the same node.
    """

    memory: int | None
    variables: Sequence[str]
    store: Path
    processes: int = 1


def _work(dumped: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Body of a task: the events of a job, which has a process of its own."""
    from harness.run.job_file import load_job
    from harness.run.worker import stream

    for event in stream(load_job(dumped, "the job of this task")):
        yield (event.kind, event.value)


def _look(variables: Sequence[str], probe: str) -> dict[str, Any]:
    """What a node says of itself: versions, names of keys that it lacks, whether it sees a file of the store."""
    absent = [name for name in variables if not os.environ.get(name)]
    return {"versions": code_versions(), "absent": absent, "store": Path(probe).is_file()}


class RayPool(Pool):
    """Tasks of a Ray cluster, a GPU each where it has some, else a core.

    Args:
        address: of the cluster; "" for ``RAY_ADDRESS``, the one on this machine, or one that is started for this
            command.
        count: tasks at once, at most; None for as many as the cluster has room for.
        needs: of each job.

    Raises:
        UserError: no such cluster, or a node that cannot work on the jobs.
    """

    sharing = 1

    def __init__(self, address: str, count: int | None, needs: Needs) -> None:
        self._ray = _connect(address)
        self._limit, self._needs = count, needs
        self._running: dict[int, _Task] = {}
        self._submitted = 0
        self._gpu = bool(self._ray.cluster_resources().get("GPU"))
        self._task = self._ray.remote(max_retries=0, num_returns="streaming")(_work)
        self._warned = False
        self.count = count or max(1, self._slots())

    def __enter__(self) -> RayPool:
        probe = self._needs.store / f".probe-{secrets.token_hex(4)}"
        probe.touch()
        try:
            self._check_nodes(probe)
        except BaseException:
            self._ray.shutdown()
            raise
        finally:
            probe.unlink(missing_ok=True)
        return self

    def _slots(self) -> int:
        """Jobs that the cluster has room for, as it is now: nodes come and go. Some may wait for memory."""
        kind = "GPU" if self._gpu else "CPU"
        return sum(int(node["Resources"].get(kind, 0)) // self._needs.processes for node in self._nodes())

    def _nodes(self) -> list[dict[str, Any]]:
        """What Ray says of each node that is there."""
        return [node for node in self._ray.nodes() if node["Alive"]]

    @property
    def room(self) -> int:
        """How many more jobs could begin now; one at least is always under way, so that it waits for a node."""
        return max(0, (self._limit or max(1, self._slots())) - len(self._running))

    def submit(self, job: Job) -> Ticket:
        """Hand a job to the cluster.

        Args:
            job: what is to be done.
        """
        ticket = Ticket(job, self._submitted)
        self._submitted += 1
        self._running[ticket.number] = _Task(ticket, self._start(job))
        return ticket

    def _start(self, job: Job) -> Any:
        """The generator of a new task: with a GPU its share of the cores too, without one a core and the memory."""
        nodes = [node["Resources"] for node in self._nodes()]
        gpus = job.processes
        options: dict[str, Any] = {"num_cpus": gpus, "name": f"{job.method}-{job.part}"}
        if self._gpu:
            cores = [int(node.get("CPU", 0) // node["GPU"]) for node in nodes if node.get("GPU")]
            options |= {"num_gpus": gpus, "num_cpus": max(1, gpus * min(cores, default=1))}
        elif self._needs.memory:
            largest = max((int(node.get("memory", 0)) for node in nodes if node.get("CPU")), default=0)
            options["memory"] = min(self._needs.memory, largest)  # a task that no node can hold would wait forever
        return self._task.options(**options).remote(dump_job(job))

    def events(self) -> Iterator[Happening]:
        """Events as they come, until no task is under way. Jobs may be submitted in between."""
        while self._running:
            by_generator = {task.events: task for task in self._running.values()}
            ready, _ = self._ray.wait(list(by_generator), num_returns=1, timeout=LOOK_S, fetch_local=False)
            for generator in ready:
                task = by_generator[generator]
                happening = Happening(task.ticket, self._next(task))
                if happening.last:
                    del self._running[task.ticket.number]
                yield happening
            if not ready and not self._slots() and not self._warned:
                self._warned = True
                words = "no node that can work is left in the Ray cluster: the job waits until one joins"
                yield Happening(next(iter(self._running.values())).ticket, Event("say", words))

    def _next(self, task: _Task) -> Event:
        """The next event of a task. One whose node or process is lost begins again."""
        try:
            return load_event(*self._ray.get(next(task.events)))
        except StopIteration:
            return Event("failed", "its task ended without a result")
        except self._ray.exceptions.RayTaskError as error:
            return Event("failed", _first_line(error.cause or error))
        except self._ray.exceptions.RuntimeEnvSetupError as error:
            return Event("failed", _first_line(error))
        except self._ray.exceptions.RayError as error:
            if task.attempt == RETRIES:
                return Event("failed", f"{_lost(error)}, the {RETRIES + 1}th time")
            task.attempt += 1
            task.events = self._start(task.ticket.job)
            return Event("say", f"{_lost(error)}: the job begins again from its last checkpoint")

    def _check_nodes(self, probe: Path) -> None:
        """Ask each node whether it can work on the jobs.

        Args:
            probe: a new file of the store.

        Raises:
            UserError: one cannot; it is named.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self._ray.remote(num_cpus=0, max_retries=0)(_look)
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in self._nodes()}
        for node, address in nodes.items():
            only = NodeAffinitySchedulingStrategy(node, soft=False)
            asked = look.options(scheduling_strategy=only)
            answer = self._answer(partial(asked.remote, list(self._needs.variables), str(probe)), node, address)
            if answer is None:
                continue
            if words := difference(code_versions(), answer["versions"]):
                raise UserError(f"The Ray node {address}: {words}")
            if answer["absent"]:
                names = ", ".join(answer["absent"])
                raise UserError(f"The Ray node {address} lacks {names}: set it there before `ray start`")
            if not answer["store"]:
                raise UserError(
                    f"The Ray node {address} does not see {self._needs.store}: put --store on a shared disk"
                )

    def _answer(self, ask: Callable[[], Any], node: str, address: str) -> dict[str, Any] | None:
        """What a node says of itself; None if it has left the cluster meanwhile.

        Args:
            ask: begins the task; it begins again if its process is lost.
            node: its ID.
            address: of it.

        Raises:
            UserError: our code does not run there.
        """
        lost, tries = self._ray.exceptions, 0
        while True:
            try:
                answer: dict[str, Any] = self._ray.get(ask(), timeout=300)
                return answer
            except (lost.TaskUnschedulableError, lost.NodeDiedError):
                return None
            except lost.RayError as error:
                tries += 1
                if tries <= RETRIES and isinstance(error, lost.WorkerCrashedError):
                    continue
                reason = _first_line(getattr(error, "cause", None) or error)
            if node not in {one["NodeID"] for one in self._nodes()}:
                return None
            raise UserError(
                f"The Ray node {address} cannot work for SAIL-bench ({reason}): install the same version on each node"
            )

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for task in self._running.values():
            with suppress(Exception):
                self._ray.cancel(task.events, force=True)
        self._running.clear()
        self._ray.shutdown()


def _connect(address: str) -> Any:
    """Ray, connected to a cluster.

    Raises:
        MissingPackageError: Ray is not installed.
        UserError: there is no cluster at the address.
    """
    try:
        import ray
    except ImportError:
        raise MissingPackageError(
            "--cluster ray needs Ray: install it on each machine with python -m pip install 'sail-bench[ray]'"
        ) from None
    if address.startswith("ray://"):
        raise UserError(
            f"--cluster ray:{address} is for Ray's client: give HOST:6379, on a machine that is part of the cluster"
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if reason := _unreachable(address or os.environ.get("RAY_ADDRESS", "")):
        raise _no_cluster(address or os.environ["RAY_ADDRESS"], reason)
    before = signal.getsignal(signal.SIGTERM)  # Ray puts one of its own in its place
    named = address or os.environ.get("RAY_ADDRESS")
    _quiet()
    try:
        try:
            if not named and _unreachable(_recorded()):
                raise ConnectionError
            ray.init(address=named or "auto", **quiet)
        except ConnectionError:
            if named:
                raise
            # its own: Ray would write one into the home folder, and later clusters would ask for that
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            ray.init(address="local", **STARTED_HERE, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = _first_line(error)
        if not named:
            raise _no_cluster("this machine", reason) from None
        raise UserError(
            f"The Ray cluster at {named} does not let this command in ({reason}): if it asks for a token, set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to that token; else a part of it has died: start it again"
        ) from None
    finally:
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)
    return ray


def _recorded() -> str:
    """Where Ray's record says that this machine has a cluster; "" without one. It stays when the cluster is killed."""
    with suppress(OSError):
        return (Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster").read_text().strip()
    return ""


def _unreachable(address: str) -> str:
    """Why nothing answers at an address, such as ``HOST:6379``; "" if something does. Ray itself asks for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_S):
            return ""
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)


def _no_cluster(address: str, reason: str) -> UserError:
    return UserError(f"There is no Ray cluster at {address} ({reason}): start it with `ray start`")


def _lost(error: BaseException) -> str:
    """What was lost, in words: the node by its address, or a process by what Ray calls the loss."""
    node = re.search(r"Node IP: ([^\s,]+)", str(error))
    return f"the node {node[1]} was lost" if node else f"the worker was lost ({type(error).__name__})"


def _quiet() -> None:
    """Keep Ray from printing what happens to its nodes on the standard output, which no option of it does."""
    module = sys.modules.get("ray._private.worker")
    if hasattr(module, "print_to_stdstream"):
        setattr(module, "print_to_stdstream", lambda *given, **named: None)  # noqa: B010 - mypy does not know it


def _first_line(error: BaseException) -> str:
    """What an error says, in one line, with its kind."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text.partition('. ')[0]}" if text else type(error).__name__
