"""Sessions move to other streams while they are in use; nobody above the broker hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Event, Fabric
from session_fabric.jetstream.log import INLINE_LIMIT
from session_fabric.jetstream.moves import layouts
from session_fabric.jetstream.moves.settings import Settings
from session_fabric.jetstream.operating import Operator, shards_of
from session_fabric.jetstream.streams import BLOB_STREAM
from session_fabric.jetstream.topology import MOVER
from session_fabric.rules.layout import lodged
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable, InvalidRequest, MoveUnderWay
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

    async def operator(self, told: list[str] | None = None) -> Operator:
        """Connect as an operator; each step that is said goes to `told`."""
        say = (lambda _: None) if told is None else told.append
        return await self._stack.enter_async_context(Operator.connected(self.url, say=say, timeout_s=60.0))


@pytest.fixture
async def world(url: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(url, stack)


async def in_order(operator: Operator) -> None:
    """Wait until nothing is found: a replica may be behind for a moment."""

    async def nothing_found() -> bool:
        return await operator.check() == []

    await eventually(nothing_found, 30.0)


async def busy(world: World, tenant: str, name: str, stop: asyncio.Event) -> list[str]:
    """Append from a connection of one's own until told to stop; return the ids that were confirmed."""
    fabric = await world.fabric(tenant, "user:busy")
    done: list[str] = []
    while not stop.is_set():
        id = f"busy-{len(done)}"
        try:
            await fabric.session(name).append(said(id, id), id=id)
        except BrokerUnavailable:  # what moves stands still for longer than a call has patience, on a busy machine
            continue
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


async def test_what_was_removed_while_it_was_copied_does_not_come_back(world: World, tenant: str) -> None:
    fabric = await world.fabric(tenant)
    for name in ("kept", "removed"):
        await fabric.session(name).append(note(name))
    told: list[str] = []
    operator = await world.operator(told)
    moving = asyncio.create_task(operator.tenant(tenant, None))
    await eventually(lambda: any("is made" in what for what in told), 30.0)
    await fabric.session("removed").delete()
    await moving
    broker: Any = fabric.broker
    for info in await fabric.broker.list_streams():
        name = info["config"]["name"]  # type: ignore[index]
        for spelled in ("sf", "sf-of"):
            body = {"subjects_filter": f"{spelled}.*.*.{tenant}.removed.>"}
            answer = await broker.api.call(f"STREAM.INFO.{name}", body)
            assert not answer["state"].get("subjects"), name
    assert [e.body for e in await stored(fabric.session("kept"))][1:] == [note("kept")]


async def test_who_writes_after_a_move_looks_for_ids_and_fetches_no_large_bodies(world: World, tenant: str) -> None:
    fabric = await world.fabric(tenant)
    session = fabric.session("chat")
    await session.append(note("x" * INLINE_LIMIT), id="large")
    before = (await session.append(note("small"), id="small")).offset
    await (await world.operator()).move_bucket([shard_of(Place(tenant, "chat"))], None)
    broker: Any = fabric.broker
    connection, _ = broker.reached()
    asked: list[str] = []
    await connection.tap_now(f"$JS.API.DIRECT.GET.{BLOB_STREAM}", lambda subject, *_: asked.append(subject))
    assert (await session.append(note("small"), id="small")).offset == before
    await connection.rtt(5)
    assert asked == []
    assert [len(e.body["value"]) for e in await stored(session) if e.id == "large"] == [INLINE_LIMIT]
    await connection.rtt(5)
    assert asked != []


async def test_two_who_move_at_once_are_told_of_each_other(world: World, tenant: str) -> None:
    await world.fabric(tenant)
    first, second = await world.operator(), await world.operator()
    results = await asyncio.gather(first.move_bucket([1], None), second.move_bucket([2], None), return_exceptions=True)
    refused = [one for one in results if isinstance(one, BaseException)]
    assert len(refused) == 1
    assert isinstance(refused[0], MoveUnderWay)
    await second.move_bucket([3], None)  # and again when that is done
    assert {x.shards for x in (await first.layout()).of(None)} >= {(3,)}


async def test_who_was_not_heard_of_for_long_is_told_so_and_takes_nothing_from_whoever_moves_now(
    world: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "_RENEWED_S", 0.05)
    await world.fabric(tenant)
    mover = (await world.operator())._mover
    bucket = mover.layouts._bucket
    with pytest.raises(MoveUnderWay, match="has not heard of this process"):
        async with mover.layouts.alone():
            held = await bucket.get(MOVER)
            assert held is not None
            await bucket.swap(MOVER, b"another:1", revision=held.revision)
            await asyncio.Event().wait()
    now = await bucket.get(MOVER)
    assert now is not None
    assert now.value == b"another:1"
    with pytest.raises(MoveUnderWay, match="another:1 is changing"):
        async with mover.layouts.alone():
            pass


async def test_a_move_that_was_interrupted_is_found_and_brought_to_its_end(world: World, tenant: str) -> None:
    fabric = await world.fabric(tenant)
    session = fabric.session("chat")
    await session.append(note("before"))
    shard = shard_of(Place(tenant, "chat"))
    told: list[str] = []
    dying = await world.operator(told)
    # It dies where it can give nothing up: with its connection.
    moving = asyncio.create_task(dying.move_bucket([shard], None))
    await eventually(lambda: any("is made" in what for what in told), 30.0)
    await dying._dial.close()
    with suppress(Exception):
        await moving
    operator = await world.operator()
    findings = await operator.check()
    assert any("on its way" in finding.what for finding in findings), findings
    await session.append(note("meanwhile"))  # nobody waits for who has died

    async with asyncio.timeout(60.0):
        while findings := await operator.check():
            with suppress(MoveUnderWay):  # until the dead one's hold has ended
                await operator.repair(findings)
    assert lodged(await operator.layout(), tenant, shard).stream == "SESSIONS-02"
    await session.append(note("after"))
    assert [e.body["value"] for e in await stored(session) if e.type == "app.note"] == ["before", "meanwhile", "after"]


async def test_settings_that_an_update_may_change_are_mended(world: World, tenant: str) -> None:
    fabric = await world.fabric(tenant)
    broker: Any = fabric.broker
    operator = await world.operator()
    await in_order(operator)
    config = (await broker.api.call("STREAM.INFO.SESSIONS-01"))["config"]
    await broker.api.call("STREAM.UPDATE.SESSIONS-01", {**config, "allow_direct": False, "max_age": 10**15})
    await broker.api.call("STREAM.DELETE.KV_sf-tickets")
    findings = [f for f in await operator.check() if f.mend is not None]
    assert {f.where for f in findings} == {"SESSIONS-01", "KV_sf-tickets"}
    assert [f.safe for f in findings if f.where == "KV_sf-tickets"] == [False]
    await operator.repair(findings)
    await in_order(operator)


async def test_what_cannot_be_is_refused_and_nothing_is_changed(world: World, tenant: str) -> None:
    await world.fabric(tenant)
    operator = await world.operator()
    before = await operator.infos()
    with pytest.raises(InvalidRequest, match="put together"):
        await operator.provision(streams=1)
    with pytest.raises(InvalidRequest, match="no other buckets"):
        await operator.move_bucket(shards_of("0-127"), None)
    with pytest.raises(InvalidRequest, match="which buckets"):
        shards_of("one")
    with pytest.raises(BrokerIncompatible, match="cannot make the stream"):
        await operator.move_bucket([1], None, Settings(placement_tags=("nowhere",), replicas=5))
    assert set(await operator.infos()) == set(before)
    await in_order(operator)


async def test_streams_are_divided_in_place_until_there_are_as_many(world: World, tenant: str) -> None:
    fabric = await world.fabric(tenant)
    for n in range(8):
        await fabric.session(f"chat-{n}").append(note(n))
    operator = await world.operator()
    layout = await operator.provision(streams=4)
    assert [len(x.shards) for x in layout.of(None)] == [64] * 4
    for n in range(8):
        await fabric.session(f"chat-{n}").append(note("after"))
        assert [e.body["value"] for e in await stored(fabric.session(f"chat-{n}")) if e.type == "app.note"] == [
            n,
            "after",
        ]
    await in_order(operator)
