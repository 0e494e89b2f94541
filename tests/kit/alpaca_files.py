"""Files in alpaca_eval's layouts, small ones of our own, and their scores."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alpaca_eval.score_files import score_annotation_files
from benchmarks.alpaca_eval.verdict import is_switched

JUDGE, BASE, MODEL = "weighted_alpaca_eval_gpt4_turbo", "gpt4_1106_preview", "ours"


def instruction(place: int) -> str:
    """The instruction at a place of :func:`write_set`'s set."""
    return f"Write {place} words about rivers."


def annotation(place: int, preference: Any, **more: Any) -> dict[str, Any]:
    """A row of ``annotations.json`` as the official tool writes it, without the column of the order."""
    return {
        "instruction": instruction(place),
        "output_1": "base " * (place + 2),
        "generator_1": BASE,
        "output_2": "own " * (2 * place % 7 + 1),
        "generator_2": MODEL,
        "annotator": JUDGE,
        "preference": preference,
    } | more


def completion(first: float, second: float, content: str = "m") -> dict[str, Any]:
    """A ``raw_completion`` with the probabilities of ``m`` and ``M``."""
    top = [{"token": token, "logprob": math.log(p)} for token, p in (("m", first), ("M", second))]
    place = {"token": content, "logprob": top[0]["logprob"], "top_logprobs": top}
    return {"finish_reason": "length", "logprobs": {"content": [place]}, "message": {"content": content}}


def completion_for(place: int, preference: float) -> dict[str, Any]:
    """A ``raw_completion`` that comes to a preference in the official order of the two answers."""
    model = preference - 1
    shown = (model, 1 - model) if is_switched(instruction(place)) else (1 - model, model)
    return completion(*shown)


def write_json(path: Path, rows: Any) -> Path:
    """A JSON file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def set_rows(count: int) -> list[dict[str, Any]]:
    """Items of an evaluation set."""
    return [{"instruction": instruction(i), "output": "base " * (i + 2), "generator": BASE} for i in range(count)]


def write_set(folder: Path, count: int, controlled: bool = False) -> Path:
    """An evaluation set.

    Args:
        folder: where it is written.
        count: of its instructions.
        controlled: with difficulty and anchors beside it, for length control.
    """
    path = write_json(folder / "set" / "alpaca_eval.json", set_rows(count))
    if controlled:
        rng = np.random.default_rng(5)
        hard = "".join(f"{i},{g:.3f}\n" for i, g in enumerate(rng.normal(size=count)))
        (path.parent / "instruction_difficulty.csv").write_text("index,instruction_difficulty\n" + hard)
        anchors = "".join(f"{i},{s + 0.1 * i:.3f},{y}\n" for s, y in ((1.2, 0.2), (-1.2, 0.7)) for i in range(count))
        (path.parent / "df_gamed.csv").write_text("index,std_delta_len,preference\n" + anchors)
    return path


def score_of(path: Path, evaluation_set: Path, **options: Any) -> dict[str, Any]:
    """The scores of the only model in a file of annotations, as JSON, with the report's warnings."""
    report = score_annotation_files([path], evaluation_set, **options).as_json()
    (score,) = report["scores"]
    return score | {"warnings": report["warnings"], "caption": report["caption"], "protocol": report["protocol"]}
