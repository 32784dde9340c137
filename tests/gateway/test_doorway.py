"""Whoever is too slow, too much or no client at all is cut or refused, costs nothing afterwards, and hinders nobody."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
from session_fabric import Fabric
from session_fabric.rules.rates import Rate
from session_fabric_gateway.accounts import Accounts
from session_fabric_gateway.allowances import Allowances, OfAddress
from session_fabric_gateway.doorway import Doorway
from session_fabric_gateway.metrics import Metrics
from session_fabric_gateway.strangers import MOST_HEAD_BYTES, Cut, Pace
from structlog.testing import capture_logs
from yarl import URL

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import SUBPROTOCOL, greeted
from tests.support.waiting import eventually

UPGRADE = (
    "GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
)


class Entrant:
    """A connection that comes in; `went`: why it had to go."""

    def __init__(self) -> None:
        self.went: list[Cut] = []

    def cut(self, why: Cut) -> None:
        self.went.append(why)


def test_whoever_comes_is_let_in_in_the_place_of_another_or_refused() -> None:
    address = OfAddress(connections=Rate(0.001, 3), strangers=2, requests=None)
    accounts = Accounts(Allowances(address=address), lambda _: None)
    door = Doorway(accounts, Metrics(), (), Pace(), {})
    several = [Entrant() for _ in range(4)]
    # In its place: that costs two connections' work, of which few are done in one turn of the loop.
    assert [door.knocks(one, ("192.0.2.1", 1)) for one in several] == ["free", "free", "made", "none"]
    assert [one.went for one in several] == [["address_strangers"], [], [], []]
    assert door.knocks(Entrant(), ("192.0.2.2", 1)) == "free"


class Raw:
    """A connection on which a test writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: str | bytes) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Return an answer's status, headers in lower case, and JSON."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers, json.loads(body) if body else None

    async def ended(self) -> bytes:
        """Return what comes until the other side ends it."""
        try:
            async with asyncio.timeout(10):
                return await self.reader.read()
        except ConnectionError:
            return b""


@asynccontextmanager
async def raw(house: Running) -> AsyncIterator[Raw]:
    host, port = house.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


def cuts(house: Running, reason: str) -> float:
    return house.gateway.metrics.cuts.labels(reason)._value.get()  # type: ignore[no-any-return]


def client_frame(data: bytes, opcode: int = 1, first: int = 0x80) -> bytes:
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([first | opcode]) + length + b"\0\0\0\0" + data


# --- too slow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["", "G", "GET /healthz HTTP/1.1\r\nHost: x\r\n", UPGRADE])
async def test_a_head_that_does_not_come_to_its_end_is_cut_while_others_are_served(start: Start, head: str) -> None:
    async with start(head_s=0.3) as house, greeted(house.url, house.token()) as good, raw(house) as slow:
        slow.write(head)
        await good.open("s1")
        assert await slow.ended() == b""
        assert (await good.ask("ping"))["op"] == "pong"
        assert cuts(house, "slow_head") == 1
        await eventually(lambda: len(house.gateway.door) == 1)


async def test_a_head_behind_a_stream_that_has_ended_is_looked_after_as_any(start: Start, agent: Fabric) -> None:
    session = agent.session("s1")
    await session.append({"type": "app.note"})
    await session.close()
    async with start(head_s=0.3) as house, raw(house) as slow:
        token = house.token("operator:eve")
        ask = "GET /v1/sessions/s1/stream?offset=-1&live=sse HTTP/1.1\r\nHost: x\r\n"
        slow.write(f"{ask}Authorization: Bearer {token}\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"200" in await slow.reader.readuntil(b"\r\n\r\n")
            await slow.reader.readuntil(b"0\r\n\r\n")
        slow.write("GET /healthz HTTP/1.1\r\nHost:")
        assert await slow.ended() == b""
        assert cuts(house, "slow_head") == 1


async def test_a_head_that_comes_byte_by_byte_is_cut(start: Start) -> None:
    async with start(head_s=0.5) as house, raw(house) as slow:
        slow.write(f"{UPGRADE}X-A: ")

        def one_more() -> bool:
            slow.write("b")
            return cuts(house, "slow_head") == 1

        await eventually(one_more)


async def test_hundreds_of_slow_connections_are_let_go_of_with_all_that_they_hold(start: Start) -> None:
    async with start(head_s=0.5) as house, greeted(house.url, house.token()) as good:
        before = len(os.listdir("/proc/self/fd"))
        there = []
        for _ in range(300):
            reader, writer = await asyncio.open_connection(*house.url.removeprefix("http://").split(":"))
            writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nX-")
            there.append(Raw(reader, writer))
        assert (await good.ask("ping"))["op"] == "pong"
        for one in there:
            assert await one.ended() == b""
            one.writer.close()
        await eventually(lambda: len(house.gateway.door) == 1 and len(house.gateway.door.strangers) == 0)
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert cuts(house, "slow_head") == 300


async def test_a_body_that_comes_too_slowly_is_refused_and_its_connection_ended(start: Start) -> None:
    async with start(head_s=0.3) as house, raw(house) as slow, greeted(house.url, house.token()) as good:
        head = f"POST /v1/sessions/s1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.token()}\r\n"
        slow.write(f'{head}Content-Length: 1000\r\n\r\n{{"body":')
        status, _, problem = await slow.answer()
        assert (status, problem["code"], problem["retryable"]) == (408, "too_slow", True)
        assert await slow.ended() == b""
        assert cuts(house, "slow_body") == 1
        assert (await good.ask("ping"))["op"] == "pong"


async def test_a_body_that_a_stranger_sends_is_not_waited_for(start: Start) -> None:
    async with start() as house, raw(house) as stranger:
        stranger.write("POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        assert (await stranger.answer())[0] == 401


async def test_a_client_that_does_not_take_its_answer_is_cut(start: Start, agent: Fabric) -> None:
    session = agent.session("s1")
    for _ in range(35):
        await session.append({"type": "app.bulk", "text": "x" * 200_000})
    async with start(head_s=0.5) as house:
        host, port = house.url.removeprefix("http://").split(":")
        with sockets.socket() as slow:
            slow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
            slow.connect((host, int(port)))
            head = f"GET /v1/sessions/s1/events?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.token()}"
            slow.sendall(f"{head}\r\n\r\n".encode())
            await eventually(lambda: cuts(house, "slow_reader") == 1)
        await eventually(lambda: len(house.gateway.door) == 0)


async def test_whoever_is_known_may_keep_an_idle_connection_and_a_stranger_may_not(start: Start) -> None:
    async with start(head_s=0.3) as house, raw(house) as known:
        ask = f"GET /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.token()}\r\n\r\n"
        known.write(ask)
        assert (await known.answer())[0] == 200
        async with raw(house) as stranger:
            stranger.write("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stranger.answer())[0] == 200
            assert await stranger.ended() == b""
        known.write(ask)
        assert (await known.answer())[0] == 200


# --- too many -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["address", "gateway"])
async def test_for_one_stranger_too_many_the_oldest_is_cut_so_that_who_is_in_earnest_gets_in(
    start: Start, scope: str
) -> None:
    async with start(limit=[f"{scope}.strangers=5"]) as house, greeted(house.url, house.token()) as before:
        silent = [await asyncio.open_connection(*house.url.removeprefix("http://").split(":")) for _ in range(20)]
        async with greeted(house.url, house.token()) as after:
            assert (await after.ask("ping"))["op"] == "pong"
        assert (await before.ask("ping"))["op"] == "pong"
        assert cuts(house, f"{scope}_strangers") == 16
        assert len(house.gateway.door.strangers) <= 5
        for _, writer in silent:
            writer.close()


async def test_sockets_of_a_trusted_proxy_are_strangers_of_the_address_that_it_names(start: Start) -> None:
    async with (
        start(limit=["address.strangers=1"], trusted_proxy=["127.0.0.0/8"]) as house,
        raw(house) as eve,
        raw(house) as bob,
        raw(house) as eve_again,
    ):
        for one, address in ((eve, "198.51.100.1"), (bob, "198.51.100.2"), (eve_again, "198.51.100.1")):
            one.write(f"{UPGRADE}X-Forwarded-For: {address}\r\n\r\n")
            await one.reader.readuntil(b"\r\n\r\n")
        assert await eve.ended() == b""
        assert len(house.gateway.door.strangers) == 2
        bob.write(client_frame(json.dumps({"op": "hello", "token": house.token()}).encode()))
        assert b"welcome" in await bob.reader.readuntil(b"}")


# --- too much, or no request at all -------------------------------------------------------------------


async def test_a_head_without_end_is_cut(house: Running) -> None:
    async with raw(house) as endless:
        endless.write("GET / HTTP/1.1\r\n")
        sent = 0
        try:
            while not cuts(house, "long_head") and sent < 10 * MOST_HEAD_BYTES:
                endless.write(f"X-{sent}: {'x' * 1000}\r\n")
                sent += 1000
                await endless.writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        assert sent < 4 * MOST_HEAD_BYTES  # it is refused for its many headers, or cut


async def test_a_first_frame_without_end_is_cut(house: Running) -> None:
    async with raw(house) as endless:
        endless.write(UPGRADE + "\r\n")
        await endless.reader.readuntil(b"\r\n\r\n")
        endless.write(b"\x81\xff" + (8_000_000).to_bytes(8, "big") + b"\0\0\0\0")
        for _ in range(40):
            endless.write(b" " * 10_000)
        assert await endless.ended() == b""
        assert cuts(house, "long_head") == 1


@pytest.mark.parametrize(
    "head",
    [
        f"GET /{'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-Secret: {'s3cret' * 2000}\r\n\r\n",
        "GET / HTTP/1.1\r\n" + "".join(f"X-{n}: s3cret\r\n" for n in range(200)) + "\r\n",
        "GET / HTTP/9.9\r\nHost: s3cret\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nBad Header: s3cret\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n folded: s3cret\r\n\r\n",
        "s3cret\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01s3cret\r\n\r\n",
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\ns3cret",
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\ns3cret",
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\ns3cret",
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\ns3cret",
    ],
)
async def test_what_is_no_request_is_answered_with_a_problem_and_quoted_nowhere(
    house: Running, head: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with raw(house) as odd:
        odd.write(head.encode("latin-1"))
        status, headers, problem = await odd.answer()
        assert (status, problem["code"]) == (400, "invalid_request")
        assert headers["content-type"] == "application/problem+json"
        assert headers["x-content-type-options"] == "nosniff"
        assert "s3cret" not in json.dumps(problem)
        assert await odd.ended() == b""
    captured = capsys.readouterr()
    assert "s3cret" not in captured.out + captured.err + caplog.text


async def test_a_body_is_refused_by_its_announced_length_before_it_comes(house: Running) -> None:
    async with raw(house) as big:
        head = f"POST /v1/sessions/s1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.token()}\r\n"
        big.write(f"{head}Content-Length: 90000000\r\n\r\n")
        status, _, problem = await big.answer()
        assert (status, problem["code"], problem["limit"]) == (413, "too_large", 8 * 1024 * 1024)


async def test_who_sends_a_refused_body_to_its_end_still_reads_why(house: Running) -> None:
    length = 16 * 1024 * 1024
    async with raw(house) as big:
        head = f"POST /v1/sessions/s1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.token()}\r\n"
        big.write(f"{head}Content-Length: {length}\r\n\r\n")
        for _ in range(length // 65_536):
            big.write(b"x" * 65_536)
            await big.writer.drain()
        status, _, problem = await big.answer()
        assert (status, problem["code"]) == (413, "too_large")
        assert await big.ended() == b""
    assert cuts(house, "long_head") == 0


async def test_a_body_in_chunks_is_refused_when_it_grows_too_large(start: Start) -> None:
    async with start() as house, aiohttp.ClientSession(house.url) as http:

        async def body() -> AsyncIterator[bytes]:
            yield b'{"body":{"type":"app.n","text":"'
            for _ in range(200):
                yield b"x" * 100_000

        headers = {"Authorization": f"Bearer {house.token()}"}
        async with http.post("/v1/sessions/s1/events", data=body(), headers=headers) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (413, "too_large")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "identity, gzip"])
async def test_a_compressed_body_is_never_unpacked(house: Running, http: aiohttp.ClientSession, encoding: str) -> None:
    bomb = gzip.compress(b'{"body":{"type":"app.n","text":"' + b" " * 50_000_000 + b'"}}')
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    async with http.post("/v1/sessions/s1/events", data=bomb, headers=headers) as response:
        told = await response.json(content_type=None)
        assert (response.status, told["code"]) == (415, "invalid_request")
        assert response.headers["Accept-Encoding"] == "identity"


async def test_frames_are_not_compressed_whatever_a_client_offers(house: Running) -> None:
    async with raw(house) as client:
        client.write(f"{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n")
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert " 101 " in head
        assert "sec-websocket-extensions" not in head
        client.write(client_frame(b"\x00" * 50, first=0xC0))  # says that it is compressed
        close = await client.ended()
        assert (close[0], int.from_bytes(close[2:4], "big")) == (0x88, 1002)


async def test_a_query_of_many_fields_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/sessions?" + "&".join(f"a{n}=1" for n in range(60))) as response:
        told = await response.json(content_type=None)
        assert (response.status, told["code"]) == (400, "invalid_request")
        assert "50" in told["detail"]


# --- headers ------------------------------------------------------------------------------------------

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/sessions", 200),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/sessions", 405),
        ("GET", "/v1/sessions?what=1", 400),
        ("GET", "/v1/sessions/s1/events?live=sse", 200),
        ("GET", "/v1/ws", 400),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/", 200),
        ("GET", "/nothing.js", 404),
    ],
)
async def test_every_answer_has_the_headers_that_protect_a_browser(
    http: aiohttp.ClientSession, agent: Fabric, method: str, path: str, status: int
) -> None:
    await agent.session("s1").append({"type": "app.n"})
    async with http.request(method, path) as response:
        assert response.status == status
        assert {name: response.headers.get(name) for name in SAFE} == SAFE
        policy = response.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy or path == "/"
        assert response.headers["Cache-Control"] == ("no-cache" if path == "/" else "no-store")
        assert response.headers["Server"] == "session-fabric"
        assert "Strict-Transport-Security" not in response.headers


async def test_without_a_token_the_headers_are_the_same(house: Running) -> None:
    async with aiohttp.ClientSession(house.url) as http, http.get("/v1/sessions") as response:
        assert response.status == 401
        assert {name: response.headers.get(name) for name in SAFE} == SAFE


async def test_browsers_are_told_to_use_tls_alone_where_an_operator_says_so(start: Start) -> None:
    async with start(hsts_s=86400) as house, aiohttp.ClientSession(house.url) as http:
        for path in ("/healthz", "/v1/nothing"):
            async with http.get(path) as response:
                assert response.headers["Strict-Transport-Security"] == "max-age=86400; includeSubDomains"


@pytest.mark.parametrize("path", ["/v1/ws", "/v1/sessions", "/v1/sessions/s1/events?live=sse", "/metrics", "/"])
@pytest.mark.parametrize("origin", ["null", "https://evil.example", "http://app.example", "https://app.example:444"])
async def test_pages_of_other_origins_may_use_nothing(start: Start, path: str, origin: str) -> None:
    async with start(allow_origin=["https://app.example"]) as house, aiohttp.ClientSession(house.url) as http:
        headers = {"Origin": origin, "Authorization": f"Bearer {house.token()}"}
        async with http.get(path, headers=headers) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Origin" not in response.headers
        async with http.options(path, headers={**headers, "Access-Control-Request-Method": "GET"}) as response:
            assert response.status == 403


async def test_a_listed_page_may_read_when_to_come_back(start: Start) -> None:
    limits = ["participant.requests=0.01/1"]
    async with start(limit=limits, allow_origin=["https://app.example"]) as house:
        headers = {"Origin": "https://APP.example", "Authorization": f"Bearer {house.token()}"}
        async with aiohttp.ClientSession(house.url, headers=headers) as http:
            for status in (200, 429):
                async with http.get("/v1/sessions") as response:
                    assert response.status == status
            assert response.headers["Access-Control-Allow-Origin"] == "https://APP.example"
            assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


def test_every_reason_for_a_cut_is_on_the_metrics_page() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    row = next(line for line in page.splitlines() if "cuts_total" in line and line.startswith("|"))
    assert set(re.findall(r"`([a-z_]+)`", row)) - {"reason"} == {*get_args(Cut), "session_fabric_gateway_cuts_total"}


async def test_a_head_that_comes_byte_by_byte_is_answered_all_the_same(start: Start) -> None:
    async with start() as house:
        url = URL(house.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


POST = "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n"
CHUNKS = "2\r\n{}\r\n0\r\n\r\n"
ODD: dict[str, tuple[str, int]] = {
    "no version": ("GET /healthz\r\n\r\n", 505),
    "HTTP/0.9": ("GET /healthz HTTP/0.9\r\n\r\n", 505),
    "HTTP/2": ("GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 500, 400),
    "SSH": ("SSH-2.0-OpenSSH_9\r\n", 400),
    "compressed chunks": (f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n{CHUNKS}", 501),
    "compressed chunks in two headers": (
        f"{POST}Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}",
        400,
    ),
    "chunks in two headers": (
        f"{POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKS}",
        400,
    ),
    "chunks of chunks": (f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n{CHUNKS}", 400),
    "chunks that are compressed": (f"{POST}Transfer-Encoding: chunked, gzip\r\n\r\n{CHUNKS}", 400),
    "compressed": (f"{POST}Transfer-Encoding: gzip\r\n\r\n{{}}", 400),
    "chunks of a length": (f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{CHUNKS}", 400),
    "two lengths": (f"{POST}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}", 400),
    "a length below nothing": (f"{POST}Content-Length: -2\r\n\r\n{{}}", 400),
}


@pytest.mark.parametrize("what", ODD)
async def test_what_is_no_request_of_http_1_is_answered_and_its_connection_ends(start: Start, what: str) -> None:
    odd, status = ODD[what]
    with capture_logs() as logs:
        async with start() as house, raw(house) as client:
            client.write(odd.replace("TOKEN", house.token()))
            answered, headers, told = await client.answer()
            assert (answered, told["status"], told["code"]) == (status, status, "invalid_request")
            assert headers["content-type"].startswith("application/problem+json")
            assert await client.ended() == b""
            await eventually(lambda: len(house.gateway.door) == 0)
    assert [line for line in logs if line["event"] in ("connection_failed", "request_failed")] == []


def bearing(house: Running, line: str, rest: str = "\r\n") -> str:
    return f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.token()}\r\n{rest}"


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("GET /healthz", "\r\n"),
        ("POST /v1/sessions", "Content-Length: 2\r\n\r\n{}"),
        ("POST /v1/sessions", "Content-Length: 20\r\n\r\n{}"),
        ("POST /v1/sessions", f"Transfer-Encoding: chunked\r\n\r\n{CHUNKS[:7]}"),
        ("GET /v1/sessions/s1/events?live=sse", "\r\n"),
        ("GET /v1/sessions/s1/events?live=long-poll", "\r\n"),
        ("GET /v1/ws", UPGRADE.partition("Host: x\r\n")[2] + "\r\n"),
        ("GET /v1/ws", UPGRADE.partition("Host: x\r\n")[2]),
        ("", ""),
    ],
)
async def test_who_will_send_nothing_more_has_left(start: Start, line: str, rest: str) -> None:
    """Nobody can tell one who half-closes from one who is gone, and followers who are gone must not stay."""
    with capture_logs() as logs:
        async with start() as house, raw(house) as client:
            client.write(bearing(house, line, rest) if line else "")
            client.writer.write_eof()
            await client.ended()
            await eventually(lambda: len(house.gateway.door) == 0)
    assert [line for line in logs if line["event"] in ("connection_failed", "request_failed")] == []
