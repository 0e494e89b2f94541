"""What a server can do to a client: trickle, never end, send too much, count wrongly, redirect, echo the key."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit.judge_server import Behaviour, Handler, calls, completion, echo, endpoint
from kit.scripted_endpoint import Scripted, scripted_endpoint

from harness.answer import client as client_module
from harness.answer import http_replies
from harness.answer.client import Client
from harness.answer.endpoint_check import endpoint_problems
from harness.answer.http_replies import address_of
from harness.answer.reply import Call
from harness.answer.verdict import read_choice, read_rating
from harness.errors import UserError
from harness.recipe.endpoint import Endpoint
from harness.store.row_cache import RowCache

KEY = "sk-proj-Zq8Wv3Lt0Yx5Nd7R"
DEADLINE = 1.5


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LONGEST_WAIT", 0.01)


def head(handler: Handler, *headers: str) -> None:
    lines = ("HTTP/1.1 200 OK", "Content-Type: application/json", *headers, "", "")
    handler.wfile.write("\r\n".join(lines).encode())
    handler.close_connection = True


def trickled_body(handler: Handler) -> None:
    """Valid JSON, a byte every 20 ms: each read is quick, the whole takes a minute."""
    data = json.dumps(completion("late")).encode().ljust(3000)
    head(handler, f"Content-Length: {len(data)}")
    for byte in data:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def trickled_headers(handler: Handler) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"a" * 3000:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)


def endless_body(handler: Handler) -> None:
    """Chunks without an end, slowly enough that the size does not end it."""
    head(handler, "Transfer-Encoding: chunked")
    for _ in range(3000):
        handler.wfile.write(b"1\r\n \r\n")
        time.sleep(0.02)


def silent(handler: Handler) -> None:
    time.sleep(3 * DEADLINE)


@pytest.mark.parametrize("misbehaves", [trickled_body, trickled_headers, endless_body, silent])
def test_a_request_has_a_deadline_as_a_whole_and_is_tried_again(
    misbehaves: Callable[[Handler], None], serve: Any
) -> None:
    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        if n == 0:
            misbehaves(handler)
        else:
            echo(handler, request, n)

    client = Client(endpoint(serve(inner), timeout=DEADLINE, retries=1))
    began = time.perf_counter()
    replies = client.ask(calls(2))
    assert [reply.text for reply in replies] == ["[[0]]", "[[1]]"]
    assert dict(client.tally.faults) == {"timeout": 2}
    assert time.perf_counter() - began < 20


def test_the_look_before_has_a_deadline_too(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "do_GET", trickled_body, raising=False)
    began = time.perf_counter()
    (problem,) = endpoint_problems("judge", endpoint(serve(echo), timeout=DEADLINE))
    assert "does not answer (it took too long): start it" in problem.text
    assert time.perf_counter() - began < 20


def packed(megabytes: int) -> bytes:
    """JSON of so many megabytes as gzip of one member, without its end: blocks that do not lean on each other."""
    pack = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    first = pack.compress(b"[") + pack.flush(zlib.Z_FULL_FLUSH)
    return first + (pack.compress(b" " * 2**20) + pack.flush(zlib.Z_FULL_FLUSH)) * megabytes


def sending(data: bytes, *headers: str) -> Behaviour:
    def inner(handler: Handler, request: dict[str, Any], n: int) -> None:
        head(handler, *headers, f"Content-Length: {len(data)}")
        handler.wfile.write(data)

    return inner


GZIP = "Content-Encoding: gzip"


@pytest.mark.parametrize(
    ("make", "headers"),
    [
        (lambda: b"[" + b" " * 60_000_000, ()),
        (lambda: packed(300), (GZIP,)),
        (lambda: gzip.compress(b" " * 2**20, 1) * 300, (GZIP,)),
    ],
    ids=["60 MB", "300 MB of gzip", "300 members of gzip"],
)
def test_a_body_that_is_too_large_is_refused_with_a_sentence(
    make: Callable[[], bytes], headers: tuple[str, ...], serve: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server, cache = serve(sending(make(), *headers)), RowCache(tmp_path / "rows.sqlite")
    client = Client(endpoint(server, retries=1), cache)
    (reply,) = client.ask(calls(1))
    assert reply.error == "malformed answer: its body is larger than 16 MiB"
    assert reply.unanswered
    assert dict(client.tally.faults) == {"malformed answer": 2}
    assert "1 calls of 'judge' are unanswered (the last: malformed answer: its body" in capfd.readouterr().err
    assert not cache.get([client.key(calls(1)[0])])


MANY = 100_000
LONG = {
    "digits": "[[" + "1" * MANY,
    "one digit in brackets": "[1" * MANY,
    "dots in a fence": "x ```" + "." * MANY + "``` y",
    "fences": "```" * MANY,
    "lines between labels": "[[A]] if x." + "\n" * MANY + "[[B]]",
    "quotes between labels": "[[A]]" + "'\" " * MANY + "[[B]]",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_reply_is_read_in_time_that_grows_with_its_length(text: str) -> None:
    began = time.perf_counter()
    read_choice(text)
    read_rating(text, 1, 10)
    assert time.perf_counter() - began < 10


def test_a_decompressor_never_holds_more_than_is_asked_for() -> None:
    """A piece of 64 KiB of the wire can stand for 64 MiB."""
    data = packed(64)
    assert len(data) > 2**16
    got = http_replies._Unpacking().feed(data, 1000)
    assert got == b"[" + b" " * 999


@pytest.mark.parametrize(
    ("pack", "encoding"),
    [
        (gzip.compress, "gzip"),
        (lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]), "GZIP"),
        (zlib.compress, "deflate"),
        (lambda data: zlib.compress(data)[2:-4], "deflate"),
        (lambda data: data, "identity"),
    ],
)
def test_compressed_bodies_are_read(pack: Callable[[bytes], bytes], encoding: str, serve: Any) -> None:
    data = pack(json.dumps(completion("fine " * 500)).encode())
    server = serve(sending(data, f"Content-Encoding: {encoding}"))
    assert Client(endpoint(server, retries=0)).ask(calls(1))[0].text == "fine " * 500


@pytest.mark.parametrize(("data", "encoding"), [(b"\x1f\x8b\x08broken", "gzip"), (b"{}", "br"), (b"{}", "gzip, gzip")])
def test_other_compressions_are_a_fault(data: bytes, encoding: str, serve: Any) -> None:
    server = serve(sending(data, f"Content-Encoding: {encoding}"))
    (reply,) = Client(endpoint(server, retries=0)).ask(calls(1))
    assert reply.error.startswith("malformed answer: its body ")


COUNTS = [b"1e400", b"-5", b"1" + b"0" * 30, b"1e30", b"true", b'"many"', b"NaN", b"[1]", b"9" * 400]


@pytest.mark.parametrize("count", COUNTS, ids=range(len(COUNTS)))
def test_a_number_of_tokens_that_cannot_be_is_charged_to_nothing(
    count: bytes, serve: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    usage = b'{"prompt_tokens": %b, "completion_tokens": %b}' % (count, count)
    body = json.dumps(completion("fine") | {"usage": None}).encode().replace(b'"usage": null', b'"usage": ' + usage)
    paid: list[Any] = []
    judge = endpoint(serve(sending(body)), price_in=1.0, price_out=1.0, max_cost=5.0, retries=0)
    client = Client(judge, RowCache(tmp_path / "rows.sqlite"), paid.append)
    replies = client.ask(calls(3))
    assert [(r.text, r.tokens_in, r.tokens_out) for r in replies] == [("fine", 0, 0)] * 3
    assert client.tally.cost == 0
    assert sum(reply.tokens_in + reply.tokens_out for reply in paid) == 0
    assert "3 replies of 'judge' report no usable number of tokens" in capfd.readouterr().err


@pytest.mark.parametrize("query", [f"?key={KEY}", f"?api-version=2024&key={KEY}&tag=a%20b&tag=c", f"?key={KEY}#here"])
def test_the_query_of_an_address_goes_with_every_request_and_is_never_shown(
    query: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_KEY", "")
    paths: list[str] = []
    real = Handler.parse_request

    with scripted_endpoint(
        lambda request: Scripted(200, completion("fine")), Scripted(200, {"data": [{"id": "m"}]})
    ) as server:
        handler = server.server.RequestHandlerClass
        monkeypatch.setattr(
            handler, "parse_request", lambda self: real(self) and (paths.append(self.path), True)[1], raising=False
        )
        judge = server.endpoint(base_url=server.url + query, api_key_env="SOME_KEY")
        assert endpoint_problems("judge", judge) == []
        assert Client(judge).ask([Call((("user", "?"),))])[0].text == "fine"
    plain = query.partition("#")[0].replace("%20", "+")
    assert [path.replace("%20", "+") for path in paths] == [f"/v1/models{plain}", f"/v1/chat/completions{plain}"]
    down = endpoint_problems("judge", judge)[0].text
    assert "Connect call failed" in down, "the reason is that of the operating system"
    assert f"correct base_url ({server.url})" in down
    with pytest.raises(UserError) as caught:
        Client(judge).ask([Call((("user", str(i)),)) for i in range(9)])
    shown = down + str(caught.value) + "".join(capfd.readouterr())
    assert KEY[3:11] not in shown
    assert "key=" not in shown


def test_an_address_that_is_none_is_a_sentence_without_its_query() -> None:
    judge = Endpoint(model="m", base_url=f"http://user:{KEY}@host:port/v1?key={KEY}")
    with pytest.raises(UserError, match="write it as http://HOST:PORT/v1") as caught:
        address_of(judge)
    assert KEY[:8] not in str(caught.value)
    assert "host:port" in str(caught.value)
    assert "write it as" in endpoint_problems("judge", judge)[0].text


def test_a_redirect_is_followed_and_the_key_stays_with_its_host(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    elsewhere = serve(echo)

    def moved(handler: Handler, request: dict[str, Any], n: int) -> None:
        place = f"http://localhost:{elsewhere.server_port}/v1/chat/completions"
        handler.send({}, 307, location=place)

    server = serve(moved)
    assert Client(endpoint(server, api_key_env="SOME_KEY", retries=0)).ask(calls(1))[0].text == "[[0]]"
    assert server.keys == [f"Bearer {KEY}"]
    assert elsewhere.keys == [""]


def test_a_redirect_without_an_end_ends(serve: Any) -> None:
    def moved(handler: Handler, request: dict[str, Any], n: int) -> None:
        handler.send({}, 307, location="/v1/chat/completions")

    server = serve(moved)
    with pytest.raises(UserError, match=r"refuses \(status 307\)"):
        Client(endpoint(server, retries=0)).ask(calls(1))
    assert len(server.asked) == 4


@pytest.mark.parametrize("key", ["sk-\N{EURO SIGN}" + KEY, f"{KEY}\nX-Other: 1"])
def test_a_key_that_no_header_takes_is_a_sentence_without_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(UserError, match="The key in SOME_KEY holds a character that no header takes") as caught:
        Client(Endpoint(model="m", base_url="http://127.0.0.1:9/v1", api_key_env="SOME_KEY")).ask(calls(1))
    assert KEY[:8] not in str(caught.value)
