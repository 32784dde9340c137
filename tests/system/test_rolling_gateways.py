"""Gateways that are replaced one after the other: clients go elsewhere and on, and miss nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from session_fabric import Fabric

from tests.support.crowd import Crowd
from tests.support.plain import Plain
from tests.support.rolling import gateways, logs, speakers
from tests.support.servers import NatsNode
from tests.support.waiting import eventually
from tests.system.speakers import session, word

SESSIONS = 6
EACH = 10


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_replacing_every_gateway_under_live_runs_loses_nothing_and_doubles_nothing(
    own_server: NatsNode, tmp_path: Path
) -> None:
    async with Fabric.connect(own_server.url, streams=2):
        pass  # few streams are made quickly
    sessions = [session(number) for number in range(SESSIONS)]
    async with (
        gateways(own_server.url, tmp_path, "--drain", "1") as some,
        speakers(own_server.url, SESSIONS, 20) as all_,
    ):
        crowd = Crowd(some.balancer.port, sessions, EACH, present=2)
        plain = [Plain(some.balancer.url, sessions[number], live) for number, live in enumerate(("sse", "long-poll"))]
        following: list[asyncio.Task[None]] = []
        try:
            await crowd.start()
            following = [asyncio.create_task(one.run()) for one in plain]
            writing = asyncio.create_task(notes(crowd))
            for number in range(2):
                await some.replace(number)
                async with asyncio.timeout(60):
                    await crowd.all_live()
            writing.cancel()
            said = await all_.quiet()
            stored = await logs(own_server.url, SESSIONS)
            await crowd.all_have({name: offsets[-1] for name, offsets in stored.items()}, 30)
            stored = await logs(own_server.url, SESSIONS)
            await crowd.all_have({name: offsets[-1] for name, offsets in stored.items()}, 30)
            assert crowd.faults() == []
            assert crowd.compared(stored) == []
            for number, one in enumerate(plain):
                await eventually(lambda one=one, end=stored[sessions[number]][-1]: one.offsets[-1:] == [end], 30)
                assert (one.offsets, one.doubled) == (stored[sessions[number]], [])
        finally:
            await crowd.stop()
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        assert some.ended == [0, 0]
        # Everybody was told to go, and went.
        assert {pause.why for pause in crowd.pauses()} == {"moved"}
        assert all(pause.seconds is not None for pause in crowd.pauses())
        async with Fabric.connect(own_server.url, tenant="default", participant="user:u0") as fabric:
            for number in range(SESSIONS):
                page = await fabric.session(session(number)).messages()
                texts = [m.content for m in page.messages if m.role == "assistant"]
                assert texts == ["".join(word(n) for n in range(said[number]))]
                left = [
                    e
                    for e in (await fabric.session(session(number)).history(limit=1000)).events
                    if e.type == "presence.left"
                ]
                assert left == [], "whoever goes to another gateway has not left"
        await all_.end()


async def notes(crowd: Crowd) -> None:
    """Have clients write all the while."""
    number = 0
    while True:
        client = crowd.clients[number % len(crowd.clients)]
        client.append(f"note-{number}", {"type": "app.note", "value": number})
        number += 1
        await asyncio.sleep(0.02)
