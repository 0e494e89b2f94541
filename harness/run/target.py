"""The machine that a prediction is for, and the configuration of the model: all that ``plan`` needs of the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.answer.adapter import find_adapter
from harness.budget.calibration import Calibration
from harness.budget.machines import Machine, machine_at_hand, machine_named
from harness.errors import AbsentError, UserError, error_of
from harness.methods.endpoint import Remote
from harness.recipe.recipe import Recipe
from harness.run.devices import usable_cores, visible_devices, workers_on_cpu
from harness.run.estimate import estimate
from harness.run.outline import crowded_engines, fits_memory, memory_need, outline_of_plans
from harness.run.plan import RunPlan
from harness.run.spending import KNOWN_CONFIGS, local_base, local_config
from harness.store import hub
from harness.store.environment import environment, gpus


def target_machine(name: str) -> Machine:
    """The machine that ``--machine`` names.

    Args:
        name: of a device, perhaps with a number, or ``this``.

    Raises:
        UserError: no such device.
    """
    if name == "this":
        return machine_at_hand(gpus(), visible_devices(), usable_cores())
    machine = machine_named(name, usable_cores())
    return replace(machine, here=machine.here and not gpus())


def target_workers(machine: Machine, request: str, axis: str, fits: Callable[[int], bool], processes: int = 1) -> int:
    """Runs side by side on a machine.

    Args:
        machine: that they run on.
        request: what ``--workers`` says: ``auto`` is one a GPU, and on a CPU as :func:`workers_on_cpu` says.
        axis: of the budget.
        fits: whether so many runs fit into memory.
        processes: in which each run trains.

    Raises:
        UserError: no number, or too few GPUs.
    """
    if machine.device.gpu and machine.count < processes:
        raise UserError(
            f"train.processes: {processes} needs as many GPUs, and --machine has {machine.count}: lower it, or name "
            "more, as in h100x8"
        )
    if request == "auto":
        if machine.device.gpu:
            return machine.count // processes
        return workers_on_cpu(axis, max(1, usable_cores() // processes), fits)
    if not request.isdecimal() or int(request) < 1:
        raise UserError(f"--workers {request} is no number of workers: give auto, or 1 or more")
    return int(request)


class ConfigRead(NamedTuple):
    """A model's ``config.json``, or the reason why there is none."""

    config: dict[str, Any] | None
    reason: str = ""


def model_config(recipe: Recipe, start: Path | None) -> ConfigRead:
    """The ``config.json`` of a recipe's model, from this machine or the Hub; of an adapter, that of its base.

    Args:
        recipe: names the model.
        start: folder of the start policy in the store, which may not be there yet.
    """
    local = local_config(recipe.model, start)
    if local is not None:
        return ConfigRead(local)
    name = local_base(recipe.model)
    try:
        return ConfigRead(_of_hub(name))
    except AbsentError as error:
        return ConfigRead(None, f"{error}.")


def _of_hub(model: str) -> dict[str, Any]:
    """The ``config.json`` of a model on the Hub; of an adapter there, that of its base.

    Raises:
        AbsentError: it cannot be had.
    """
    name, _, revision = model.partition("@")
    try:
        return hub.model_config(name, revision or None)
    except AbsentError:
        adapter = None
        with suppress(OSError):  # no name of the Hub's
            adapter = find_adapter(model)
        if adapter is None or adapter.base is None:
            raise
        return KNOWN_CONFIGS.get(adapter.base.partition("@")[0]) or _of_hub(adapter.base)


class ThisMachine:
    """Whether runs are predicted to fit into this machine's memory, and how long they will take. The Hub is not asked.

    Args:
        plans: of the comparison.
    """

    def __init__(self, plans: Sequence[RunPlan]) -> None:
        comparison = plans[0].comparison
        config = local_config(comparison.recipe.model, comparison.store.path(comparison.facts.start.stage))
        calibration = Calibration(comparison.store.root, environment())
        self._outline = outline_of_plans(plans, config, lambda name: calibration.corrections(comparison.setting, name))
        self._machine = target_machine("this")

    def warning(self, workers: int) -> str | None:
        """A sentence if so many runs side by side need more than there is."""
        return memory_need(self._outline, self._machine, workers).shortage

    def check_engines(self, workers: int) -> None:
        """Refuse so many runs side by side if their engines cannot share the GPUs.

        Raises:
            UserError: they cannot.
        """
        if problem := crowded_engines(self._outline.recipe, self._machine, workers):
            raise error_of([problem])

    def seconds(self, workers: int) -> float | None:
        """How long so many runs side by side will take to do what is open; None if that is not known."""
        return estimate(self._outline, self._machine, workers, None).wall

    def tells_all(self, workers: int) -> bool:
        """Whether nothing is missing in these seconds: no endpoint is asked, and all work can be counted."""
        predicted = estimate(self._outline, self._machine, workers, None)
        remote = any(isinstance(row.method, Remote) for row in self._outline.rows)
        return not (predicted.unsaid or any(predicted.calls.values()) or remote)

    def fits(self, workers: int) -> bool:
        """Whether so many runs surely fit: an unknown model does not."""
        return fits_memory(self._outline, self._machine, workers)

    @property
    def memory(self) -> int | None:
        """Bytes of main memory that a run needs on a CPU; None if that is not known."""
        peaks = [] if self._machine.device.gpu else memory_need(self._outline, self._machine, 1).peaks
        return int(peaks[0].total) if peaks else None
