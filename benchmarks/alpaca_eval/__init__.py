"""AlpacaEval, mini set: 32 instructions, win rate against the start policy, raw and length-controlled."""

from __future__ import annotations

from benchmarks.shared.against_start import PairwiseAgainstStart
from harness.benchmark import Row, Scored
from harness.score.metrics import metric


class AlpacaEval(PairwiseAgainstStart):
    """Win rate and length-controlled win rate (arXiv 2404.04475) in the form that a mini set allows."""

    name = "alpaca_eval"
    title = "AlpacaEval"
    summary = "win rate against the start policy, raw and length-controlled (mini: 32 instructions)"
    file, prompt_key = "eval_set", "instruction"

    def score(self, rows: list[Row]) -> Scored:
        """The length-controlled fit is repeated inside every resample."""
        return Scored(
            {"items": self.columns(rows)},
            [
                metric("lc", "AlpacaEval LC", "win %", 1, "length_controlled", "preference", primary=True),
                metric("win_rate", "AlpacaEval raw", "win %", 1, "percent", "preference"),
                *self.judge_metrics(),
            ],
            self.ranges,
        )
