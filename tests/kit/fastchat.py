"""Pairwise judgments as FastChat's ``gen_judgment.py`` writes them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

SAID = {"model_1": ("[[A]]", "[[B]]"), "model_2": ("[[B]]", "[[A]]"), "tie": ("[[C]]",) * 2, "error": ("?", "?")}


def pair_judgments(
    pairs: list[tuple[str, str]], questions: range = range(81, 101), seed: int = 0
) -> list[dict[str, Any]]:
    """Rows as ``gen_judgment.py`` writes them, with random winners (an error in one of twenty games)."""
    rng = np.random.default_rng(seed)
    rows = []
    for (one, two), number, turn in itertools.product(pairs, questions, (1, 2)):
        games = [str(w) for w in rng.choice(list(SAID), 2, p=[0.4, 0.3, 0.25, 0.05])]
        rows.append(
            {
                "question_id": number, "model_1": one, "model_2": two, "g1_winner": games[0], "g2_winner": games[1],
                "judge": ["gpt-4", "pair-v2"], "turn": turn, "g1_user_prompt": "", "g2_user_prompt": "",
                "g1_judgment": f"Well. {SAID[games[0]][0]}", "g2_judgment": f"Well. {SAID[games[1]][1]}", "tstamp": 1.0,
            }
        )  # fmt: skip
    return rows
