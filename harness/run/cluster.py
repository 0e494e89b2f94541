"""Where the jobs of a comparison are worked on: this machine, a Ray cluster, or what a scheduler starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.recipe.recipe import Recipe
from harness.run.comparison import Comparison
from harness.run.devices import workers_of
from harness.run.job_folder import FolderPool
from harness.run.pool import LocalPool, Pool
from harness.run.ray_pool import Needs, RayPool
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
        workers = workers_of(request, axis, machine.fits, comparison.recipe.train.processes)
        machine.check_engines(workers.count)
        return LocalPool(workers)
    if axis == "seconds":
        raise UserError(
            "This budget counts seconds, and the machines of a cluster differ: leave --cluster out, or take another "
            "budget"
        )
    if request != "auto" and (not request.isdecimal() or int(request) < 1):
        raise UserError(f"--workers {request} is no number of workers: give auto, or 1 or more")
    count = None if request == "auto" else int(request)
    if cluster.kind == "ray":
        recipe, store = comparison.recipe, comparison.store.root.resolve()
        needs = Needs(machine.memory, key_variables(recipe, os.environ), store, recipe.train.processes)
        return RayPool(cluster.where, count, needs)
    return FolderPool(Path(cluster.where), count)


def key_variables(recipe: Recipe, environment: Mapping[str, str]) -> list[str]:
    """Names of the variables with keys that a recipe's endpoints use, of those that are set here.

    Args:
        recipe: of the comparison.
        environment: of the driver.
    """

    def names(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            for key, entry in value.items():
                if key == "api_key_env" and isinstance(entry, str):
                    yield entry
                yield from names(entry)
        elif isinstance(value, list):
            for entry in value:
                yield from names(entry)

    return sorted({name for name in names(recipe.model_dump(mode="json")) if environment.get(name)})
