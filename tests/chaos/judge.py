"""A judge behind an endpoint, in a process of its own, that writes down every request before it answers."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.store.json_files import digest
from tests.kit.judge_server import Handler, Server
from tests.kit.official_data import scripted

DELAY_S = 0.08
"""Seconds that it takes for an answer, so that kills find calls under way."""


class Judge(NamedTuple):
    """A judge that runs.

    Attributes:
        port: of its server on this machine.
        log: one line a request: the hash of its text.
    """

    port: int
    log: Path

    def requests(self) -> Counter[str]:
        """How often each request came."""
        return Counter(self.log.read_text().split())

    def forget(self) -> None:
        """Begin to count anew."""
        self.log.write_text("")


@contextmanager
def judge(log: Path, delay: float = DELAY_S) -> Iterator[Judge]:
    """A judge while the context lasts.

    Args:
        log: of its requests.
        delay: seconds that an answer takes.
    """
    log.write_text("")
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            server = Server(_answering(log, delay))
            os.write(write, str(server.server_port).encode())
            server.serve_forever()
        finally:
            os._exit(1)
    try:
        yield Judge(int(os.read(read, 16)), log)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)


def _answering(log: Path, delay: float) -> Any:
    def answer(handler: Handler, body: dict[str, Any], n: int) -> None:
        with log.open("a") as lines:
            lines.write(digest(body) + "\n")
        time.sleep(delay)
        scripted(handler, body, n)

    return answer
