"""Arena-Hard, mini set: 24 hard prompts, win rate against the start policy, raw and style-controlled."""

from __future__ import annotations

from benchmarks.arena_hard.style import MarkdownCounts, markdown_counts
from benchmarks.shared.against_start import PairwiseAgainstStart
from harness.benchmark import Row, Scored
from harness.score.metrics import metric


class ArenaHard(PairwiseAgainstStart):
    """Two games a prompt (both orders), Bradley-Terry against one baseline, with and without style control."""

    name = "arena_hard"
    title = "Arena-Hard"
    summary = "win rate on hard prompts against the start policy, raw and style-controlled (mini: 24 prompts)"
    file, prompt_key = "question", "prompt"

    def protocol(self) -> dict[str, object]:
        """Adds the pool that the style coefficients come from."""
        return {**super().protocol(), "style": "at equal style, pool: this model against the baseline"}

    def score(self, rows: list[Row]) -> Scored:
        """Style coefficients and their centring are estimated again inside every resample."""
        columns = self.columns(rows)
        for side, prefix in (("answer", ""), ("baseline", "baseline_")):
            counts = [markdown_counts(r[side]["text"]) for r in rows]
            columns |= {prefix + key: [getattr(c, key) for c in counts] for key in MarkdownCounts._fields}
        return Scored(
            {"items": columns},
            [
                metric("sc", "Arena-Hard SC", "win %", 1, "style_controlled", "preference", primary=True),
                metric("win_rate", "Arena-Hard raw", "win %", 1, "percent", "preference"),
                *self.judge_metrics(),
            ],
            self.ranges,
        )
