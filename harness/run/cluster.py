"""Where the jobs of a comparison are worked on: this machine, a Ray cluster, or what a scheduler starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.run.comparison import Comparison
from harness.run.devices import workers_of
from harness.run.job_folder import FolderPool
from harness.run.pool import LocalPool, Pool
from harness.run.target import ThisMachine


class Cluster(NamedTuple):
    """What ``--cluster`` names: ``ray`` with its address ("" for the one at hand), or ``jobs`` with a folder."""

    kind: str
    where: str = ""


def cluster_of(text: str | None) -> Cluster | None:
    """The cluster that ``--cluster`` names; None for this machine.

    Args:
        text: ``ray``, ``ray:ADDRESS`` or ``jobs:FOLDER``.

    Raises:
        UserError: it names none.
    """
    if text is None:
        return None
    kind, _, where = text.partition(":")
    if kind == "ray" or (kind == "jobs" and where):
        return Cluster(kind, where)
    raise UserError(f"--cluster {text} names no cluster: give ray, ray:ADDRESS or jobs:FOLDER, or leave it out")


def open_pool(cluster: Cluster | None, request: str, comparison: Comparison, machine: ThisMachine) -> Pool:
    """The pool that works on a comparison's jobs.

    Args:
        cluster: that it is on; None for this machine.
        request: what ``--workers`` says: on a cluster, how many jobs work at once at most.
        comparison: whose budget decides what is fair.
        machine: this one, whose memory limits ``auto``.

    Raises:
        UserError: a number of workers that cannot be, a budget of seconds on a cluster, or no such cluster.
    """
    axis = comparison.budget.axis
    if cluster is None:
        return LocalPool(workers_of(request, axis, machine.fits))
    if axis == "seconds":
        raise UserError(
            "This budget counts seconds, and the machines of a cluster differ: leave --cluster out, or take another "
            "budget"
        )
    if request != "auto" and (not request.isdecimal() or int(request) < 1):
        raise UserError(f"--workers {request} is no number of workers: give auto, or 1 or more")
    count = None if request == "auto" else int(request)
    if cluster.kind == "ray":
        raise UserError("--cluster ray is not there yet: give jobs:FOLDER")
    return FolderPool(Path(cluster.where), count)
