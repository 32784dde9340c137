"""Native agents and two gateways go on while the sessions that they are in move to another stream."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from session_fabric import Event
from session_fabric.jetstream.operating import Operator
from session_fabric.rules.layout import lodged
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.subjects import Place, shard_of

from tests.gateway.conftest import Running, running
from tests.gateway.sockets import Client, greeted
from tests.security.native_world import World
from tests.support.sessions import said, stored
from tests.support.waiting import eventually


@pytest.mark.parametrize("sessions", [("chat",), ()], ids=["by name", "by the relay alone"])
async def test_nothing_is_lost_doubled_or_reordered_for_anybody(world: World, sessions: tuple[str, ...]) -> None:
    settings = {"nats_credentials": world.guarded.nkey, "native_agents": str(world.guarded.seeds)}
    url, place = world.guarded.server.url, Place(world.tenant, "chat")
    granted = {"chat": ["read", "append", "create"]} if sessions else {"ch*": ["read", "append", "create"]}
    stop = asyncio.Event()
    heard: list[Event] = []

    async with (
        world.native(by_name=sessions, sessions=granted) as native,
        running(url, world.tenant, **settings) as other,
        greeted(world.house.url, world.token("user:ada")) as ada,
        greeted(other.url, world.token("user:bob")) as bob,
        Operator.connected(url, credentials=world.guarded.own) as operator,
    ):

        async def listen() -> None:
            async with aclosing(native.session("chat").follow("start")) as events:
                async for event in events:
                    heard.append(event)

        async def write() -> list[str]:
            done: list[str] = []
            while not stop.is_set():
                id = f"native-{len(done)}"
                try:
                    await native.session("chat").append(said(id, id), id=id)
                except BrokerUnavailable:
                    continue  # the same again
                done.append(id)
            return done

        async def type_in(house: Running, me: str) -> list[str]:
            done: list[str] = []
            async with greeted(house.url, world.token(me)) as client:
                while not stop.is_set():
                    id = f"{me}-{len(done)}"
                    answer = await client.append("chat", said(id, id), id=id)
                    if answer["op"] == "error":
                        assert answer["retryable"], answer
                        continue
                    done.append(id)
            return done

        await world.fabric.session("chat").create()
        for client in (ada, bob):
            await client.open("chat", after="start")
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(listen())
            writing = [
                tasks.create_task(write()),
                tasks.create_task(type_in(world.house, "user:eve")),
                tasks.create_task(type_in(other, "user:kim")),
            ]
            reading = [tasks.create_task(read(client)) for client in (ada, bob)]
            await eventually(lambda: len(heard) > 30, 30.0)
            await operator.move_bucket([shard_of(place)], None)
            count = len(heard)
            await eventually(lambda: len(heard) > count + 60, 60.0)
            stop.set()
            written = [await one for one in writing]
            last = await native.session("chat").append({"type": "app.last"}, id="last")
            await eventually(lambda: any(event.id == "last" for event in heard), 30.0)
            for one in reading:
                await one
            listening.cancel()
        assert lodged(await operator.layout(), world.tenant, shard_of(place)).stream == "SESSIONS-01"
        log = await stored(world.fabric.session("chat"))
    assert log[-1].offset == last.offset
    for ids in written:
        prefix = ids[0].rpartition("-")[0]
        assert [event.id for event in log if event.id.rpartition("-")[0] == prefix] == ids
    assert [event.id for event in heard] == [event.id for event in log]
    for client in (ada, bob):
        assert [event["offset"] for event in client.events] == [str(event.offset) for event in log]


async def read(client: Client) -> None:
    await client.until_events(lambda events: any(event["type"] == "app.last" for event in events[-3:]), 110.0)
