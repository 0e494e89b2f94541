"""Replies of a judge behind an endpoint: odd parts, odd bytes, odd statuses."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple

from hypothesis import strategies as st

from benchmarks.alpaca_eval.verdict import read_preference
from benchmarks.arena_hard.verdict import read_label
from benchmarks.mt_bench import verdict_pairwise, verdict_single
from harness.answer.client import Client
from harness.answer.reply import Call, Reply
from harness.answer.verdict import read_choice
from harness.recipe.endpoint import Endpoint
from harness.store.json_files import json_text
from tests.chaos.fuzz import Subject
from tests.chaos.mutations import TEXTS, changed, torn
from tests.kit.judge_server import Handler, Server, completion

TIMEOUT_S = 3.0
STATUSES = (200, 200, 200, 200, 200, 201, 400, 401, 403, 404, 408, 413, 422, 429, 500, 503)


class Sent(NamedTuple):
    """What the server sends: a status, a body, the value of Retry-After ("": none)."""

    status: int
    body: bytes
    retry_after: str


@contextmanager
def replies() -> Iterator[Subject]:
    """The subject that asks a server, while that serves."""
    waiting: dict[str, Sent] = {}

    def answer(handler: Handler, body: dict[str, Any], n: int) -> None:
        sent = waiting[body["messages"][-1]["content"]]
        more = {"retry_after": sent.retry_after} if sent.retry_after else {}
        handler.send(sent.body, sent.status, **more)

    server = Server(answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address, numbers = f"http://127.0.0.1:{server.server_port}/v1", itertools.count()

    def read(sent: Sent) -> None:
        question = f"question {next(numbers)}"
        waiting[question] = sent
        client = Client(Endpoint(model="judge", base_url=address, retries=0, timeout=TIMEOUT_S, concurrency=1))
        (reply,) = client.ask([Call((("user", question),), top_logprobs=5)])
        _judge(reply)
        server.asked.clear()

    try:
        yield Subject("judge replies", [Sent(200, _encoded(completion("[[7]]", {"m": -0.1})), "")], _sent(), read, 0.25)
    finally:
        server.shutdown()
        server.server_close()


def _sent() -> st.SearchStrategy[Sent]:
    texts = st.one_of(
        TEXTS,
        st.sampled_from(("[[7]]", "[[A>>B]]", "<think>x</think>[[B]]", "<think>[[A]]", "m", "[[1]] [[2]]", "[[1e9]]")),
    )
    sound = texts.map(lambda text: completion(text, {"m": -0.2, "M": -1.7}))
    bodies = st.one_of(
        sound.flatmap(changed).map(_encoded),
        sound.flatmap(changed).map(_encoded),
        sound.flatmap(lambda value: torn(json.dumps(value).encode())),
        st.integers(1, 20_000).map(lambda depth: b'{"choices": ' + b"[" * depth),
        st.binary(max_size=100),
        TEXTS.map(lambda text: json.dumps({"error": {"message": text, "code": text}}).encode()),
    )
    waits = st.sampled_from(("", "", "", "0", "-1", "nan", "1e400", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"))
    return st.builds(Sent, st.sampled_from(STATUSES), bodies, waits)


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def _judge(reply: Reply) -> None:
    """Read every kind of verdict in a reply, and store it."""
    verdicts: list[Any] = [
        verdict_single.read_rating(reply),
        verdict_pairwise.read_winner(reply),
        read_label(reply, "v0.1"),
        read_label(reply, "v2.0"),
        read_choice(reply),
        *(read_preference(reply, switched, source) for switched in (True, False) for source in ("logprobs", "text")),
    ]
    json.loads(json_text([asdict(reply), *(tuple(verdict) for verdict in verdicts)]).encode())
