"""Time of what people wait for when they score: ``python -m tests.speed.scoring_speed DATA_DIR``.

1,000 length-controlled refits beside one cross-validated fit by alpaca-eval's own code (and by ours) in the same run;
1,000 style-controlled refits of a pool of 16 models; 805 judgments at 200 ms, 32 at once, kept as in a run, beside the
ideal time. ``DATA_DIR`` is laid out as in docs/score.md, with published judgments.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from harness.answer.client import Client
from harness.answer.reply import Call
from harness.recipe.endpoint import Endpoint
from harness.score.bootstrap import draws
from harness.score.bradley_terry import Pool, fit_style
from harness.score.length_control import fit_length_control, official_fit
from harness.store import user_files as files
from harness.store.row_cache import RowCache
from tests.speed.coverage import Array, alpaca_rows

if TYPE_CHECKING:
    from benchmarks.alpaca_eval.evaluation_set import EvaluationSet


LATENCY, CONCURRENCY, JUDGMENTS = 0.2, 32, 805


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def length_control(folder: Path) -> None:
    """Ours with everything estimated again in each resample, against one cross-validated fit."""
    from benchmarks.alpaca_eval.evaluation_set import read_evaluation_set

    known = read_evaluation_set(None, folder)
    assert known.difficulty is not None
    y, delta = alpaca_rows(folder, "alpaca-7b")
    gamma, anchors, weights = known.difficulty, known.anchors, draws(len(y), 1000)
    ours = timed(lambda: fit_length_control(y, delta, gamma, weights, anchors))
    print(f"length control, {len(y)} prompts: 1,000 refits {ours:.2f} s", flush=True)
    again = timed(lambda: official_fit(y, delta, gamma, anchors))
    theirs = alpaca_eval_fit(known, y, delta)
    for whose, spent in (("our reimplementation of the official fit", again), ("alpaca-eval's own code", theirs)):
        if spent is None:
            print(f"  {whose}: alpaca-eval is not installed (extra dev)", flush=True)
        else:
            fit_text = f"one cross-validated fit {spent:.2f} s (1,000 of them: {1000 * spent:.0f} s"
            print(f"  {whose}: {fit_text}, {1000 * spent / ours:.0f} times the refits)", flush=True)


def alpaca_eval_fit(known: EvaluationSet, y: Array, delta: Array) -> float | None:
    """Seconds that alpaca-eval itself takes for one length-controlled win rate, its import and the download of its
    table left out; None where it is not installed.

    Args:
        known: the official data; the table is made from its anchors.
        y: preferences in [0, 1], one a prompt.
        delta: length differences, baseline minus model, in characters.
    """
    if find_spec("alpaca_eval") is None:
        return None
    warnings.simplefilter("ignore")  # of its dependencies, about each other
    pd, sklearn, theirs = map(import_module, ("pandas", "sklearn", "alpaca_eval.metrics.glm_winrate"))
    anchors = {
        "model": "gamed",
        "index": known.anchor_index,
        "std_delta_len": np.arctanh(known.anchors.length),
        "preference": known.anchors.y,
        "instruction_difficulty": known.anchors.difficulty,
        "not_gamed_baseline": False,
    }
    gamed = pd.DataFrame(anchors)
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


def pool_of_16(folder: Path) -> Pool:
    """Real games of 16 models; answers whose style is not in the data have that of another model."""
    rows = files.read_user_rows(folder / "arena_hard" / "battles_gpt4o_judge_16models.jsonl")
    looks: dict[str, list[list[float]]] = {}
    for r in files.read_user_rows(folder / "arena_hard" / "style_features_v0.1.jsonl"):
        counts = [float(r[k]) for k in ("token_len", "header_count", "list_count", "bold_count")]
        looks.setdefault(r["question_id"], []).append(counts)
    models, prompts = sorted({r["model"] for r in rows}), sorted({r["question_id"] for r in rows})
    place = np.array([models.index(r["model"]) for r in rows])
    return Pool(
        models,
        len(prompts),
        place,
        np.array([prompts.index(r["question_id"]) for r in rows]),
        np.array([float(sum(r["scores"])) for r in rows]),
        np.array([float(len(r["scores"])) for r in rows]),
        np.array([looks[r["question_id"]][m % len(looks[r["question_id"]])] for r, m in zip(rows, place, strict=True)]),
        np.array([looks[r["question_id"]][-1] for r in rows]),
    )


def style_control(folder: Path) -> None:
    """A pool of 16 models, everything estimated again in each resample."""
    pool = pool_of_16(folder)
    for version in ("v0.1", "v2.0"):
        weights = draws(pool.prompts, 1000)
        spent = timed(lambda version=version, weights=weights: fit_style(pool, weights, version))  # type: ignore[misc]
        print(
            f"style control {version}, {len(pool.models)} models, {pool.prompts} prompts: 1,000 refits {spent:.2f} s",
            flush=True,
        )


def _serve(port_to: Connection) -> None:
    """A judge that answers every request after the latency, in a process of its own."""
    answer = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "[[5]]"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return writer.close()
            length = next(int(x[15:]) for x in request.lower().split(b"\r\n") if x.startswith(b"content-length:"))
            await reader.readexactly(length)
            await asyncio.sleep(LATENCY)
            writer.write(head + body)

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port_to.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def judging() -> None:
    """The judge client against a server that keeps each request for 200 ms; each answer is kept, as in a run."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    with tempfile.TemporaryDirectory() as place:
        cache = RowCache(Path(place) / "rows.sqlite")
        client = Client(Endpoint(model="judge", base_url=url, concurrency=CONCURRENCY), cache)
        client.ask([Call((("user", "imports"),))])
        calls = [Call((("user", f"x{i}" + " word" * 800),)) for i in range(JUDGMENTS)]
        spent, ideal = timed(lambda: client.ask(calls)), LATENCY * -(-JUDGMENTS // CONCURRENCY)
        cache.close()
    server.terminate()
    print(
        f"{JUDGMENTS} judgments at {1000 * LATENCY:.0f} ms, {CONCURRENCY} at once: {spent:.2f} s; ideal {ideal:.2f} s, "
        f"ratio {spent / ideal:.2f}",
        flush=True,
    )


def main() -> None:
    """All of them."""
    folder = Path(sys.argv[1])
    length_control(folder)
    style_control(folder)
    judging()


if __name__ == "__main__":
    main()
