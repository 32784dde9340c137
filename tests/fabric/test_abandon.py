"""Ending a run whose agent is gone."""

from __future__ import annotations

from typing import Any

import pytest
from session_fabric import Fabric, Session
from session_fabric.endings import By, agent_lost, cancelled, end_run, orphan_run
from session_fabric.words.errors import Forbidden, RunClosed

from tests.support.sessions import stored
from tests.support.waiting import eventually


async def test_an_abandoned_run_has_failed_and_its_writer_is_refused(fabric: Fabric) -> None:
    session = fabric.session("chat")
    run = session.run("r1")
    writer = await run.__aenter__()
    await writer.text("So far")
    await eventually(lambda: said(session))
    assert await session.abandon("r1")
    with pytest.raises(RunClosed):
        await run.__aexit__(None, None, None)
    events = (await session.history()).events
    assert events[-1].type == "RUN_ERROR"
    assert events[-1].body["code"] == "agent_lost"
    assert [(m.content, m.status) for m in (await session.messages()).messages] == [("So far", "failed")]


async def said(session: Session) -> bool:
    return any(message.content for message in (await session.messages()).messages)


async def test_a_run_that_has_ended_or_never_begun_cannot_be_abandoned(fabric: Fabric) -> None:
    session = fabric.session("chat")
    async with session.run("r1") as run:
        await run.text("All of it")
    assert not await session.abandon("r1")
    assert not await session.abandon("r2")
    assert [event.type for event in (await session.history()).events].count("RUN_ERROR") == 0


async def test_users_cannot_abandon_an_agents_run(fabric: Fabric) -> None:
    async with fabric.session("chat").run("r1"):
        with pytest.raises(Forbidden):
            await fabric.view(participant="user:ada").session("chat").abandon("r1")


async def test_an_abandoned_message_keeps_its_place(fabric: Fabric) -> None:
    session = fabric.session("chat")
    run = session.run("r1")
    writer = await run.__aenter__()
    await writer.text("So far")
    await eventually(lambda: said(session))
    began = (await session.messages()).messages[0].first
    assert await session.abandon("r1")
    with pytest.raises(RunClosed):
        await run.__aexit__(None, None, None)
    snapshot = next(e for e in (await session.history()).events if e.type == "message.snapshot")
    assert snapshot.body["began"] == str(began)
    assert (await session.messages()).messages[0].first == began


@pytest.mark.parametrize(("end", "status"), [(agent_lost(), "failed"), (cancelled("chat", "r1"), "interrupted")])
async def test_what_a_lost_agent_had_said_is_kept_when_its_orphaned_run_is_ended(
    fabric: Fabric, end: dict[str, Any], status: str
) -> None:
    session = fabric.session("chat")
    run = session.run("r1")
    writer = await run.__aenter__()
    async with writer.message("m1") as message:
        await message.text("All of it. ")
    await writer.reasoning("Hm. ")
    await writer.text("So far")
    await eventually(lambda: writer._writes.idle)
    parts = session._parts
    assert await orphan_run(parts, "r1", By(parts.common.holdings.holder), "agent:writer") is not None
    assert await end_run(parts, "r1", end)
    with pytest.raises(RunClosed):
        await run.__aexit__(None, None, None)
    told = [(m.content, m.reasoning, m.status) for m in (await session.messages()).messages]
    assert told == [("All of it. ", "", "completed"), ("So far", "Hm. ", status)]
    assert [e.type for e in await stored(session)].count("message.snapshot") == 1
