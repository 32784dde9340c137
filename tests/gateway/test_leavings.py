"""What has ended is gone at once: what is left to the garbage collector stops everybody when it comes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import yarl
from session_fabric import Fabric
from session_fabric.follow import Follower
from session_fabric_gateway import hub
from session_fabric_gateway.connection import Connection
from session_fabric_gateway.doorway import Visitor
from session_fabric_gateway.feed import Feed

from tests.gateway.conftest import Running
from tests.gateway.sockets import Client, greeted, user_message
from tests.support.waiting import eventually

Left = Callable[[], list[str]]


@pytest.fixture
async def left() -> AsyncIterator[Left]:
    """Say what is there of connections that were begun since, while nothing is collected.

    What was there before is frozen, and so not looked through at each question, which would keep the loop busy.
    """
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        yield lambda: [_described(one) for one in _connections()]
    finally:
        gc.enable()


def _described(one: object) -> str:
    """Name an object, and what holds it."""
    holders = sorted({type(holder).__qualname__ for holder in gc.get_referrers(one)})
    return f"{type(one).__name__} of {', '.join(holders)}"


def _nothing(left: Left) -> bool:
    found = left()
    assert not found, found
    return True


def _connections() -> list[object]:
    kinds = (Connection, Visitor, Feed, Follower)
    return [one for one in gc.get_objects() if type(one) in kinds]


async def vanishes(client: Client) -> None:
    client.vanish()


async def says_goodbye(client: Client) -> None:
    await client.socket.close()


async def breaks_the_rules(client: Client) -> None:
    await client.socket.send_bytes(b"\0")
    assert await client.closed() == 4502


async def breaks_the_rules_and_says_nothing_more(client: Client) -> None:
    client.socket._autoclose = False  # its own close never comes, and the gateway waits for it in vain
    await breaks_the_rules(client)


async def breaks_the_protocol(client: Client) -> None:
    connection = client.socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.write(b"\x81\x02{}")
    assert await client.closed() == 1002


async def asks_in_vain(client: Client) -> None:
    assert (await client.ask("append", session="none of its own"))["op"] == "error"
    assert (await client.ask("close", sub=77))["op"] == "error"
    await client.socket.close()


Ending = Callable[[Client], Awaitable[None]]


@pytest.mark.parametrize(
    "ends",
    [
        vanishes,
        says_goodbye,
        breaks_the_rules,
        breaks_the_rules_and_says_nothing_more,
        breaks_the_protocol,
        asks_in_vain,
    ],
)
async def test_a_connection_that_has_ended_leaves_nothing_to_collect(
    house: Running, agent: Fabric, left: Left, ends: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "LINGER_S", 0.0)
    await agent.session("s1").append({"type": "app.first"})
    async with greeted(house.url, house.token(), deltas="compact") as client:
        await client.open("s1", presence={})
        await client.append("s1", user_message("hello"))
        assert left()
        await ends(client)
        await eventually(lambda: _nothing(left))


async def test_a_connection_that_ends_while_it_is_caught_up_leaves_nothing_to_collect(
    house: Running, agent: Fabric, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "LINGER_S", 0.0)
    session = agent.session("s1")
    for _ in range(80):  # more than the gateway and the kernel keep for who does not read
        await session.append({"type": "app.note", "text": "x" * 200_000})
    async with greeted(house.url, house.token()) as client:
        await client.open("s1", after="start")
        client.stop_reading()
        await eventually(lambda: any(one.outbox.paused for one in _connections() if isinstance(one, Connection)))
        client.vanish()
        await eventually(lambda: _nothing(left))


async def test_requests_that_nobody_waits_for_leave_nothing_to_collect(house: Running, left: Left) -> None:
    url = yarl.URL(house.url)
    head = f"POST /v1/sessions HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {house.token()}\r\n"
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"{head}Content-Length: 2\r\n\r\n{{}}".encode() * 40)
    await eventually(lambda: any(one._messages for one in _connections() if isinstance(one, Visitor)))
    writer.transport.abort()
    # Those that have come are answered first, one after another, until a write finds out.
    await eventually(lambda: _nothing(left), 60)


async def the_client(_: Visitor, client: asyncio.StreamWriter) -> None:
    client.transport.abort()


async def the_gateway(visitor: Visitor, _: asyncio.StreamWriter) -> None:
    visitor.cut("slow_reader")


Cutting = Callable[[Visitor, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize("live", ["", "&live=sse"], ids=["an answer", "a stream"])
@pytest.mark.parametrize("cuts", [the_client, the_gateway])
async def test_an_answer_that_nobody_takes_leaves_nothing_to_collect(
    house: Running, agent: Fabric, left: Left, monkeypatch: pytest.MonkeyPatch, live: str, cuts: Cutting
) -> None:
    monkeypatch.setattr(hub, "LINGER_S", 0.0)
    for _ in range(40):
        await agent.session("s1").append({"type": "app.note", "text": "x" * 200_000})
    url = yarl.URL(house.url)
    _, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
    head = f"GET /v1/sessions/s1/events?after=start&limit=1000{live} HTTP/1.1\r\nHost: {url.host}\r\n"
    writer.write(f"{head}Authorization: Bearer {house.token()}\r\n\r\n".encode())

    def stuck() -> list[Visitor]:
        return [one for one in _connections() if isinstance(one, Visitor) and one.writing_paused]

    try:
        await eventually(stuck)
        await cuts(stuck()[0], writer)
        await eventually(lambda: _nothing(left))
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/sessions/s1/events?after=start&live=sse",
        "/v1/sessions/s1/stream?offset=now&live=sse",
        "/v1/stream/a?offset=-1&live=sse",
    ],
)
async def test_a_stream_whose_client_leaves_leaves_nothing_to_collect(
    house: Running, agent: Fabric, left: Left, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(hub, "LINGER_S", 0.0)
    await agent.session("s1").append({"type": "app.first"})
    headers = {"Authorization": f"Bearer {house.token()}"}
    async with aiohttp.ClientSession(house.url, headers=headers) as http:
        async with http.put("/v1/stream/a", data=b"1") as made:
            assert made.status == 201
        async with http.get(path) as answer:
            assert answer.status == 200
            await answer.content.readany()
            assert left()
    await eventually(lambda: _nothing(left))
