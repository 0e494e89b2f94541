"""Scoring and judging: question sets against plain lm-eval, length control against alpaca-eval, the judge's client."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from harness.score.bootstrap import draws
from harness.score.columns import Array
from harness.score.length_control import Anchors, fit_length_control
from tests.kit.judge_server import Handler, Server, completion
from tests.speed.measure import Ratio, Setting, Side, Skipped, by_turns, ratio_of, timed
from tests.speed.workbench import WORDS

SUBJECTS = ("anatomy", "astronomy", "marketing", "virology", "world_religions")
LATENCY, CONCURRENCY = 0.1, 32
"""Seconds that the judge keeps a request; requests at once."""

INSTRUCTIONS = 805


def mmlu(setting: Setting) -> list[Ratio]:
    """Questions like MMLU's with 5 examples, a subject a repeat, against plain lm-eval at its batch size of 1."""
    return [_question_set(setting, "mmlu", "MMLU-like, 5 examples", 8 if setting.quick else 6)]


def arc(setting: Setting) -> list[Ratio]:
    """Questions like ARC's with 25 examples, two questions a repeat, against plain lm-eval at its batch size of 1."""
    return [_question_set(setting, "arc25", "ARC-like, 25 examples", 2)]


def _question_set(setting: Setting, part: str, name: str, slice_size: int) -> Ratio:
    """Items a second of both sides on made-up questions in the official layout.

    Raises:
        Skipped: lm-eval is not installed.
        ValueError: the two differ in a prompt, in an item's metrics, or in a score.
    """
    if find_spec("lm_eval") is None:
        raise Skipped("lm-eval is not installed: python -m pip install '.[lm-eval]'")
    from benchmarks.lmeval.run import quiet, seeded
    from harness.answer.load import load_model, load_tokenizer
    from harness.answer.policy import Policy
    from harness.answer.start_policy import build_start
    from harness.budget.ledger import Ledger
    from harness.budget.meter import Meter
    from harness.store.stages import Store
    from tests.speed.lm_eval_speed import PARTS, compare, sides_of, slices

    write_questions(setting.folder / "data", slice_size, setting.quick)
    os.environ["SAIL_BENCH_DATA_DIR"] = str(setting.folder / "data")
    start = build_start(setting.model, Store(setting.store))
    policy = Policy(load_model(start), load_tokenizer(start), "speed", meter=Meter(Ledger()), cache=None)
    with redirect_stdout(sys.stderr), quiet(), seeded():
        sides = sides_of(PARTS[part], policy)
        line = compare(sides.ours, sides.theirs, slices(sides.sizes, 0, slice_size))
    differ = {key: line[key] for key in ("items_that_differ", "prompts_that_differ")}
    if any(differ.values()) or line["ours"] != line["lm_eval"]:
        raise ValueError(f"{name}: the results differ from lm-eval's: {differ}, {line['ours']}, {line['lm_eval']}")
    rates = ([slice_size / seconds for seconds in side.seconds] for side in (sides.ours, sides.theirs))
    return ratio_of(name, "questions a second", *rates)


def write_questions(folder: Path, slice_size: int, short: bool) -> None:
    """Questions of random words in the layout of the official sets, of about their lengths with SmolLM2's tokenizer.

    Args:
        folder: gets them.
        slice_size: questions of an MMLU subject; of ARC four times as many.
        short: few words, for a tokenizer of bytes.
    """
    draw = random.Random(0)

    def say(words: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(words))

    def question(words: int, option: int, answer: int) -> dict[str, Any]:
        return {"question": f"{say(words)}?", "choices": [say(option) for _ in range(4)], "answer": answer}

    long, option, science = (8, 2, 6) if short else (60, 6, 20)

    def subjects(count: int) -> list[dict[str, Any]]:
        return [{"subject": s} | question(long, option, i % 4) for s in SUBJECTS for i in range(count)]

    def numbered(count: int) -> list[dict[str, Any]]:
        return [{"id": f"q{i}"} | question(science, option, i % 4) for i in range(count)]

    files: Mapping[str, Sequence[dict[str, Any]]] = {
        "mmlu/test.jsonl": subjects(slice_size),
        "mmlu/dev.jsonl": subjects(5),
        "arc_challenge/train.jsonl": numbered(60),
        "arc_challenge/test.jsonl": numbered(4 * slice_size),
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def length_control(setting: Setting) -> list[Ratio]:
    """Refits of a length-controlled win rate, as an interval takes 1,000 of, against one fit by alpaca-eval's own code.

    Raises:
        Skipped: alpaca-eval is not installed.
    """
    if find_spec("alpaca_eval") is None:
        raise Skipped("alpaca-eval is not installed (extra dev)")
    rng, refits = np.random.default_rng(0), 1000
    y, delta = rng.random(INSTRUCTIONS), rng.normal(-100, 700, INSTRUCTIONS).round()
    gamma, index = rng.normal(0, 1, INSTRUCTIONS), np.tile(np.arange(INSTRUCTIONS), 2)
    length = np.tanh(np.repeat([1.2, -1.2], INSTRUCTIONS) + rng.normal(0, 0.3, 2 * INSTRUCTIONS))
    anchors = Anchors(length, gamma[index], rng.random(2 * INSTRUCTIONS))
    weights = draws(INSTRUCTIONS, refits)
    ours: Side = lambda place: refits / timed(lambda: fit_length_control(y, delta, gamma, weights, anchors))  # noqa: E731
    theirs: Side = lambda place: 1 / alpaca_eval_fit(anchors, index, y, delta)  # noqa: E731
    return [by_turns("length-controlled fits", "fits a second", ours, theirs, 3)]


def alpaca_eval_fit(anchors: Anchors, index: NDArray[np.int64], y: Array, delta: Array) -> float:
    """Seconds that alpaca-eval itself takes for one length-controlled win rate, its import and the download of its
    table left out.

    Args:
        anchors: of the official data; that table is made from them.
        index: the instruction of each anchor row.
        y: preferences in [0, 1], one a prompt.
        delta: length differences, baseline minus model, in characters.
    """
    warnings.simplefilter("ignore")  # of its dependencies, about each other
    pd, sklearn, theirs = map(import_module, ("pandas", "sklearn", "alpaca_eval.metrics.glm_winrate"))
    table = {
        "model": "gamed",
        "index": index,
        "std_delta_len": np.arctanh(anchors.length),
        "preference": anchors.y,
        "instruction_difficulty": anchors.difficulty,
        "not_gamed_baseline": False,
    }
    gamed = pd.DataFrame(table)
    gamed = gamed.iloc[np.lexsort((gamed["index"], gamed.groupby("index").cumcount()))]  # as theirs: 0-804, twice
    rows = {
        "index": range(len(y)),
        "preference": y + 1,
        "output_1": ["x" * int(max(d, 0)) for d in delta],
        "output_2": ["x" * int(max(-d, 0)) for d in delta],
        "generator_1": "baseline",
        "generator_2": "model",
        "annotator": "judge",
    }
    frame = pd.DataFrame(rows).set_index("index")
    with tempfile.TemporaryDirectory() as place, sklearn.config_context():
        gamed.to_csv(Path(place) / "df_gamed.csv", index=False)
        with mock.patch.object(theirs, "hf_hub_download", lambda **request: str(Path(place) / request["filename"])):
            return timed(lambda: theirs.get_length_controlled_winrate(frame, save_weights_dir=None))


def judging(setting: Setting) -> list[Ratio]:
    """The judge's client, which keeps each answer, against openai's client with one request at a time; and against what
    requests at once can give at best."""
    from openai import OpenAI

    from harness.answer.client import Client
    from harness.answer.reply import Call
    from harness.recipe.endpoint import Endpoint
    from harness.store.row_cache import RowCache

    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    server.start()
    url, calls = f"http://127.0.0.1:{here.recv()}/v1", 160
    client = Client(
        Endpoint(model="judge", base_url=url, concurrency=CONCURRENCY), RowCache(setting.folder / "rows.sqlite")
    )
    plain = OpenAI(api_key="none", base_url=url)

    def ours(place: int) -> float:
        asked = [Call((("user", f"{place} {i}" + " word" * 800),)) for i in range(calls)]
        return calls / timed(lambda: client.ask(asked))

    def theirs(place: int) -> float:
        messages: Any = [{"role": "user", "content": f"{place}" + " word" * 800}]
        return 10 / timed(lambda: [plain.chat.completions.create(model="judge", messages=messages) for _ in range(10)])

    try:
        one = by_turns("judgments, against one at a time", "judgments a second", ours, theirs, 3)
        again: Side = lambda place: ours(100 + place)  # noqa: E731
        best: Side = lambda place: CONCURRENCY / LATENCY  # noqa: E731
        return [one, by_turns("judgments, against the best possible", "judgments a second", again, best, 3)]
    finally:
        server.terminate()


def _serve(port_to: Connection) -> None:
    """A judge that answers every request after the latency, in a process of its own."""
    Handler.wbufsize = 2**16  # head and body in one packet: the second would wait until the first is acknowledged
    server = Server(_answer)
    port_to.send(server.server_port)
    server.serve_forever()


def _answer(handler: Handler, request: dict[str, Any], number: int) -> None:
    time.sleep(LATENCY)
    handler.send(completion("[[5]]"))
