"""Requests as nobody's client sends them: good ones, mutated in their head, their body, their framing."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from random import Random
from typing import Final, NamedTuple
from urllib.parse import quote

import orjson

from tests.fuzz.asked import MESSAGE, OFFSET
from tests.fuzz.living import Living
from tests.fuzz.mutations import TEXTS, mutated_bytes, mutated_json

_PATIENCE_S: Final = 0.5
_MOST_HEAD: Final = 64 * 1024
# What a parser of HTTP refuses with, and what this one does; 503 with a code.
_STATUSES: Final = frozenset(
    {200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 410, 411, 413, 415, 416, 417, 426, 429, 501, 503, 505}
)


class Request(NamedTuple):
    method: str
    path: str
    body: object = None
    headers: tuple[tuple[str, str], ...] = ()


_ONE: Final = "/v1/sessions/chat-1"
REQUESTS: Final = (
    Request("POST", "/v1/sessions", {"session": "chat-1", "labels": {"a": "b"}, "participants": ["user:bob"]}),
    Request("GET", "/v1/sessions?limit=10"),
    Request("GET", _ONE),
    Request("DELETE", "/v1/sessions/chat-2"),
    Request("POST", "/v1/tickets", {}),
    Request("POST", "/v1/refresh", {"token": "a.b.c"}),
    Request("POST", f"{_ONE}/events", {"id": "e1", "body": MESSAGE}),
    Request("POST", f"{_ONE}/events", {"body": {"type": "app.x", "n": [1, {"a": None}]}, "since": OFFSET}),
    Request("GET", f"{_ONE}/events?after=start&limit=100&view=messages"),
    Request("GET", f"{_ONE}/events?before=tail&limit=2"),
    Request("GET", f"{_ONE}/events?live=long-poll&timeout_ms=0&after={OFFSET}"),
    Request("GET", f"{_ONE}/events?live=sse", headers=(("Last-Event-ID", OFFSET),)),
    Request("GET", f"{_ONE}/events?live=sse&after=tail&view=messages", headers=(("Accept", "text/event-stream"),)),
    Request("GET", f"{_ONE}/events?live=sse&ticket=abc"),
    Request("POST", f"{_ONE}/control", {"run": "r1", "action": "cancel", "deadline_ms": 100, "body": {}}),
    Request("POST", f"{_ONE}/fork", {"at": OFFSET, "session": "fork-1"}),
    Request("GET", f"{_ONE}/messages?limit=5&branch=visible"),
    Request("GET", f"{_ONE}/presence"),
    Request("GET", f"{_ONE}/state/plan"),
    Request("PUT", f"{_ONE}/state/plan", {"body": {"step": 1}, "revision": 0}),
    Request("GET", f"{_ONE}/requests"),
    Request("POST", f"{_ONE}/participants", {"participant": "user:bob"}),
    Request("GET", "/openapi.json"),
    Request("GET", "/healthz"),
    Request("GET", "/metrics"),
    Request("OPTIONS", _ONE, headers=(("Origin", "https://app.example"), ("Access-Control-Request-Method", "PUT"))),
    Request("GET", "/v1/ws", headers=(("Upgrade", "websocket"), ("Connection", "Upgrade"))),
)  # fmt: skip
_HEADERS: Final = (
    ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "gzip, chunked"), ("Content-Length", "-1"),
    ("Content-Length", "9" * 30), ("Content-Length", "1, 1"), ("Content-Encoding", "gzip"), ("Expect", "100-continue"),
    ("Expect", "x"), ("Connection", "close"), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
    ("Origin", "null"), ("Origin", "https://[::1"), ("Host", "[::1"), ("Host", ""), ("Cookie", 'sf="\\073"; a=b;;='),
    ("Content-Type", "text/plain; charset=utf-16"), ("Content-Type", "application/json; charset=nonsense"),
    ("Content-Type", "multipart/form-data"), ("X-Forwarded-For", "1.2.3.4, [::1"), ("Accept", "*/*;q=nan"),
    ("Authorization", "Bearer \udcff\udcfe"), ("Authorization", "Bearer " + "a." * 3000), ("Authorization", "Basic x"),
    ("Last-Event-ID", "\udcff"), ("Range", "bytes=0-1,5-"), ("If-Modified-Since", "now"), ("X", "y" * 9000),
)  # fmt: skip


def spelled(one: Living, random: Random) -> bytes:
    """Spell a request that is nearly good."""
    asked = random.choice(REQUESTS)
    path = _path(random, asked.path)
    headers = [("Host", "x"), *asked.headers]
    if random.random() < 0.85:
        headers.append(("Authorization", f"Bearer {one.token(random.choice(('user:ada', 'agent:w', 'operator:eve')))}"))
    if random.random() < 0.3:
        headers.insert(random.randint(0, len(headers)), random.choice(_HEADERS))
    body = b""
    if asked.body is not None:
        body = orjson.dumps(asked.body)
        if random.random() < 0.7:
            body = mutated_json(random, body)
        if random.random() < 0.2:
            body = mutated_bytes(random, body)
        if random.random() < 0.75:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        else:
            headers.append(("Transfer-Encoding", "chunked"))
            body = _chunks(random, body)
    lines = [f"{asked.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"
    if random.random() < 0.25:
        head = mutated_bytes(random, head)
    return head + body


def _path(random: Random, path: str) -> str:
    """Change what lies between the signs of a path or query, percent-escaped as it should be, or not."""
    if random.random() < 0.4:
        return path
    parts = re.split(r"([/?&=])", path)
    at = random.randrange(len(parts))
    text = random.choice(TEXTS)
    match random.randrange(4):
        case 0:
            parts[at] = quote(text, errors="surrogatepass")
        case 1:
            parts[at] += random.choice(("%00", "%ff", "%2F", "%2e%2e", "%", "%zz", "%ed%a0%80", "%25", "+", ";", "#"))
        case 2:
            parts[at] = quote(text[:200], safe="", errors="surrogatepass")
        case _:
            parts.append(random.choice(("&after=start", "?limit=01", "&limit=1&limit=2", "&" * 60, "?=", "&x")))
    return "".join(parts)


def _chunks(random: Random, body: bytes) -> bytes:
    """Spell a body in chunks, at times wrongly."""
    cut = random.randint(0, len(body))
    out = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:]) if part)
    match random.randrange(6):
        case 0:
            return out + random.choice(
                (b"-1\r\n", b"fffffffffffffffffff\r\n", b"0x5\r\n", b"\r\n", b"5;a=" + b"b" * 9000)
            )
        case 1:
            return out + b"0\r\nTrailer: x\r\n" + b"A: b\r\n" * random.choice((1, 300)) + b"\r\n"
        case _:
            return out + b"0\r\n\r\n"


async def attempt(one: Living, random: Random) -> None:
    """Send some requests on one connection. Raises `AssertionError` for an answer that no client should get."""
    reader, writer = await asyncio.open_connection(*one.address, limit=2**24)
    try:
        for _ in range(random.randint(1, 4)):
            with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    writer.write(spelled(one, random))
                    await writer.drain()
                    if await _answered(one, reader):
                        continue
            return
    finally:
        writer.transport.abort()


async def _answered(one: Living, reader: asyncio.StreamReader) -> bool:
    """Read one answer; say whether another may be asked for."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert len(head) < _MOST_HEAD
    first, *lines = head[:-4].decode("ascii").split("\r\n")
    # aiohttp answers in the version in which it was asked.
    found = re.fullmatch(r"HTTP/(?:0\.9|1\.[01]|2\.0) (\d{3}) [ -~]*", first)
    assert found, f"an answer begins with {first!r}"
    status = int(found[1])
    if status in (100, 101):
        return status == 100 and await _answered(one, reader)
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert status in _STATUSES, f"answered with {first!r}"
    if "content-length" not in headers:
        if status == 204:
            return True
        assert headers["content-type"].startswith("text/event-stream"), headers
        await reader.readuntil(b"\n\n")
        return False
    body = await reader.readexactly(int(headers["content-length"]))
    if status >= 400:
        assert headers["content-type"].startswith("application/problem+json"), headers
        told = orjson.loads(body)
        one.told(told["code"], len(body), told)
        assert told["status"] == status, told
    elif headers["content-type"].startswith("application/json"):
        orjson.loads(body)
    return headers.get("connection", "").lower() != "close"
