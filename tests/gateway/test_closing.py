"""Whoever is closed hears once why, and nothing behind it, whoever closes it and whyever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from session_fabric import Fabric
from session_fabric_gateway import codes
from session_fabric_gateway.codes import Close
from structlog.testing import capture_logs

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import SUBPROTOCOL
from tests.gateway.test_doorway import UPGRADE, Raw, client_frame, raw

CLOSE = 8


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs
    assert [line for line in logs if line["event"] in ("connection_failed", "request_failed")] == []


class Frame(NamedTuple):
    opcode: int
    data: bytes


def frames_in(data: bytes) -> list[Frame]:
    """Return what a gateway has sent, which it does not mask."""
    found = []
    while data:
        size, at = data[1], 2
        assert size < 128, "a server masks nothing"
        if size > 125:
            at += 2 if size == 126 else 8
            size = int.from_bytes(data[2:at], "big")
        found.append(Frame(data[0] & 15, data[at : at + size]))
        data = data[at + size :]
    return found


def said(op: str, **fields: Any) -> bytes:
    return client_frame(json.dumps({"op": op, **fields}).encode())


def plain(data: bytes, opcode: int = 1) -> bytes:
    """Spell a frame as no client may: not masked."""
    return bytes([0x80 | opcode, len(data)]) + data


@asynccontextmanager
async def upgraded(house: Running, head: str = UPGRADE) -> AsyncIterator[Raw]:
    async with raw(house) as client:
        client.write(f"{head}\r\n")
        assert " 101 " in (await client.reader.readuntil(b"\r\n\r\n")).decode()
        yield client


def only_close(data: bytes) -> tuple[int, str]:
    """Return code and reason of the one close frame, behind which there is nothing."""
    frames = frames_in(data)
    assert [at for at, frame in enumerate(frames) if frame.opcode == CLOSE] == [len(frames) - 1]
    return int.from_bytes(frames[-1].data[:2], "big"), frames[-1].data[2:].decode()


BROKEN: dict[str, tuple[bytes, Close]] = {
    "too large": (b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0", codes.BAD_FRAME),
    "larger than can be": (b"\x81\xff" + (1 << 63).to_bytes(8, "big") + b"\0\0\0\0", codes.BAD_FRAME),
    "too large in parts": (
        client_frame(b"x", first=0) + b"\x80\xff" + (9 << 20).to_bytes(8, "big") + b"\0\0\0\0",
        codes.BAD_FRAME,
    ),
    "not masked": (plain(b'{"op":"ping","id":1}'), codes.NO_FRAME),
    "a ping that is not masked": (plain(b"", 9), codes.NO_FRAME),
    "a close that is not masked": (plain(b"\x03\xe8", 8), codes.NO_FRAME),
    "a reserved bit": (client_frame(b"{}", first=0xA0), codes.NO_FRAME),
    "an unknown opcode": (client_frame(b"{}", 3), codes.NO_FRAME),
    "the rest of nothing": (client_frame(b"{}", 0), codes.NO_FRAME),
    "a close with a code that is none": (client_frame((1004).to_bytes(2, "big"), 8), codes.NO_FRAME),
    "a close that is not UTF-8": (client_frame(b"\x03\xe8\xff", 8), codes.BAD_FRAME),
    "binary": (client_frame(b"{}", 2), codes.BAD_FRAME),
    "no UTF-8": (client_frame(b"\xff"), codes.BAD_FRAME),
    "refused too often": (said("fly") * 100, codes.TOO_MANY_REFUSED),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("polite", [False, True], ids=["and says nothing more", "and closes, too"])
async def test_who_breaks_the_rules_hears_once_why(
    house: Running, agent: Fabric, logged: list[Any], what: str, polite: bool
) -> None:
    """Though what it reads goes on all the time."""
    bad, close = BROKEN[what]
    session = agent.session("s1")
    await session.append({"type": "app.first"})
    async with upgraded(house) as client:
        client.write(said("hello", token=house.token()) + said("open", id=1, session="s1"))
        async with asyncio.TaskGroup() as group:
            going_on = group.create_task(goes_on(session))
            await until(client, b'"opened"')
            client.write(bad)
            if polite:
                client.write(client_frame(close.code.to_bytes(2, "big"), 8))
            heard = await client.ended()
            going_on.cancel()
    assert only_close(heard) == (close.code, close.reason)
    assert [line["code"] for line in logged if line["event"] == "peer_closed"] == [close.code]


@pytest.mark.parametrize("what", ["too large", "not masked", "binary"])
async def test_so_does_who_has_lanes(house: Running, agent: Fabric, what: str) -> None:
    bad, close = BROKEN[what]
    session = agent.session("s1")
    await session.append({"type": "app.first"})
    async with upgraded(house, UPGRADE.replace(SUBPROTOCOL, codes.LANES)) as client:
        for number in (b"1", b"2"):
            client.write(client_frame(number) + said("hello", token=house.token()) + said("open", id=1, session="s1"))
        async with asyncio.TaskGroup() as group:
            going_on = group.create_task(goes_on(session))
            await until(client, b'"opened"')
            await until(client, b'"opened"')
            client.write(bad)
            heard = await client.ended()
            going_on.cancel()
    assert only_close(heard) == (close.code, close.reason)


@pytest.mark.parametrize("what", ["too large", "not masked", "binary"])
async def test_so_does_a_front_ends_socket(house: Running, what: str) -> None:
    bad, close = BROKEN[what]
    head = UPGRADE.replace("/v1/ws", "/v1/ai-sdk/ws").partition("Sec-WebSocket-Protocol")[0]
    async with upgraded(house, f"{head}Authorization: Bearer {house.token()}\r\n") as client:
        client.write(bad)
        assert only_close(await client.ended()) == (close.code, close.reason)


@pytest.mark.parametrize("what", ["too large", "not masked"])
async def test_a_gateway_that_stops_says_nothing_more_to_who_has_heard_why(start: Start, what: str) -> None:
    bad, close = BROKEN[what]
    async with start() as house, upgraded(house) as client:
        client.write(said("hello", token=house.token()))
        await until(client, b'"welcome"')
        client.write(bad)
        heard = await client.reader.readexactly(4 + len(close.reason))
        await house.gateway.drain()
        heard += await client.ended()
    assert only_close(heard) == (close.code, close.reason)


@pytest.mark.parametrize("polite", [False, True], ids=["and says nothing more", "and closes, too"])
async def test_who_is_sent_away_when_the_gateway_stops_hears_so_once(start: Start, polite: bool) -> None:
    async with start() as house, upgraded(house) as client:
        client.write(said("hello", token=house.token()))
        await until(client, b'"welcome"')
        async with asyncio.TaskGroup() as group:
            group.create_task(house.gateway.drain())
            await until(client, b'"moved"')
            if polite:
                client.write(client_frame(b"\x03\xe8", 8))
            heard = await client.ended()
    assert only_close(heard)[0] in ((1000, 1001) if polite else (1001,))


async def test_who_closes_is_answered_once(house: Running) -> None:
    async with upgraded(house) as client:
        client.write(said("hello", token=house.token()))
        await until(client, b'"welcome"')
        client.write(client_frame(b"\x03\xe8", 8))
        assert only_close(await client.ended())[0] == 1000


async def goes_on(session: Any) -> None:
    while True:
        await session.append({"type": "app.more"})


async def until(client: Raw, text: bytes) -> None:
    """Read up to the end of a frame that has this in it."""
    async with asyncio.timeout(10):
        while True:
            head = await client.reader.readexactly(2)
            size = head[1]
            if size > 125:
                size = int.from_bytes(await client.reader.readexactly(2 if size == 126 else 8), "big")
            if text in await client.reader.readexactly(size):
                return
