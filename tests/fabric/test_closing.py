"""After `close` nothing hangs: what is waited for ends, and what is called says why it cannot be done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from session_fabric import AgentRun, Appended, Fabric, Session
from session_fabric.memory import MemoryBroker
from session_fabric.words.closing import Closed

from tests.support.brokers import vanish
from tests.support.sessions import Fabrics

NOTE = {"type": "CUSTOM", "name": "note", "value": 1}


async def closed(call: Awaitable[Any], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        with pytest.raises(Closed, match=r"closed.*connect again"):
            await call


CALLS: dict[str, Callable[[Fabric, Session], Awaitable[Any]]] = {
    "append": lambda _, session: session.append(NOTE),
    "create": lambda fabric, _: fabric.session("another").create(),
    "head": lambda _, session: session.head(),
    "history": lambda _, session: session.history(),
    "messages": lambda _, session: session.messages(),
    "follow": lambda _, session: anext(session.follow()),
    "run": lambda _, session: session.run().__aenter__(),
    "control": lambda _, session: session.control("cancel", run="r1"),
    "document": lambda _, session: session.state("plan").put({}),
    "watch": lambda _, session: anext(session.state("plan").watch()),
    "signal": lambda _, session: session.signal({}),
    "on_signal": lambda _, session: session.on_signal(lambda _: None),
    "join": lambda _, session: session.join().__aenter__(),
    "subscribe": lambda fabric, _: fabric.subscribe(durable="late").__aenter__(),
    "sessions": lambda fabric, _: fabric.sessions(),
    "floor": lambda _, session: session.floor().take(),
}


async def test_what_is_called_after_close_says_so_at_once(fabrics: Fabrics) -> None:
    fabric = await fabrics.open(participant="operator:eve")
    session = fabric.session("chat-1")
    await session.create()
    await fabric.close()
    for call in CALLS.values():
        await closed(call(fabric, session))
    await fabric.close()


async def test_whoever_waits_when_the_connection_is_closed_is_told(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()
    session = fabric.session("chat-1")
    (note, _), events, document = await session.append(NOTE), session.follow("tail"), session.state("plan")
    await document.put({})
    changes = document.watch()
    await anext(changes)
    async with fabric.subscribe(durable="worker", start="tail") as inbox:
        waiting = [
            asyncio.ensure_future(call)
            for call in (anext(events), anext(changes), session.outcome(Appended(note, False)), inbox.fetch(1, 60.0))
        ]
        await asyncio.wait(waiting, timeout=0.2)
        await fabric.close()
        for call in waiting:
            await closed(call)


async def test_a_run_whose_connection_is_closed_ends_for_its_author(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()

    async def write() -> None:
        async with fabric.session("chat-1").run("r1") as run:
            await run.text("Hello")
            await run.stored()
            begun.set()
            await asyncio.sleep(3600)

    begun = asyncio.Event()
    writing = asyncio.create_task(write())
    await begun.wait()
    await fabric.close()
    await closed(writing)


@pytest.mark.needs_rights
async def test_an_agent_whose_connection_is_closed_is_served_no_more(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()
    at_work = asyncio.Event()

    @fabric.agent(pool="default")
    async def slow(run: AgentRun) -> None:
        at_work.set()
        await asyncio.sleep(3600)

    serving = asyncio.create_task(slow.serve())
    await (
        fabric.view(participant="user:ada")
        .session("chat-1")
        .append({"type": "message.user", "message": {"id": "m1", "role": "user", "content": "Hello"}})
    )
    await at_work.wait()
    await fabric.close()
    try:
        await closed(serving, 10.0)
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError, Closed):
            await serving


@pytest.mark.needs_rights
@pytest.mark.parametrize("lost", ["away", "given up"])
async def test_who_waits_for_a_connection_that_was_lost_before_it_was_closed_is_told(
    fabrics: Fabrics, lost: str
) -> None:
    fabric = await fabrics.open()
    session = fabric.session("chat-1")
    await session.append(NOTE)
    events = session.follow("tail")

    @fabric.agent(pool="default")
    async def idle(run: AgentRun) -> None: ...

    waiting = [asyncio.ensure_future(anext(events)), asyncio.create_task(idle.serve())]
    await asyncio.wait(waiting, timeout=0.2)
    below: Any = fabric._shared._below
    if lost == "away" or isinstance(below, MemoryBroker):
        await vanish(below)
    else:  # as when the server has refused for good
        await below._dial.connection._process_err("'maximum connections exceeded'")
    await asyncio.wait(waiting, timeout=0.2)
    await fabric.close()
    for call in waiting:
        await closed(call)
