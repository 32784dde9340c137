"""What the memory broker offers to tests beyond the ports: a clock, other connections, outages."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Entry
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.wire import Record

from tests.support.events import delta, everything, milestone, stretch, value
from tests.support.waiting import eventually


async def test_a_connection_beside_another_sees_the_same_data() -> None:
    broker = MemoryBroker()
    other = broker.beside()
    to = await stretch(broker, "t")
    await broker.log.publish(to, milestone("x"))
    assert [value(r) for r in await everything(other, to)] == ["x"]
    await other.close()
    assert broker.connected


async def test_brokers_made_apart_share_nothing() -> None:
    one, two = MemoryBroker(), MemoryBroker()
    to = await stretch(one, "t")
    await one.log.publish(to, milestone("x"))
    assert await two.log.head(to) == 0


async def test_what_others_store_during_an_outage_is_not_heard_but_read() -> None:
    broker = MemoryBroker()
    other = broker.beside()
    to = await stretch(broker, "t")
    heard: list[Record] = []
    await broker.log.listen(to, heard.append)
    broker.disconnect()
    await other.log.publish(to, milestone("missed"))
    broker.reconnect()
    await other.log.publish(to, milestone("heard"))
    await eventually(lambda: len(heard) == 1)
    assert value(heard[0]) == "heard"
    assert heard[0].previous == 1
    assert [value(r) for r in await everything(broker, to)] == ["missed", "heard"]


async def test_what_was_on_its_way_when_the_connection_broke_is_lost() -> None:
    broker = MemoryBroker()
    other = broker.beside()
    to = await stretch(broker, "t")
    heard: list[Record] = []
    await broker.log.listen(to, heard.append)
    await other.log.publish(to, milestone("on its way"))
    broker.disconnect()
    broker.reconnect()
    await other.log.publish(to, milestone("after"))
    await eventually(lambda: heard)
    assert [value(r) for r in heard] == ["after"]


async def test_everything_is_unavailable_while_away() -> None:
    broker = MemoryBroker()
    to = await stretch(broker, "t")
    broker.disconnect()
    for call in (
        broker.log.head(to),
        broker.log.publish(to, milestone("x"), timeout_s=0.01),
        broker.bucket("b").get("k"),
        broker.signals.send(to.place, b""),
        broker.ping(),
        broker.get_blob(to.place, "b"),
    ):
        with pytest.raises(BrokerUnavailable):
            await call


async def test_a_tick_lets_expire_what_is_due_and_watchers_hear_of_it() -> None:
    now = 1_000.0
    broker = MemoryBroker(clock=lambda: now)
    to = await stretch(broker, "t")
    seen: list[Entry] = []
    await broker.bucket("b").watch("k", seen.append)
    await broker.bucket("b").put("k.1", b"x", ttl_s=3600)
    await broker.log.publish(to, delta("x", run="r1"), ttl_s=3600)
    now += 3601
    broker.tick()
    await eventually(lambda: [entry.value for entry in seen] == [b"x", None])
    assert await broker.log.runs_with_deltas(to) == {}


async def test_times_are_those_of_the_clock() -> None:
    broker = MemoryBroker(clock=lambda: 1_764_000_000.123)
    to = await stretch(broker, "t")
    await broker.log.publish(to, milestone("x"))
    (record,) = await everything(broker, to)
    assert record.ts == 1_764_000_000_123


async def test_publishing_gives_others_a_turn() -> None:
    broker = MemoryBroker()
    to = await stretch(broker, "t")
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for n in range(20):
        await broker.log.publish(to, milestone(n))
    task.cancel()
    assert turns >= 20
