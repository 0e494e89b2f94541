"""Operations a second of training and evaluation, by the ledger, as a share of what a matrix product reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.answer.load import load_model
from harness.answer.policy import Policy
from harness.budget.fused_head import watch_fused_head
from harness.budget.ledger import Ledger
from harness.budget.meter import Meter
from tests.speed.machine import product
from tests.speed.measure import Ratio, Setting, Side, by_turns, timed
from tests.speed.workbench import Workbench, step

QUESTIONS, SHARED, OWN = 16, 300, 60
"""Questions of a repeat; tokens that they share, and tokens of each."""


def share_of_peak(setting: Setting) -> list[Ratio]:
    """DPO steps of 4 and of 8 pairs, and questions with four options each that share their examples."""
    gemm = product()
    theirs: Side = lambda place: gemm() / 1e9  # noqa: E731
    ratios = []
    for pairs in (4, 8):
        bench = Workbench(setting, pairs)
        name = f"training, {pairs} pairs, share of a product's speed"
        ratios.append(by_turns(name, "GFLOP a second", _training(bench), theirs, setting.repeats))
    name = "evaluation, share of a product's speed"
    return [*ratios, by_turns(name, "GFLOP a second", _evaluation(bench), theirs, setting.repeats)]


def _rate(meter: Meter, work: Callable[[], object]) -> float:
    """Operations a second that the ledger counts, in units of 1e9."""
    before = meter.ledger.flops()
    seconds = timed(work)
    return (meter.ledger.flops() - before) / seconds / 1e9


def _training(bench: Workbench) -> Side:
    from trl import DPOConfig

    from sail.dpo import TokenisedDPOTrainer

    meter = Meter(Ledger())
    watch_fused_head(meter)
    args = DPOConfig(**bench.arguments(), precompute_ref_log_probs=True)
    rows = [{key: value for key, value in row.items() if key != "example_id"} for row in bench.rows()]
    trainer: Any = bench.trainer(TokenisedDPOTrainer, args, rows, meter.attach(load_model(bench.start)))
    batches = list(trainer.get_train_dataloader())
    return lambda place: _rate(meter, lambda: step(trainer, batches[place]))


def _evaluation(bench: Workbench) -> Side:
    meter = Meter(Ledger())
    policy = Policy(load_model(bench.start), bench.tokenizer, "speed", meter=meter, cache=None)

    def side(place: int) -> float:
        shared = bench.ids(SHARED, "examples", place)
        questions = [shared + bench.ids(OWN, "question", place, i) for i in range(QUESTIONS)]
        options = [bench.ids(1, "option", i) for i in range(4)]
        rows = [(question, option) for question in questions for option in options]
        return _rate(meter, lambda: policy.continuation_logps(rows))

    return side
