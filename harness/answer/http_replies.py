"""HTTP to model endpoints, the one place where their bytes enter: each request has a deadline, each body a size."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import zlib
from functools import cache
from typing import Any, NamedTuple

import httpx

from harness.errors import UserError
from harness.recipe.endpoint import Endpoint
from harness.store.redaction import shown_address

LARGEST_BODY = 16 * 2**20
"""Bytes of a reply, decompressed. An answer of 16,000 tokens with five log-probabilities each has fewer."""

OPENAI = "https://api.openai.com/v1"

_PLAIN = ("", "identity")
_COMPRESSED = ("gzip", "x-gzip", "deflate")
_MOST_REDIRECTS = 3
_ZLIB_OR_GZIP = zlib.MAX_WBITS | 32


class BodyError(Exception):
    """A body that is not read on. The message says why, for the user."""


class HttpReply(NamedTuple):
    """A reply that was read to its end.

    Attributes:
        status: of HTTP.
        headers: of the reply.
        body: its bytes, decompressed.
    """

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status says that all went well."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none, or is no UTF-8.
            RecursionError: it is nested too deeply.
        """
        return json.loads(self.body)

    def json_or_text(self) -> Any:
        """The body as JSON, or as text if it is none."""
        try:
            return self.json()
        except (ValueError, RecursionError):
            return self.body.decode("utf-8", "replace")


class Address(NamedTuple):
    """Where an endpoint is: its address without the query, and the parameters that every request carries."""

    base: str
    parameters: httpx.QueryParams


def address_of(endpoint: Endpoint) -> Address:
    """What an endpoint's ``base_url`` states; the key of some providers is a parameter of it.

    Raises:
        UserError: it is no address.
    """
    text = endpoint.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise UserError(
            f"base_url {shown_address(text)!r} of the model {endpoint.model!r} is no address: write it as "
            "http://HOST:PORT/v1"
        ) from None
    return Address(str(url.copy_with(query=None, fragment=None)).rstrip("/"), url.params)


def http_client(endpoint: Endpoint) -> httpx.AsyncClient:
    """A client for one request after the other, which carry the endpoint's key and parameters. :func:`send` has the
    deadline.

    Raises:
        UserError: ``base_url`` is no address.
    """
    address, key = address_of(endpoint), os.environ.get(endpoint.api_key_env, "").strip()
    headers = {"accept": "application/json", "accept-encoding": "gzip, deflate"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    for header, variable in (("openai-organization", "OPENAI_ORG_ID"), ("openai-project", "OPENAI_PROJECT_ID")):
        if value := os.environ.get(variable, "").strip():
            headers[header] = value
    return httpx.AsyncClient(
        base_url=address.base,
        params=address.parameters,
        headers=headers,
        timeout=None,
        verify=_certificates(),
    )


@cache
def _certificates() -> ssl.SSLContext:
    """Those that are trusted; to read them takes longer than a question."""
    return httpx.create_ssl_context()


async def send(client: httpx.AsyncClient, method: str, path: str, *, seconds: float, content: Any = None) -> HttpReply:
    """Send one request and read its reply to the end.

    Args:
        client: of the endpoint.
        method: ``GET`` or ``POST``.
        path: below the endpoint's address.
        seconds: that all of it can take, from the first byte sent to the last byte read.
        content: JSON to send.

    Raises:
        TimeoutError: the time is over.
        BodyError: the body is too large, or compressed in another way than was asked for.
        httpx.HTTPError: the connection failed.
    """
    async with asyncio.timeout(seconds):
        request, redirects = client.build_request(method, path, json=content), 0
        while True:
            response = await client.send(request, stream=True)
            try:
                following = response.next_request
                if following is None or following.method != method or redirects == _MOST_REDIRECTS:
                    return HttpReply(response.status_code, response.headers, await _body(response))
            finally:
                await response.aclose()
            request, redirects = following, redirects + 1


async def _body(response: httpx.Response) -> bytes:
    """The bytes of a body, decompressed piece by piece."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in (*_PLAIN, *_COMPRESSED):
        raise BodyError(f"its body is compressed as {encoding[:20]!r}, and gzip was asked for")
    unpack = _Unpacking() if encoding in _COMPRESSED else None
    parts: list[bytes] = []
    left = LARGEST_BODY
    async for raw in response.aiter_raw():
        parts.append(raw if unpack is None else unpack.feed(raw, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise BodyError(f"its body is larger than {LARGEST_BODY // 2**20} MiB")
    return b"".join(parts)


class _Unpacking:
    """Decompresses gzip (of one member or of several) and deflate (with zlib's header or without)."""

    def __init__(self) -> None:
        self._unpack = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._began = False

    def feed(self, data: bytes, most: int) -> bytes:
        """The bytes that these stand for, no more than asked for.

        Raises:
            BodyError: they are not compressed so.
        """
        parts: list[bytes] = []
        try:
            while data and most > 0:
                if self._unpack.eof:
                    self._unpack = zlib.decompressobj(_ZLIB_OR_GZIP)
                parts.append(self._some(data, most))
                most -= len(parts[-1])
                data = self._unpack.unused_data if self._unpack.eof else self._unpack.unconsumed_tail
        except zlib.error:
            raise BodyError("its body cannot be decompressed") from None
        return b"".join(parts)

    def _some(self, data: bytes, most: int) -> bytes:
        began, self._began = self._began, True
        try:
            return self._unpack.decompress(data, most)
        except zlib.error:
            if began:
                raise
        self._unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate without zlib's header, as some servers send it
        return self._unpack.decompress(data, most)
