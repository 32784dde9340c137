"""A run that is cut off while the broker does not answer for longer than its writer waits: it gets its end later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from session_fabric import AgentRun, Fabric, Session
from session_fabric.rules.routing import run_of_input

from tests.support.servers import NatsNode
from tests.support.sessions import Following, ended, said
from tests.support.waiting import eventually


@pytest.fixture
async def fabric(own_server: NatsNode) -> AsyncIterator[Fabric]:
    async with Fabric.connect(own_server.url, participant="agent:writer", streams=1) as fabric:
        yield fabric


async def cut_off(broker: NatsNode, writing: asyncio.Task[None]) -> None:
    """Cancel a writer while nobody answers, and let the broker go on when he has left."""
    broker.freeze()
    writing.cancel()
    await asyncio.wait([writing])
    broker.thaw()


async def in_index(session: Session) -> list[str]:
    holdings = session._parts.common.holdings
    return [held.name for held in await holdings.of(holdings.holder) if held.kind == "run"]


async def test_a_run_that_nobody_could_go_on_with_ends(own_server: NatsNode, fabric: Fabric) -> None:
    session, begun = fabric.session("chat-1"), asyncio.Event()

    async def write() -> None:
        async with session.run("r1") as run:
            await run.text("So far.")
            await eventually(lambda: run._writes.idle)
            begun.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await begun.wait()
    following = Following(session)
    await cut_off(own_server, writing)
    events = await following.until(ended("r1"), 20)
    (last,) = [e for e in events if e.type == "RUN_ERROR"]
    assert last.body["code"] == "agent_lost"
    assert [m.content for m in (await session.messages()).messages] == ["So far."]

    async def held_no_more() -> bool:
        return await in_index(session) == []

    await eventually(held_no_more)


async def test_a_pools_run_goes_on(own_server: NatsNode, fabric: Fabric) -> None:
    begun = asyncio.Event()

    @fabric.agent(takeover="continue")
    async def writer(run: AgentRun) -> None:
        if not run.resumed:
            await run.text("one ")
            await eventually(lambda: run._writes.idle)
            begun.set()
            await asyncio.Event().wait()
        await run.text("two")

    ada = fabric.view(participant="user:ada").session("chat-1")
    serving = asyncio.create_task(writer.serve())
    await ada.append(said("x", "q1"), id="q1")
    await begun.wait()
    run = run_of_input("q1")
    following = Following(ada)
    # As it is cut off when the floor is another's.
    (writing,) = [task for task in asyncio.all_tasks() if task.get_name() == f"answer {run}"]
    await cut_off(own_server, writing)
    events = await following.until(ended(run), 20)
    assert "run.orphaned" in [e.type for e in events]
    assert [m.content for m in (await ada.messages()).messages] == ["x", "one two"]
    # What it is held as now is not taken for what it was held as before.
    writer.stop()
    await serving
