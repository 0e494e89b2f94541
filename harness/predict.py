"""What a run will spend, before it runs: formulas for floating-point operations and tokens, corrected by what earlier
runs on this machine spent (``calibration.json`` in the store)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.flops import Linear, Shape, backward, forward, head, head_backward
from harness.ledger import AXES, Ledger
from harness.store import digest, read_json, write_json

if TYPE_CHECKING:
    from harness.budget import Budget

SIMULATED, MOST_STEPS = 4096, 10**7


@dataclass(frozen=True)
class Spending:
    """What one trained pair costs in expectation.

    ``rows`` through the training forward; ``stored`` pairs of the data set; responses ``sampled`` and ``labelled`` in
    training; rows through a forward without gradient (``reference``).
    """

    rows: float = 2
    stored: float = 1
    sampled: float = 0
    labelled: float = 0
    reference: float = 0


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a prompt and of a response, and of a training batch's rows with their padding."""

    prompt: float
    response: float
    padded: float

    @classmethod
    def of(cls, pairs: Sequence[Mapping[str, Any]], batch: int, max_length: int) -> Lengths:
        """Of stored pairs, in batches of ``batch`` pairs drawn at random."""
        drawn = random.Random(0)
        part = pairs if len(pairs) <= SIMULATED else drawn.sample(list(pairs), SIMULATED)
        rows = [
            [min(max_length, len(p["prompt_ids"]) + len(p[s])) for s in ("chosen_ids", "rejected_ids")] for p in part
        ]
        longest = [max(row) for row in rows]
        widths = [max(drawn.sample(longest, min(batch, len(longest)))) for _ in range(256)]
        prompt = sum(len(p["prompt_ids"]) for p in part) / len(part)
        total = sum(map(sum, rows)) / len(rows) / 2
        return cls(prompt, total - prompt, sum(widths) / len(widths))


@dataclass(frozen=True)
class Forecast:
    """Spending of a run: ``step``, of an optimiser step by axis; ``pair``, of a stored pair at its first use; how many
    stored pairs a step uses, and how many there are."""

    step: Mapping[str, float]
    pair: Mapping[str, float]
    stored: float
    pairs: int

    def total(self, steps: float, axis: str) -> float:
        """Spending of so many steps on an axis."""
        bought = min(self.pairs, self.stored * steps)
        return steps * self.step.get(axis, 0.0) + bought * self.pair.get(axis, 0.0)

    def knows(self, budget: Budget) -> bool:
        """Whether every limited axis is predicted (not: operations without a shape, seconds without a rate)."""
        return all(axis in self.step for axis in (budget.axis, *budget.caps))

    def steps(self, budget: Budget) -> int:
        """Steps until the budget is spent: the first boundary that reaches a limit, or the end of the pass in which the
        matched axis stands still."""

        def enough(steps: int) -> bool:
            limits = {budget.axis: budget.limit} | budget.caps
            return any(self.total(steps, axis) >= limit for axis, limit in limits.items())

        low, high = 1, MOST_STEPS
        if not enough(high):
            return max(1, 2 * round(self.pairs / max(1e-9, self.step["pairs"])))
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
        return low


def phases(shape: Shape, spending: Spending, lengths: Lengths, pairs: int) -> dict[str, float]:
    """Floating-point operations of a step by phase, the stored pairs left out.

    Args:
        pairs: pairs a step.
    """
    rows, padded = spending.rows * pairs, max(1, round(lengths.padded))
    scored = round(rows * lengths.response)
    train = rows * (forward(shape, 1, padded) + backward(shape, 1, padded))
    train += head(shape, scored) + head_backward(shape, scored, fused=True)
    plain = replace(shape, linears=tuple(replace(n, rank=0) for n in shape.linears))
    again = spending.reference * pairs
    reference = again * forward(plain, 1, padded) + head(shape, round(again * lengths.response))
    sampled = spending.sampled * pairs
    cached = lengths.prompt + lengths.response / 2
    prefill = sampled / 2 * forward(shape, 1, max(1, round(lengths.prompt) - 1))
    decode = sampled * lengths.response * (forward(shape, 1, 1, round(cached)) + head(shape, 1))
    return {"train": train, "reference": reference, "generate": prefill + decode}


def forecast(
    shape: Shape | None,
    spending: Spending,
    lengths: Lengths,
    pairs_per_step: int,
    stored: int,
    price: Mapping[str, float],
    known: Mapping[str, Any],
) -> Forecast:
    """Predicted spending of a method.

    Args:
        stored: number of stored pairs. price: of one, by quantity, as in the ledger.
        known: what :class:`Calibration` has learned of this method (``rates`` in operations a second by phase,
            ``ratios`` by axis).
    """
    n = pairs_per_step
    step: dict[str, float] = {
        "steps": 1,
        "pairs": n,
        "train_tokens": spending.rows * n * (lengths.prompt + lengths.response),
        "generated_tokens": spending.sampled * n * lengths.response,
        "oracle_calls": spending.labelled * n,
    }
    if shape is not None:
        computed = phases(shape, spending, lengths, n)
        step["flops"] = sum(computed.values())
        rates = known.get("rates", {})
        default = rates.get("train")
        if default:
            step["seconds"] = sum(v / rates.get(phase, default) for phase, v in computed.items())
    ratios = known.get("ratios", {})
    step = {axis: value * ratios.get(axis, 1.0) for axis, value in step.items()}
    flops = sum(v for q, v in price.items() if q.endswith("_flops"))
    pair = {
        "generated_tokens": price.get("generated", 0.0),
        "oracle_calls": price.get("calls", 0.0),
        "flops": flops,
        "seconds": price.get("seconds", 0.0),
    }
    return Forecast(step, pair, spending.stored * n, stored)


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


def shape_of_config(config: Mapping[str, Any], lora_layers: int | None, rank: int) -> Shape:
    """The shape of a Llama-like model from its ``config.json``, before anything is loaded.

    Args:
        lora_layers: top blocks that get an adapter of this ``rank`` (0: all); None trains all weights.
    """
    hidden, layers, heads = (int(config[k]) for k in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    dim = int(config.get("head_dim") or hidden // heads)
    narrow = dim * int(config.get("num_key_value_heads") or heads)
    inner = int(config["intermediate_size"])
    sizes = [(hidden, dim * heads, True), (hidden, narrow, True), (hidden, narrow, True), (dim * heads, hidden, False)]
    sizes += [(hidden, inner, False), (hidden, inner, False), (inner, hidden, False)]
    full = lora_layers is None
    bottom = 0 if full or not lora_layers else max(0, layers - lora_layers)
    linears = [
        Linear(block, a, b, full, rank if not full and block >= bottom else 0, not full and block >= bottom, reads)
        for block in range(layers)
        for a, b, reads in sizes
    ]
    return Shape(tuple(linears), layers, heads, dim, hidden, int(config["vocab_size"]), full, -1 if full else bottom)


def first_lines(path: Path, count: int = SIMULATED) -> list[dict[str, Any]]:
    """The first rows of a JSON-lines file."""
    import json

    with path.open(encoding="utf-8") as handle:
        return [json.loads(line) for line in islice(handle, count)]
