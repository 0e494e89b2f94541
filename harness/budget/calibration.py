"""How far the formulas' predictions were off for earlier runs on this machine (``calibration.json`` in the store)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.budget.flops import Linear, Shape
from harness.budget.forecast import Corrections, Forecast
from harness.budget.ledger import AXES, Ledger
from harness.store.json_files import digest
from harness.store.leases import LEASE, leased
from harness.store.notices import notify
from harness.store.sealed import read_sealed, write_sealed


class Calibration:
    """Rates of this machine, and ratios of spent to predicted by method, as earlier runs measured them.

    They lie in a file of the store, by machine and setting (start policy, pairs, training); losing it costs only the
    accuracy of predictions.
    """

    def __init__(self, root: Path, machine: Mapping[str, Any]) -> None:
        self.path = root / "calibration.json"
        named = {k: machine[k] for k in ("system", "machine", "cores") if k in machine}
        gpu = machine.get("gpu")
        self.machine = digest(named | ({"gpu": [gpu["name"], gpu["count"], gpu["driver_version"]]} if gpu else {}))
        self._all: dict[str, Any] = self._read()

    def _read(self) -> dict[str, Any]:
        """All that was measured; nothing, with a sentence, if the file and its copy are damaged."""
        measured = read_sealed(self.path)
        if measured is None and self.path.exists():
            notify(f"{self.path} is damaged: predictions begin without what earlier runs measured")
        return measured or {}

    def corrections(self, setting: str, method: str) -> Corrections:
        """Rates of this machine in a setting (start policy, pairs, training), and ratios of a method in it."""
        of_setting = self._all.get(self.machine, {}).get(setting, {})
        return Corrections(of_setting.get("rates", {}), of_setting.get("methods", {}).get(method, {}))

    def shape(self, setting: str) -> Shape | None:
        """The model's shape in training, if a run has seen it."""
        raw = self._all.get(self.machine, {}).get(setting, {}).get("shape")
        if raw is None:
            return None
        return Shape(**(raw | {"linears": tuple(Linear(**row) for row in raw["linears"])}))

    def record(
        self,
        setting: str,
        method: str,
        shape: Shape,
        ledger: Ledger,
        uncorrected: Callable[[Corrections], Forecast],
    ) -> None:
        """Keep how far a finished training was from its forecast, as a mean over runs. What other processes recorded
        since is kept.

        Args:
            setting: start policy, pairs and training, as a key.
            method: name of its row.
            shape: of the model in training.
            ledger: what it spent.
            uncorrected: its forecast, given nothing but this machine's rates.
        """
        locks = self.path.parent / "locks"
        with leased(locks / f"calibration{LEASE}", locks):
            self._all = self._read()
            steps = ledger.get("train", "steps")
            of_setting = self._all.setdefault(self.machine, {}).setdefault(setting, {})
            of_setting["shape"] = asdict(shape)
            rates = of_setting.setdefault("rates", {})
            for phase in ("train", "reference", "generate"):
                spent, seconds = ledger.flops(phase), ledger.get(phase, "seconds")
                if seconds > 0 and spent > 0:
                    rates[phase] = spent / seconds
            predicted = uncorrected(Corrections(rates)).step
            methods = of_setting.setdefault("methods", {})
            before = methods.get(method, {})
            runs = before.get("runs", 0) + 1
            ratios: dict[str, float] = {"runs": runs}
            own = Ledger({phase: row for phase, row in ledger.entries.items() if phase != "data"})
            for axis in AXES:
                spent = own.spent(axis) / steps
                if predicted.get(axis) and spent:
                    new = spent / predicted[axis]
                    kept = before.get(axis, new) if axis != "seconds" else new  # speed is today's, not a mean over days
                    ratios[axis] = kept + (new - kept) / runs
            methods[method] = ratios
            write_sealed(self.path, self._all)
