"""Signals, large bodies' own room, and the connection itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Broker, Entry, Stretch, Wanted
from session_fabric.words.errors import BrokerUnavailable, NobodyAnswers
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

from tests.support.brokers import BrokerKind, Brokers, connect
from tests.support.events import everything, milestone, stretch, value
from tests.support.servers import nats_node
from tests.support.waiting import eventually


async def test_a_signal_reaches_those_who_listen_and_no_others(
    broker: Broker, connections: Brokers, tenant: str
) -> None:
    place, other = Place(tenant, "chat-1"), Place(tenant, "chat-2")
    here: list[bytes] = []
    there: list[bytes] = []
    far = await connections.open()
    listenings = [await far.signals.listen(place, here.append), await far.signals.listen(other, there.append)]

    async def reached() -> bool:  # in a cluster another node hears a moment later who listens
        await broker.signals.send(place, b"?")
        await broker.signals.send(other, b"?")
        return bool(here and there)

    await eventually(reached)
    await broker.signals.send(place, b'{"typing":true}')
    await broker.signals.send(other, b"")
    await eventually(lambda: b"" in there and b'{"typing":true}' in here)
    assert ([data for data in here if data != b"?"], [data for data in there if data != b"?"]) == (
        [b'{"typing":true}'],
        [b""],
    )
    for listening in listenings:
        await listening.close()


async def test_signals_are_not_stored(broker: Broker, to: Stretch) -> None:
    early: list[bytes] = []
    listening = await broker.signals.listen(to.place, early.append)
    await broker.signals.send(to.place, b"before")
    await eventually(lambda: early == [b"before"])
    late: list[bytes] = []
    second = await broker.signals.listen(to.place, late.append)
    await broker.signals.send(to.place, b"after")
    await eventually(lambda: late == [b"after"])
    assert await broker.log.head(to) == 0
    await second.close()
    await broker.signals.send(to.place, b"end")
    await eventually(lambda: early[-1] == b"end")
    assert late == [b"after"]
    await listening.close()


async def test_a_ping_measures_the_round_trip(broker: Broker) -> None:
    assert 0 <= await broker.ping() < 2


async def test_a_connected_broker_says_so(broker: Broker) -> None:
    assert broker.connected
    generation = broker.generation
    await broker.ping()
    assert broker.generation == generation


async def gone(broker: Broker, place: Place, name: str) -> bool:
    return await broker.get_blob(place, name) is None


async def test_a_blob_comes_back_whole_until_its_session_is_deleted(broker: Broker, tenant: str) -> None:
    place, other = Place(tenant, "chat-1"), Place(tenant, "chat-2")
    large = bytes(range(256)) * 8192
    await broker.put_blob(place, "b1", large)
    await broker.put_blob(place, "b2", b"")
    await broker.put_blob(other, "b1", b"theirs")
    assert await broker.get_blob(place, "b1") == large
    assert await broker.get_blob(place, "b2") == b""
    assert await broker.get_blob(place, "b3") is None
    assert await broker.delete_blobs(place) > 0
    await eventually(lambda: gone(broker, place, "b1"))  # a replica may be behind for a moment
    assert await broker.get_blob(other, "b1") == b"theirs"
    assert await broker.delete_blobs(place) == 0


@pytest.mark.needs_rights
async def test_streams_are_listed_with_what_they_hold(broker: Broker, to: Stretch) -> None:
    await broker.log.publish(to, milestone("x"))
    streams: Sequence[Mapping[str, Any]] = await broker.list_streams()
    (mine,) = [s for s in streams if s["config"]["name"] == to.home.stream]
    assert mine["state"]["messages"] >= 1
    assert mine["state"]["last_seq"] >= mine["state"]["first_seq"] > 0
    assert mine["config"]["num_replicas"] in (1, 3)


async def test_a_closed_broker_is_not_connected(connections: Brokers) -> None:
    broker = await connections.open()
    await broker.close()
    assert not broker.connected
    with pytest.raises(BrokerUnavailable):
        await broker.ping(0.2)
    await broker.close()


@dataclass
class Outage:
    """A broker that can go away and come back."""

    broker: Broker
    begin: Callable[[], None]
    end: Callable[[], Awaitable[None]]


@pytest.fixture
async def outage(broker_kind: BrokerKind, tmp_path: Path) -> AsyncIterator[Outage]:
    if broker_kind == "memory":
        memory = MemoryBroker()

        async def reconnect() -> None:
            memory.reconnect()

        yield Outage(memory, memory.disconnect, reconnect)
        return
    async with nats_node(tmp_path / "nats") as node:
        broker = await connect(node.url)
        try:
            yield Outage(broker, node.kill, node.restart)
        finally:
            await broker.close()


async def test_a_lost_connection_is_reported_and_survived(outage: Outage, tenant: str) -> None:
    broker = outage.broker
    changes: list[bool] = []
    heard: list[Record] = []
    end = broker.on_connection(changes.append)
    to = await stretch(broker, tenant)
    await broker.log.listen(to, heard.append)
    await broker.log.publish(to, milestone("before", id="e1"))
    await eventually(lambda: len(heard) == 1)
    generation = broker.generation
    outage.begin()
    await eventually(lambda: not broker.connected)
    await eventually(lambda: changes == [False])
    with pytest.raises(BrokerUnavailable):
        await broker.ping(0.2)
    with pytest.raises(BrokerUnavailable) as unavailable:
        await broker.log.publish(to, milestone("lost", id="e2"), timeout_s=0.2)
    assert unavailable.value.retryable
    await outage.end()
    await eventually(lambda: broker.connected)
    await eventually(lambda: changes == [False, True])
    assert broker.generation > generation
    assert (await broker.log.publish(to, milestone("before", id="e1"))).duplicate
    await broker.log.publish(to, milestone("lost", id="e2"))
    await broker.log.publish(to, milestone("after"))
    assert [value(r) for r in await everything(broker, to)] == ["before", "lost", "after"]
    await eventually(lambda: [value(r) for r in heard][-1] == "after")
    end()


async def test_a_publish_waits_for_a_broker_that_comes_back_in_time(outage: Outage, tenant: str) -> None:
    broker = outage.broker
    to = await stretch(broker, tenant)
    outage.begin()
    await eventually(lambda: not broker.connected)
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(broker.log.publish(to, milestone("x"), timeout_s=20))
        await outage.end()
    assert not publishing.result().duplicate
    assert [value(r) for r in await everything(broker, to)] == ["x"]


async def test_watchers_and_subscriptions_go_on_after_an_outage(outage: Outage, tenant: str) -> None:
    broker = outage.broker
    to = await stretch(broker, tenant)
    bucket = broker.bucket("sf-sessions")
    seen: list[Entry] = []
    signals: list[bytes] = []
    await bucket.watch(tenant, seen.append)
    await broker.signals.listen(to.place, signals.append)
    durable = await broker.durable(
        tenant, "w", place=None, wanted=[Wanted("ev")], ack_wait_s=30, max_deliver=5, start="start"
    )
    await broker.log.publish(to, milestone("x"))
    outage.begin()
    await eventually(lambda: not broker.connected)
    await outage.end()
    await eventually(lambda: broker.connected)
    await bucket.put(f"{tenant}.a", b"1")
    await broker.signals.send(to.place, b"s")
    await eventually(lambda: seen and signals)

    async def fetched() -> object:
        return [value(d.record) for d in await durable.fetch(1, 1.0)]

    assert await eventually(fetched) == ["x"]


async def shout(data: bytes) -> bytes:
    return data.upper()


async def test_a_name_is_answered_to_again_after_an_outage(outage: Outage, tenant: str) -> None:
    broker = outage.broker
    kept, given_up = [await broker.calls.serve(f"{name}.{tenant}", shout) for name in ("kept", "given-up")]
    assert await broker.calls.ask(f"kept.{tenant}", b"x", timeout_s=5) == b"X"
    outage.begin()
    await eventually(lambda: not broker.connected)
    with pytest.raises(BrokerUnavailable):
        await broker.calls.ask(f"kept.{tenant}", b"x", timeout_s=5)
    await given_up.close()
    await outage.end()
    await eventually(lambda: broker.connected)
    assert await broker.calls.ask(f"kept.{tenant}", b"again", timeout_s=5) == b"AGAIN"
    with pytest.raises(NobodyAnswers):
        await broker.calls.ask(f"given-up.{tenant}", b"x", timeout_s=5)
    await kept.close()
