"""A job as a JSON file, for workers on other machines: written by ``compare --cluster``, or by hand in a few lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import UserError
from harness.recipe.load import load_recipe
from harness.run.job import ALL, FIRST, SHARED, TRIAL, Event, Job
from harness.run.plan import make_runs
from harness.run.trackers.messages import LoggedRow
from harness.store.environment import library_versions
from harness.store.json_files import write_json
from harness.store.stages import Store
from harness.store.versions import VERSIONS

SHORT = {"recipe", "method", "seed", "budget", "benchmarks", "methods", "part", "store"}
"""Keys of a job that is written by hand."""

TUPLES = ("benchmarks", "rows")


def code_versions() -> dict[str, str]:
    """What driver and worker must share: this package, the behaviour behind each kind of stage, and the libraries.

    What follows a plus (``2.13.0+cpu``) is the device that a library is built for, and may differ.
    """
    stages = ", ".join(f"{name} {number}" for name, number in sorted(VERSIONS.items()))
    libraries = {name: version.partition("+")[0] for name, version in library_versions().items()}
    return {"sail-bench": __version__, "stages": stages, **libraries}


def difference(driver: Mapping[str, Any], worker: Mapping[str, Any]) -> str | None:
    """How the versions of driver and worker differ, in words; None if they are the same."""
    names = [name for name in {**worker, **driver} if driver.get(name) != worker.get(name)]
    if not names:
        return None
    one, other = (", ".join(f"{n} {side.get(n, 'absent')}" for n in names) for side in (driver, worker))
    return f"the driver has {one}, and the worker has {other}: install the same versions on both"


def dump_job(job: Job) -> dict[str, Any]:
    """A job as JSON values, with the versions of the driver. It holds no API key."""
    return {"versions": code_versions(), "job": asdict(job)}


def load_job(value: Any, source: str) -> Job:
    """A job from its JSON form, whole or short.

    Args:
        value: as :func:`dump_job` makes it; or the short form, whose keys are :data:`SHORT`.
        source: names it in errors.

    Raises:
        UserError: it is no job, or the driver has other versions.
    """
    if not isinstance(value, dict):
        raise UserError(f"{source} is no job: give a JSON object as docs/clusters.md shows it")
    if "job" not in value:
        return _short(value, source)
    if words := difference(value.get("versions") or {}, code_versions()):
        raise UserError(f"{source}: {words}")
    names, given = {field.name for field in fields(Job)}, value["job"]
    if not isinstance(given, dict) or set(given) != names:
        raise UserError(f"{source} is no job of this version: let `sail-bench compare --cluster` write it again")
    if not Path(given["store"]).is_dir():
        raise UserError(
            f"{source}: the store {given['store']} is not there: put --store on a disk that all machines share"
        )
    entries: dict[str, Any] = {name: tuple(entry) if name in TUPLES else entry for name, entry in given.items()}
    return Job(**entries)


def _short(value: dict[str, Any], source: str) -> Job:
    """The job that a person described by a recipe, a method and a seed."""
    extra, lacking = sorted(set(value) - SHORT), sorted({"recipe", "method"} - set(value))
    if extra or lacking:
        wrong = f"does not know {', '.join(extra)}" if extra else f"lacks {', '.join(lacking)}"
        raise UserError(f"{source} {wrong}: the keys of a job are {', '.join(sorted(SHORT))}")
    recipe, method, seed, part = load_recipe(value["recipe"]), value["method"], value.get("seed", 0), _part(value)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"{source}: seed must be a whole number from 0")
    if part is None:
        raise UserError(f"{source}: part must be {ALL}, {FIRST}, {SHARED} or {TRIAL}K with the number of a trial")
    names = list(dict.fromkeys([*value.get("methods", recipe.methods), method]))
    benchmarks = list(value.get("benchmarks", recipe.benchmarks))
    store = Store(Path(value.get("store", ".sail-bench")))
    plans = make_runs(recipe, value.get("budget", recipe.budget), names, seed + 1, benchmarks, store)
    plan = next((plan for plan in plans if (plan.name, plan.seed) == (method, seed)), None)
    if plan is None:
        raise UserError(f"{source}: {method} does not train, so that it has seed 0 alone: set seed to 0")
    if part.startswith(TRIAL) and int(part.removeprefix(TRIAL)) >= len(plan.trials):
        raise UserError(f"{source}: the search of {method} has {len(plan.trials)} trials: lower the number in {part}")
    return Job.of(plan, part)


def _part(value: dict[str, Any]) -> str | None:
    """The part of a run that is asked for; None if there is none of that name."""
    part = value.get("part", ALL)
    if part in (ALL, FIRST, SHARED):
        return str(part)
    return part if isinstance(part, str) and part.removeprefix(TRIAL).isdecimal() and part.startswith(TRIAL) else None


def read_job(path: Path) -> Job:
    """The job in a file.

    Raises:
        UserError: the file cannot be read, is no job, or was written by other versions.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give the file of a job") from None
    except ValueError:
        raise UserError(f"{path} is no JSON: give the file of a job as docs/clusters.md shows it") from None
    return load_job(value, str(path))


def write_job(path: Path, job: Job) -> None:
    """Write a job atomically."""
    write_json(path, dump_job(job))


def load_event(kind: str, value: Any) -> Event:
    """An event that was written as JSON."""
    return Event(kind, LoggedRow(*value) if kind == "logged" else value)
