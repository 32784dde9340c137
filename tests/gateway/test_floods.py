"""Who sends as fast as bytes go is taken in a little at a time, is told why it is closed, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import connect, greeted


def frame(data: bytes, opcode: int = 1) -> bytes:
    """Spell a client's frame, masked with zeros."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + data


def said(op: str, **fields: Any) -> bytes:
    return frame(json.dumps({"op": op, **fields}).encode())


async def test_frames_that_come_all_at_once_are_all_answered_in_their_order(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        client.transport.write(b"".join(said("ping", id=number) for number in range(1900)))
        answers = [await client.next() for _ in range(1900)]
        assert [answer["id"] for answer in answers] == list(range(1900))


async def test_frames_that_come_with_the_handshake_are_answered_too(house: Running) -> None:
    async with connect(house.url) as client:
        client.transport.write(said("hello", token=house.token()) + b"".join(said("ping", id=n) for n in range(1500)))
        assert (await client.next())["op"] == "welcome"
        answers = [await client.next() for _ in range(1500)]
        assert answers[-1]["id"] == 1499


async def test_a_frame_of_many_slices_arrives_whole(house: Running) -> None:
    async with greeted(house.url, house.token()) as client:
        text = "0123456789" * 40_000
        answer = await client.append("s1", {"type": "app.note", "text": text}, id="e1")
        assert answer["op"] == "appended"
        await client.open("s1")
        events = await client.until_events(lambda events: any(event["type"] == "app.note" for event in events))
        assert [event["body"]["text"] for event in events if event["type"] == "app.note"] == [text]


@pytest.mark.parametrize("flood", [frame(b"", 9), said("ping", id=1), frame(b"{")])
async def test_others_are_answered_while_somebody_sends_what_it_can(start: Start, flood: bytes) -> None:
    async with (
        start(limit=["connection.refusals=0.01/5"]) as house,
        greeted(house.url, house.token("user:eve")) as eve,
        greeted(house.url, house.token("user:bob")) as bob,
    ):
        transport = eve.transport
        transport.write(flood * (2_000_000 // len(flood)))
        for _ in range(20):
            assert (await bob.ask("ping"))["op"] == "pong"
        transport.abort()  # what it has not got rid of by now would be waited for


async def test_who_is_closed_in_the_middle_of_a_flood_is_told_why(start: Start) -> None:
    limits = ["connection.operations=0.01/5", "connection.refusals=0.01/5"]
    async with start(limit=limits) as house, greeted(house.url, house.token()) as eve:
        eve.transport.write(said("ping", id=1) * 100_000)
        assert await eve.closed() == 4411


async def test_what_follows_a_frame_that_is_too_large_is_taken_slowly(house: Running) -> None:
    """At 25 MB a second at most, for the two seconds in which the client may close too: not as fast as it comes."""
    loop, sent = asyncio.get_running_loop(), 0
    async with greeted(house.url, house.token()) as client:
        number = os.dup(client.transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=number) as raw, contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30):
                await loop.sock_sendall(raw, b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0")
                while True:
                    await loop.sock_sendall(raw, bytes(1 << 20))
                    sent += 1 << 20
        assert await client.closed() == 4502
    assert sent < 100_000_000


async def test_a_body_that_does_not_say_its_length_is_refused_while_others_before_it_are_not_paid_off(
    start: Start,
) -> None:
    async def much() -> Any:
        for _ in range(20):
            yield b"[" + b"0 " * 5000
            await asyncio.sleep(0)

    async with start(limit=["participant.bytes=1/1000"]) as house:
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with aiohttp.ClientSession(house.url, headers=headers) as http:

            async def status() -> int:
                async with http.post("/v1/sessions/s1/events", data=much()) as answer:
                    return answer.status

            assert await status() == 400
            assert await status() == 429


@pytest.mark.parametrize("header", ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
async def test_a_handshake_in_no_letters_is_refused_and_no_failure_of_ours(house: Running, header: str) -> None:
    names = {"Upgrade": b"websocket", "Connection": b"Upgrade", "Sec-WebSocket-Key": b"AQ==", header: b"Upgr)\xb0e"}
    address = URL(house.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in names.items())
    writer.write(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n")
    answer = await reader.readline()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400"), answer
