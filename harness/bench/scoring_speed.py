"""Time of what people wait for when they score: ``python -m harness.bench.scoring_speed DATA_DIR``.

Three lines: 1,000 length-controlled refits beside the official cross-validated fit in the same run; 1,000
style-controlled refits of a pool of 16 models; 805 judgments at 200 ms, 32 at once, beside the ideal time. ``DATA_DIR``
is laid out as in docs/score.md, with published judgments.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from harness import files
from harness.bench.coverage import alpaca_rows
from harness.endpoint import Endpoint
from harness.judge.client import Call, Client
from harness.stats.bootstrap import draws
from harness.stats.bradley_terry import Pool, style_controlled
from harness.stats.length_control import fit, official_fit

LATENCY, CONCURRENCY, JUDGMENTS = 0.2, 32, 805


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def length_control(folder: Path) -> None:
    """Ours with everything estimated again in each resample, against one fit of the official kind."""
    from benchmarks.alpaca_eval.files import official

    known = official(None, folder)
    assert known.difficulty is not None
    y, delta = alpaca_rows(folder, "alpaca-7b")
    gamma, anchors, weights = known.difficulty, known.anchors, draws(len(y), 1000)
    ours = timed(lambda: fit(y, delta, gamma, weights, anchors))
    theirs = timed(lambda: official_fit(y, delta, gamma, anchors))
    print(
        f"length control, {len(y)} prompts: 1,000 refits {ours:.2f} s; one official cross-validated fit {theirs:.2f} s "
        f"(1,000 of them: {1000 * theirs:.0f} s, {1000 * theirs / ours:.0f} times ours)",
        flush=True,
    )


def style_control(folder: Path) -> None:
    """A pool of 16 models with real games; answers whose style is not in the data have that of another model."""
    rows = files.rows(folder / "arena_hard" / "battles_gpt4o_judge_16models.jsonl")
    looks: dict[str, list[list[float]]] = {}
    for r in files.rows(folder / "arena_hard" / "style_features_v0.1.jsonl"):
        counts = [float(r[k]) for k in ("token_len", "header_count", "list_count", "bold_count")]
        looks.setdefault(r["question_id"], []).append(counts)
    models, prompts = sorted({r["model"] for r in rows}), sorted({r["question_id"] for r in rows})
    place = np.array([models.index(r["model"]) for r in rows])
    pool = Pool(
        models,
        len(prompts),
        place,
        np.array([prompts.index(r["question_id"]) for r in rows]),
        np.array([float(sum(r["scores"])) for r in rows]),
        np.array([float(len(r["scores"])) for r in rows]),
        np.array([looks[r["question_id"]][m % len(looks[r["question_id"]])] for r, m in zip(rows, place, strict=True)]),
        np.array([looks[r["question_id"]][-1] for r in rows]),
    )
    for version in ("v0.1", "v2.0"):
        weights = draws(len(prompts), 1000)
        spent = timed(lambda version=version, weights=weights: style_controlled(pool, weights, version))  # type: ignore[misc]
        print(
            f"style control {version}, {len(models)} models, {len(prompts)} prompts: 1,000 refits {spent:.2f} s",
            flush=True,
        )


def _serve(told: Connection) -> None:
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
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def judging() -> None:
    """The judge client against a server that keeps each request for 200 ms."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    client = Client(Endpoint(model="judge", base_url=url, concurrency=CONCURRENCY))
    client.ask([Call((("user", "imports"),))])
    calls = [Call((("user", f"x{i}" + " word" * 800),)) for i in range(JUDGMENTS)]
    spent, ideal = timed(lambda: client.ask(calls)), LATENCY * -(-JUDGMENTS // CONCURRENCY)
    server.terminate()
    print(
        f"{JUDGMENTS} judgments at {1000 * LATENCY:.0f} ms, {CONCURRENCY} at once: {spent:.2f} s; ideal {ideal:.2f} s, "
        f"ratio {spent / ideal:.2f}",
        flush=True,
    )


def main() -> None:
    """All three."""
    folder = Path(sys.argv[1])
    length_control(folder)
    style_control(folder)
    judging()


if __name__ == "__main__":
    main()
