"""A tenant is deleted with all that it has, and nothing of another one: looked up at a real broker."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from session_fabric import AgentRun, Fabric, RunFailed
from session_fabric.dead_letters import bury
from session_fabric.endings import By, orphan_run
from session_fabric.jetstream.topology import all_infos
from session_fabric.offboarding import delete_tenant
from session_fabric.rules.appends import Asked
from session_fabric.rules.wakes import Wake
from session_fabric.streams import entries
from session_fabric.streams.records import place_of
from session_fabric.streams.subscribed import key_of
from session_fabric.streams.wishes import Fork, Wish
from session_fabric.under_way import runs_under_way
from session_fabric.words.errors import InvalidRequest, RunFenced, SessionGone, SessionHeld
from session_fabric.words.events import RUN_STARTED, Draft
from session_fabric.words.names import new_id

from tests.fabric.test_agents import served
from tests.fabric.test_deletion import lively
from tests.support.servers import NatsNode
from tests.support.sessions import KEYS, api, note, said

_STAYS = ("KV_sf-audit", "KV_sf-revoked", "KV_sf-leases")


@pytest.fixture
async def ops(shared_server: NatsNode) -> AsyncIterator[Fabric]:
    tenant = new_id("t")
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="operator:ann", streams=4) as fabric:
        yield fabric


async def fill(fabric: Fabric) -> None:
    session = fabric.session("chat-1")
    await lively(fabric, session)
    fork = await session.fork(await session.head(), "fork-1")
    await fork.append(note("f" * 600_000))
    await fabric.set_retention(max_age_s=90 * 86_400)
    async with fabric.subscribe(durable="indexer"), fabric.subscribe(durable="one", session="chat-1"):
        pass
    streams, log = await fabric.durable_streams(), place_of(fabric.tenant, "a/log")
    await streams.make(log, Wish("text/plain", body=b"Hello"), "operator:ann")
    await streams.make(place_of(fabric.tenant, "fork"), Wish(fork=Fork(log)), "operator:ann")
    with pytest.raises(RunFailed):
        async with session.run("r4") as run:
            await bury(session._parts, "default", "r4", run.claim, "q1")
            raise RunFailed("For good.")
    wake = Wake(tenant=fabric.tenant, id="w1", maker="operator:ann", type="pull-wake")
    await fabric.broker.bucket("sf-wakes").put(key_of(wake.tenant, wake.id), wake.model_dump_json().encode())


async def raw(fabric: Fabric) -> dict[str, Any]:
    """Return what any stream has of the tenant, tombstones and what is to stay aside: bytes by subject."""
    broker, out = api(fabric), dict[str, Any]()
    for info in await all_infos(broker.api):
        name = info["config"]["name"]
        if name in _STAYS:
            continue
        answer = await broker.api.call(f"STREAM.INFO.{name}", {"subjects_filter": ">"})
        for subject in answer["state"].get("subjects") or {}:
            if fabric.tenant in subject.split("."):
                found = await broker.api.call(f"STREAM.MSG.GET.{name}", {"last_by_subj": subject})
                message = found["message"]
                if b"KV-Operation" not in base64.b64decode(message.get("hdrs", "")):
                    out[subject] = (message["seq"], message.get("data"))
        consumers = await broker.api.call(f"CONSUMER.LIST.{name}", {"offset": 0})
        for consumer in consumers.get("consumers") or []:
            if (consumer["config"].get("metadata") or {}).get("tenant") == fabric.tenant:
                out[consumer["name"]] = name
    return out


async def test_of_a_deleted_tenant_nothing_is_left_and_another_is_untouched(ops: Fabric) -> None:
    other = ops.view(tenant=new_id("t"))
    await fill(ops)
    await fill(other)
    before = await raw(other)
    proof = await delete_tenant(ops, "left")
    assert [proof.before[what] for what in ("sessions", "streams", "dead_letters")] == [2, 2, 2]
    assert (proof.complete, await raw(ops)) == (True, {})
    assert await raw(other) == before
    assert proof.kept["acts"] >= 3
    assert (await delete_tenant(ops)).nothing


async def test_while_a_hold_stands_nothing_of_the_tenant_is_deleted(ops: Fabric) -> None:
    await fill(ops)
    await ops.session("fork-1").hold("A letter", "case-17")
    before = await raw(ops)
    with pytest.raises(SessionHeld, match=r"fork-1 \(case-17"):
        await delete_tenant(ops)
    await ops.session("fork-1").release("case-17")
    await ops.hold("A letter", "case-18")
    with pytest.raises(SessionHeld, match=r"the tenant \(case-18"):
        await delete_tenant(ops)
    assert (await raw(ops)).keys() == before.keys()


async def test_while_a_run_is_under_way_a_tenant_is_not_deleted(ops: Fabric) -> None:
    session = ops.session("chat-1")
    run = session.run("r1")
    async with run:
        with pytest.raises(InvalidRequest, match="r1 in session chat-1"):
            await delete_tenant(ops)
    assert (await delete_tenant(ops)).complete


async def test_while_a_run_waits_for_another_process_a_tenant_is_not_deleted(ops: Fabric) -> None:
    """As in a redaction: orphaned is under way, whoever holds it."""
    session = ops.view(participant="agent:a").session("chat-1")
    run = session.run("r1")
    await run.__aenter__()
    assert await orphan_run(session._parts, "r1", By(ops.broker.holder), "agent:a") is not None
    with pytest.raises(RunFenced):
        await run.__aexit__(None, None, None)
    for entry in await ops.broker.bucket("sf-claims").entries(f"*.{session.place.key()}"):
        await ops.broker.bucket("sf-claims").delete(entry.key)
    assert await runs_under_way(ops.broker, await session.record()) == ("r1",)
    with pytest.raises(InvalidRequest, match=r"r1 in session chat-1 \(agent:a\)"):
        await delete_tenant(ops)
    await session.abandon("r1")
    assert (await delete_tenant(ops)).complete


async def test_a_run_of_an_earlier_life_of_a_session_is_not_under_way(ops: Fabric) -> None:
    session = ops.session("chat-1")
    late = (await session.create())[0].stretch
    await session.delete()
    # By whom has not heard of it: what comes after it begins above that.
    await ops.broker.log.publish(late, Draft(RUN_STARTED, b"{}", "s1", "own", "r1", "agent:x", "agent:x"))
    await session.append(note("anew"))
    assert (await delete_tenant(ops)).complete


async def test_how_many_there_are_is_told_before_each_is_deleted(ops: Fabric) -> None:
    await fill(ops)
    told: list[str | int] = []
    await delete_tenant(ops, of=told.append, done=told.append)
    assert told[0] == 4
    assert sorted(map(str, told[1:])) == ["a/log", "chat-1", "fork", "fork-1"]
    assert told.index("fork-1") < told.index("chat-1")
    assert told.index("fork") < told.index("a/log")


async def test_a_deletion_that_was_cut_off_goes_on(ops: Fabric) -> None:
    await fill(ops)

    def die(_: str) -> None:
        raise KeyError("cut off")

    with pytest.raises(KeyError):
        await delete_tenant(ops, done=die)
    # As far as a deletion of a session comes whose process dies after its first step.
    place = ops.session("chat-1").place
    await ops._shared.directory.change(place, lambda r: r.model_copy(update={"state": "deleted"}))
    assert (await delete_tenant(ops)).complete
    assert await raw(ops) == {}


_KILLED = """
import asyncio, os, signal, sys
from session_fabric import AgentRun, Fabric, RunFailed
from session_fabric.dead_letters import bury
from session_fabric.offboarding import delete_tenant

async def main():
    async with Fabric.connect(sys.argv[1], tenant=sys.argv[2], participant="operator:ann", provision=False) as fabric:
        await delete_tenant(fabric, done=lambda _: os.kill(os.getpid(), signal.SIGKILL))

asyncio.run(main())
"""


async def test_a_deletion_whose_process_is_killed_goes_on(ops: Fabric, shared_server: NatsNode) -> None:
    await fill(ops)
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, shared_server.url, ops.tenant)
    assert await killed.wait() == -signal.SIGKILL
    assert await raw(ops) != {}
    assert (await delete_tenant(ops)).complete
    assert await raw(ops) == {}


async def test_a_sealed_tenant_is_deleted_by_who_has_no_key(ops: Fabric, shared_server: NatsNode) -> None:
    async with Fabric.connect(
        shared_server.url, tenant=ops.tenant, participant="operator:ann", keys=KEYS, provision=False
    ) as sealed:
        await sealed.session("chat-1").append(note("secret"))
        await sealed.session("chat-1").state("plan").put({"step": 1})
    assert (await delete_tenant(ops)).complete
    assert await raw(ops) == {}


async def test_what_came_late_into_a_session_that_is_gone_goes_too(ops: Fabric) -> None:
    await ops.broker.bucket("sf-cursors").put(f"{ops.session('late').place.key()}.x", b"{}")
    assert (await delete_tenant(ops)).complete
    assert await raw(ops) == {}


async def test_what_came_late_goes_too_where_the_tenant_seals_and_who_deletes_it_has_no_key(
    ops: Fabric, shared_server: NatsNode
) -> None:
    async with Fabric.connect(
        shared_server.url, tenant=ops.tenant, participant="operator:ann", keys=KEYS, provision=False
    ) as sealed:
        await sealed.session("chat-1").append(note("secret"))
    await ops.broker.bucket("sf-cursors").put(f"{ops.session('late').place.key()}.x", b"{}")
    assert (await delete_tenant(ops)).complete
    assert await raw(ops) == {}


async def test_forced_it_is_deleted_under_a_run_whose_author_is_told(ops: Fabric, shared_server: NatsNode) -> None:
    await fill(ops)
    async with Fabric.connect(
        shared_server.url, tenant=ops.tenant, participant="agent:writer", provision=False
    ) as writer:
        with pytest.raises(SessionGone):
            async with writer.session("chat-1").run("r9") as run:
                await run.text("Half an ")
                proof = await delete_tenant(ops, force=True)
                await run.text("answer")
        assert proof.complete
    assert await raw(ops) == {}


async def test_forced_a_served_agent_is_stopped(ops: Fabric, shared_server: NatsNode) -> None:
    began, stopped = asyncio.Event(), asyncio.Event()
    async with Fabric.connect(
        shared_server.url, tenant=ops.tenant, participant="agent:writer", provision=False
    ) as fabric:

        @fabric.agent()
        async def agent(run: AgentRun) -> None:
            await run.text("Half an ")
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        async with served(agent):
            await ops.session("chat-1").append(said("Hello"))
            await asyncio.wait_for(began.wait(), 20)
            with pytest.raises(InvalidRequest, match="runs are under way"):
                await delete_tenant(ops)
            proof = await delete_tenant(ops, force=True)
            await asyncio.wait_for(stopped.wait(), 20)
            assert proof.complete
            assert await raw(ops) == {}
    assert await raw(ops) == {}


async def test_what_came_late_into_a_durable_stream_that_is_gone_goes_too(ops: Fabric) -> None:
    streams, place = await ops.durable_streams(), place_of(ops.tenant, "late")
    page, _ = await streams.make(place, Wish("text/plain"), "operator:ann")
    await streams.remove(place, "operator:ann")
    late = entries.draft(page.record, page.standing, Asked(b"x" * 700_000), "operator:ann")
    await ops.broker.log.publish(page.record.stretch, late)
    assert (await delete_tenant(ops)).complete
    assert await raw(ops) == {}
