"""A real local HTTP server that answers chat completions as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.answer.reply import Call
from harness.recipe.endpoint import Endpoint

Behaviour = Callable[["Handler", dict[str, Any], int], None]


class Server(ThreadingHTTPServer):
    """``behaviour(handler, request, n)`` answers the n-th request (from 0) for its question."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour, self.asked, self.keys, self.bodies = behaviour, [], [], []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    asked: list[str]
    keys: list[str]
    bodies: list[dict[str, Any]]

    def handle_error(self, *args: Any) -> None:
        """A client that went away is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = request["messages"][-1]["content"]
        with self.server.lock:
            n = self.server.asked.count(text)
            self.server.asked.append(text)
            self.server.bodies.append(request)
            self.server.keys.append(self.headers.get("authorization", ""))
        self.server.behaviour(self, request, n)

    def log_message(self, *args: Any) -> None:
        pass

    def send(self, body: Any, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


def completion(text: str | None, top: dict[str, float] | None = None) -> dict[str, Any]:
    content = [
        {"token": "m", "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": v} for t, v in (top or {}).items()]}
    ]
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-2024-01-01",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": content} if top else None,
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def more_words_win(handler: Handler, request: dict[str, Any], n: int) -> None:
    """A pairwise judge: A if the first answer has more words, B if fewer, a tie if as many; always A where the text has
    "biased"; an error where it has "broken"."""
    text = request["messages"][0]["content"]
    first = text.split("Answer A:\n")[1].split("\n\nAnswer B:")[0].split()
    second = text.split("Answer B:\n")[1].split("\n\nReply")[0].split()
    verdict = "[[A]]" if len(first) > len(second) else "B" if len(first) < len(second) else "It is a tie"
    if "broken" in text:
        handler.send({"error": {"message": "no such model"}}, 400)
    else:
        handler.send(completion("A" if "biased" in text else verdict))


def echo(handler: Handler, request: dict[str, Any], n: int) -> None:
    handler.send(completion(f"[[{request['messages'][-1]['content']}]]"))


def endpoint(server: Server, **changes: Any) -> Endpoint:
    return Endpoint(model="judge", base_url=f"http://127.0.0.1:{server.server_port}/v1", **changes)


def calls(count: int, **changes: Any) -> list[Call]:
    return [Call((("user", str(i)),), **changes) for i in range(count)]
