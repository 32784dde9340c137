"""What a native agent keeps of where sessions begin: it asks once, not before each event, and no move misleads it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from session_fabric import Fabric
from session_fabric.jetstream.operating import Operator
from session_fabric.ports import Home
from session_fabric.remote.broker import RemoteBroker
from session_fabric.remote.homes import Homes
from session_fabric.rules.layout import LEASE_S
from session_fabric.words.subjects import Place, service_subject, shard_of

from tests.support.brokers import connect, remote
from tests.support.servers import nats_node
from tests.support.sessions import note, stored, values

HELPER = "agent:helper"
PLACE = Place("t", "chat")


def test_what_was_said_counts_for_as_long_as_a_layout_does() -> None:
    homes, home = Homes(), Home("SESSIONS-00", "e1")
    assert homes.at_hand(PLACE, 0.0) is None
    homes.keep(PLACE, home, asked=100.0)
    assert homes.at_hand(PLACE, 100.0 + LEASE_S - 0.1) == home
    assert homes.at_hand(PLACE, 100.0 + LEASE_S) is None
    assert homes.at_hand(Place("t", "other"), 100.0) is None
    homes.forget()
    assert homes.at_hand(PLACE, 100.0) is None


@dataclass
class World:
    """A server of the test's own, an agent that only asks there, and an operator."""

    native: Fabric
    broker: RemoteBroker
    operator: Operator


@pytest.fixture
async def world(tmp_path: Path, tenant: str) -> AsyncIterator[World]:
    async with nats_node(tmp_path / "nats") as server, AsyncExitStack() as stack:
        broker = await remote(server.url, stack, (tenant, HELPER), told=False)
        # What it keeps never ends by itself: it is as stale as can be when something moves.
        broker.log.homes = Homes(lease_s=3600.0)
        native = await Fabric.over(broker, tenant=tenant, participant=HELPER)
        stack.push_async_callback(native.close)
        operator = await stack.enter_async_context(Operator.connected(server.url, say=lambda _: None, timeout_s=60.0))
        yield World(native, broker, operator)


@asynccontextmanager
async def counted(world: World, tenant: str) -> AsyncIterator[list[bytes]]:
    """Hear of each question for a home."""
    asked: list[bytes] = []
    beside = await connect(world.broker._dial.url)
    subject = service_subject(tenant, HELPER, "home")
    await beside.reached()[0].tap_now(subject, lambda _s, _r, _h, payload: asked.append(payload))
    try:
        yield asked
        await beside.ping(10.0)  # all that was asked by now has come here too
    finally:
        await beside.close()


async def test_an_agent_that_appends_does_not_ask_each_time_where_its_session_is(world: World, tenant: str) -> None:
    session = world.native.session("chat")
    await session.append(note("first"))
    async with counted(world, tenant) as asked:
        for n in range(10):
            await session.append(note(n))
            await session.head()
    assert asked == []


async def test_an_agent_goes_on_in_a_session_that_has_moved(world: World, tenant: str) -> None:
    session = world.native.session("chat")
    await session.append(note("before"))
    await world.operator.move_bucket([shard_of(Place(tenant, "chat"))], None)
    await session.append(note("moved"))
    await world.operator.tenant(tenant, None)
    await session.append(note("its tenant's own"))
    assert values(await stored(session)) == ["before", "moved", "its tenant's own"]


async def test_a_session_is_made_anew_where_its_tenant_has_streams_by_then(world: World, tenant: str) -> None:
    session = world.native.session("chat")
    await session.append(note("gone"))
    await session.delete()
    before = await world.broker.log.home(Place(tenant, "chat"))
    await world.operator.tenant(tenant, None)
    await session.append(note("anew"))
    await session.append(note("again"))
    assert values(await stored(session)) == ["anew", "again"]
    assert await world.broker.log.home(Place(tenant, "chat")) != before


async def test_a_record_that_names_a_newer_home_is_not_brought_back_to_the_one_that_was_kept(
    world: World, tenant: str
) -> None:
    place, session = Place(tenant, "chat"), world.native.session("chat")
    await session.append(note("there"))
    segments = (await session.record()).segments
    world.broker.log.homes.keep(place, Home("SESSIONS-00", "of another time"), time.monotonic())
    await session.append(note("still there"))
    assert (await session.record()).segments == segments
    assert values(await stored(session)) == ["there", "still there"]
