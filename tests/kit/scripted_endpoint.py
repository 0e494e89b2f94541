"""A local OpenAI-compatible endpoint whose replies a test writes: from a request to a status and a body."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from harness.recipe.endpoint import Endpoint


class Scripted(NamedTuple):
    """HTTP status and body; bytes are sent as they are."""

    status: int
    body: Any


Script = Callable[[dict[str, Any]], Scripted]


class ScriptedEndpoint:
    """``url`` of the API, and ``requests`` in the order in which they came. ``models``: what it lists, if it can."""

    def __init__(self, script: Script, models: Scripted | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        lock = threading.Lock()
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    requests.append(request)
                self.reply(script(request))

            def do_GET(self) -> None:
                if models is None:
                    self.send_error(501)
                else:
                    self.reply(models)

            def reply(self, answer: Scripted) -> None:
                status, body = answer
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def endpoint(self, **options: Any) -> Endpoint:
        """The endpoint of a model named ``m``, which is asked once if the options do not say otherwise."""
        return Endpoint(**{"model": "m", "base_url": self.url, "retries": 0, "concurrency": 1} | options)


@contextmanager
def scripted_endpoint(script: Script, models: Scripted | None = None) -> Iterator[ScriptedEndpoint]:
    """The endpoint while it serves."""
    endpoint = ScriptedEndpoint(script, models)
    thread = threading.Thread(target=endpoint.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        endpoint.server.server_close()


def completion(content: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "served",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content} | message}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }


def saying(content: Any, finish: str = "stop", **message: Any) -> Script:
    """A script that gives every request the same answer."""
    return lambda request: Scripted(200, completion(content, finish, **message))
