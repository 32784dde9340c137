"""A caller may be cancelled wherever a call waits: it comes out, nothing is left behind, and the next call goes on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from session_fabric import Fabric, Session

from tests.support.cutting import When, cut, cut_everywhere
from tests.support.servers import NatsNode
from tests.support.sessions import note, said
from tests.support.waiting import eventually

WHEN: tuple[When, ...] = ("at once", "together")
# Of the connection, and begun with the first call that needs them.
KEPT = ("janitor", "lease", "presence")


async def ran(session: Session) -> None:
    async with session.run() as run:
        async with run.message() as message:
            await message.text("one")
        call = await run.tool("search", {"q": 1})
        await call.result("found")
        async with run.step("look"):
            await run.text("two")
        await run.stored()


async def joined(session: Session) -> None:
    async with session.join({"a": 1}, status="idle") as member:
        await member.update(status="tool")


async def changed(session: Session) -> None:
    plan = session.state("plan")
    await plan.patch({"a": 1})
    await plan.get()


async def kept(session: Session) -> None:
    await session.checkpoints.put({("a", "b"): b"x" * 600_000})
    await session.checkpoints.get("a", "b")


async def listened(session: Session) -> None:
    listening = await session.on_signal(lambda _: None)
    await session.signal({"a": 1})
    await listening.close()


CALLS: dict[str, Callable[[Session], Awaitable[Any]]] = {
    "append": lambda session: session.append(note(1)),
    "large": lambda session: session.append(note("x" * 700_000)),
    "run": ran,
    "join": joined,
    "document": changed,
    "checkpoints": kept,
    "signal": listened,
    "control": lambda session: session.control("cancel", run="r1"),
    "history": lambda session: session.history(),
    "messages": lambda session: session.messages(),
    "requests": lambda session: session.requests(),
    "inspect": lambda session: session.inspect(),
}


async def no_task_left(before: set[asyncio.Task[Any]], kept: tuple[str, ...] = ()) -> None:
    def none_left() -> bool:
        left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert left <= {*kept}, left
        return True

    await eventually(none_left)


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", CALLS)
async def test_it_comes_out_of_every_call_and_leaves_no_task(real: Fabric, name: str, when: When) -> None:
    session = real.session("chat-1")
    await session.append(said("Hello"))
    before = asyncio.all_tasks()

    await cut_everywhere(lambda: CALLS[name](session), when, lambda: no_task_left(before, KEPT))


async def closed(fabric: Fabric, before: set[asyncio.Task[Any]]) -> None:
    """See that nothing of a connection is left once `close` has been called again, whatever became of it before."""
    await fabric.close()
    assert fabric.broker.closed
    await no_task_left(before)
    gc.collect()  # a connection that was left open says so


@pytest.mark.parametrize("when", WHEN)
async def test_it_comes_out_of_connecting_and_leaves_no_connection(
    shared_server: NatsNode, tenant: str, when: When
) -> None:
    before = asyncio.all_tasks()

    async def connect() -> None:
        await (await Fabric.connect(shared_server.url, tenant=tenant, streams=4)).close()

    async def nothing_left() -> None:
        await no_task_left(before)
        gc.collect()

    await cut_everywhere(connect, when, nothing_left)


@pytest.mark.parametrize("when", WHEN)
async def test_who_is_cancelled_while_he_closes_has_closed_or_can_again(
    shared_server: NatsNode, tenant: str, when: When
) -> None:
    for at in range(1, 100):
        before = asyncio.all_tasks()
        fabric = await Fabric.connect(shared_server.url, tenant=tenant, streams=4)
        async with fabric.session("chat-1").run() as run:
            await run.text("So far")
        await fabric.watch_over()
        was_cut = await cut(fabric.close, at, when)
        await closed(fabric, before)
        if not was_cut:
            return
