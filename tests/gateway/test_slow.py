"""A viewer that does not read costs little, nobody else notices, and it misses nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from session_fabric import Fabric
from session_fabric_gateway.outbox import HIGH_WATER_BYTES

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import greeted, stop_reading
from tests.support.waiting import eventually

BODY = {"type": "app.bulk", "text": "x" * 20_000}


async def test_a_viewer_that_never_reads_is_closed_and_neighbours_do_not_notice(start: Start, agent: Fabric) -> None:
    async with (
        start(stalled_s=1.0) as house,
        greeted(house.url, house.token()) as stuck,
        greeted(house.url, house.token()) as good,
    ):
        for client in (stuck, good):
            await client.open("s1", after="tail")
            await client.op("live")
        transport = stuck.stop_reading()
        most = 0

        async def publish() -> None:
            nonlocal most
            while len(house.gateway._peers) == 2:
                await agent.session("s1").append(BODY)
                most = max(most, *(box.buffered_bytes for box in _boxes(house)))
            await agent.session("s1").append({"type": "app.last"})

        async with asyncio.TaskGroup() as group:
            group.create_task(publish())
            events = await good.until_events(lambda events: events[-1:] and events[-1]["type"] == "app.last", 30)
        # What waits may reach the high-water mark, and a tick's frames may come on top.
        assert most < 2 * HIGH_WATER_BYTES
        assert len(events) > 50
        transport.resume_reading()
        assert await stuck.closed() in (4408, 1006)


def _boxes(house: Running) -> list[Any]:
    return [peer.outbox for peer in house.gateway._peers]  # type: ignore[attr-defined]


async def test_a_viewer_that_reads_slowly_misses_nothing(house: Running, agent: Fabric) -> None:
    async with greeted(house.url, house.token()) as slow:
        await slow.open("s1", after="tail")
        await slow.op("live")
        transport = slow.stop_reading()
        session = agent.session("s1")
        for _ in range(600):
            await session.append(BODY)
        assert house.gateway.metrics.lagged._value.get() >= 1
        transport.resume_reading()
        events = await slow.until_events(lambda events: len(events) == 600, 30)
        await session.append({"type": "app.last"})
        await slow.until_events(lambda events: events[-1]["type"] == "app.last")
    offsets = [event["offset"] for event in events]
    assert offsets == sorted(set(offsets))


async def test_a_stream_of_server_sent_events_that_is_not_read_is_cut(start: Start, agent: Fabric) -> None:
    session = agent.session("s1")
    await session.append(BODY)
    async with start(stalled_s=1.0) as house, aiohttp.ClientSession(house.url, read_bufsize=1024) as http:
        headers = {"Authorization": f"Bearer {house.token()}"}
        async with http.get("/v1/sessions/s1/events?live=sse", headers=headers) as response:
            assert response.status == 200
            await eventually(lambda: len(house.gateway._peers) == 1)
            stop_reading(response)

            async def publish() -> None:
                while house.gateway._peers:
                    await session.append(BODY)

            await asyncio.wait_for(publish(), 20)
