"""Sessions move to other streams while they are in use; nobody above the broker hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Event, Fabric
from session_fabric.jetstream.operating import Operator
from session_fabric.rules.layout import lodged
from session_fabric.words.subjects import Place, shard_of

from tests.support.servers import nats_cluster, nats_node
from tests.support.sessions import note, said, stored, types
from tests.support.waiting import eventually


@pytest.fixture(params=["one", pytest.param("three", marks=pytest.mark.cluster)])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A server of the test's own, or three."""
    start = nats_node if request.param == "one" else nats_cluster
    async with start(tmp_path / "nats") as server:
        yield server.url


class World:
    """Connections to one broker, and an operator of it."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self._stack = stack

    async def fabric(self, tenant: str, participant: str = "agent:writer") -> Fabric:
        connecting = Fabric.connect(self.url, tenant=tenant, participant=participant, streams=2, timeout_s=60.0)
        return await self._stack.enter_async_context(connecting)

    async def operator(self) -> Operator:
        return await self._stack.enter_async_context(Operator.connected(self.url, timeout_s=60.0))


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(url, stack)


async def busy(world: World, tenant: str, name: str, stop: asyncio.Event) -> list[str]:
    """Append from a connection of one's own until told to stop; return the ids that were confirmed."""
    fabric = await world.fabric(tenant, "user:busy")
    done: list[str] = []
    while not stop.is_set():
        id = f"busy-{len(done)}"
        await fabric.session(name).append(said(id, id), id=id)
        done.append(id)
    return done


async def heard(fabric: Fabric, name: str, into: list[Event]) -> None:
    async with aclosing(fabric.session(name).follow("start", deltas="all")) as events:
        async for event in events:
            into.append(event)


async def moved_under_load(world: World, tenant: str, how: Any) -> None:
    """Move a session by `how` while it is written, followed and worked on; nothing is lost, doubled or reordered."""
    writer = await world.fabric(tenant)
    reader = await world.fabric(tenant, "user:reader")
    session = writer.session("chat")
    first = (await session.append(said("before", "m0"))).offset
    stop, followed = asyncio.Event(), list[Event]()
    worked: list[str] = []

    async def work() -> None:
        async with reader.subscribe(durable="all", kind="in") as subscription:
            while True:
                for item in await subscription.fetch(10, 1.0):
                    worked.append(item.event.id)
                    await item.ack()

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(heard(reader, "chat", followed))
        working = tasks.create_task(work())
        load = tasks.create_task(busy(world, tenant, "chat", stop))
        async with session.run("r1") as run:
            await run.text("one ")
            await eventually(lambda: len(followed) > 20, 30.0)
            operator = await world.operator()
            await how(operator)
            await run.text("two")
            count = len(followed)
            await eventually(lambda: len(followed) > count + 50, 30.0)
        stop.set()
        ids = await load
        await session.append(note("last"), id="last")
        await eventually(lambda: any(e.id == "last" for e in followed), 30.0)
        await eventually(lambda: len(set(worked)) == len(ids) + 1, 60.0)
        following.cancel()
        working.cancel()

    log = await stored(session, deltas="all")
    assert [e.id for e in log if e.id.startswith("busy-")] == ids
    assert [e.offset for e in followed] == sorted(e.offset for e in followed)
    seen = [e.id for e in followed]
    assert [e.id for e in log] == [id for id in seen if id in {e.id for e in log}]
    assert len(seen) == len(set(seen))
    assert sorted(worked) == sorted({*ids, log[1].id})
    assert "RUN_FINISHED" in types(log)
    completed = next(e for e in log if e.type == "message.completed")
    assert completed.body["message"]["content"] == "one two"
    # An offset from before the move leads on behind it.
    late: list[Event] = []
    async with aclosing(reader.session("chat").follow(first)) as events:
        async for event in events:
            late.append(event)
            if event.id == "last":
                break
    assert [e.id for e in late if e.id.startswith("busy-")] == ids


async def test_a_bucket_moves_under_a_live_run_a_follower_and_a_subscription(world: World, tenant: str) -> None:
    shard = shard_of(Place(tenant, "chat"))
    await moved_under_load(world, tenant, lambda operator: operator.move_bucket([shard], None))
    layout = await (await world.operator()).layout()
    assert lodged(layout, tenant, shard).stream == "SESSIONS-02"


async def test_a_tenant_gets_streams_of_its_own_under_a_live_run_a_follower_and_a_subscription(
    world: World, tenant: str
) -> None:
    other = await world.fabric(f"{tenant}b")
    await other.session("chat").append(note("theirs"))
    await moved_under_load(world, tenant, lambda operator: operator.tenant(tenant, None))
    operator = await world.operator()
    layout = await operator.layout()
    at = lodged(layout, tenant, shard_of(Place(tenant, "chat")))
    assert at.own
    # Neither sees in sequences what the other stores.
    shared = {x.stream for x in layout.of(None)}
    before = {name: info["state"]["last_seq"] for name, info in (await operator.infos()).items()}
    writer = await world.fabric(tenant)
    await writer.session("chat").append(note("mine"))
    after = {name: info["state"]["last_seq"] for name, info in (await operator.infos()).items()}
    assert {name for name in before if name.startswith("SESSIONS-") and before[name] != after[name]} == {at.stream}
    await other.session("chat").append(note("theirs again"))
    last = {name: info["state"]["last_seq"] for name, info in (await operator.infos()).items()}
    assert {name for name in after if name.startswith("SESSIONS-") and after[name] != last[name]} <= shared
