"""What earlier runs on this machine spent beside what the formulas predict (``calibration.json`` in the store)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.budget.flops import Linear, Shape
from harness.budget.forecast import Forecast
from harness.budget.ledger import AXES, Ledger
from harness.store.json_files import digest, read_json, write_json


class Calibration:
    """What earlier runs on this machine spent beside what the formulas say. A file in the store; losing it costs only
    the accuracy of predictions."""

    def __init__(self, root: Path, machine: Mapping[str, Any]) -> None:
        self.path = root / "calibration.json"
        self.machine = digest({k: machine[k] for k in ("system", "machine", "cores") if k in machine})
        self._all: dict[str, Any] = read_json(self.path) if self.path.is_file() else {}

    def known(self, setting: str, method: str) -> dict[str, Any]:
        """Rates of this machine for a setting (start policy, pairs, training), and ratios of a method in it."""
        here = self._all.get(self.machine, {}).get(setting, {})
        return {"rates": here.get("rates", {}), "ratios": here.get("methods", {}).get(method, {})}

    def shape(self, setting: str) -> Shape | None:
        """The model's shape in training, if a run has seen it."""
        raw = self._all.get(self.machine, {}).get(setting, {}).get("shape")
        if raw is None:
            return None
        return Shape(**(raw | {"linears": tuple(Linear(**row) for row in raw["linears"])}))

    def learn(
        self,
        setting: str,
        method: str,
        shape: Shape,
        ledger: Ledger,
        plain: Callable[[Mapping[str, Any]], Forecast],
    ) -> None:
        """Keep what a finished training spent, as a mean over runs; ``plain``: the forecast given nothing but this
        machine's rates."""
        steps = ledger.get("train", "steps")
        here = self._all.setdefault(self.machine, {}).setdefault(setting, {})
        here["shape"] = asdict(shape)
        rates = here.setdefault("rates", {})
        for phase in ("train", "reference", "generate"):
            spent, seconds = ledger.flops(phase), ledger.get(phase, "seconds")
            if seconds > 0 and spent > 0:
                rates[phase] = spent / seconds
        predicted = plain({"rates": rates}).step
        methods = here.setdefault("methods", {})
        before = methods.get(method, {})
        runs = before.get("runs", 0) + 1
        ratios: dict[str, float] = {"runs": runs}
        own = Ledger({phase: row for phase, row in ledger.entries.items() if phase != "data"})
        for axis in AXES:
            spent = own.spent(axis) / steps
            if predicted.get(axis) and spent:
                new = spent / predicted[axis]
                kept = before.get(axis, new) if axis != "seconds" else new  # what a machine does now counts
                ratios[axis] = kept + (new - kept) / runs
        methods[method] = ratios
        write_json(self.path, self._all)
