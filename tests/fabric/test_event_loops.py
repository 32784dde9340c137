"""A fabric belongs to the event loop that it was connected in: from elsewhere its calls say so, and do nothing."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from session_fabric import Fabric, Session
from session_fabric.words.errors import InvalidRequest

from tests.support.servers import NatsNode
from tests.support.sessions import note, stored, values


async def followed(session: Session) -> None:
    async with aclosing(session.follow()) as events:
        async for _ in events:
            return


async def run(session: Session) -> None:
    async with session.run("r1"):
        pass


async def joined(session: Session) -> None:
    async with session.join():
        pass


async def worked(fabric: Fabric) -> None:
    async with fabric.subscribe(durable="indexer") as work:
        await work.fetch(1, 1)


CALLS: dict[str, Callable[[Fabric, Session], Awaitable[Any]]] = {
    "append": lambda _, session: session.append(note(2)),
    "history": lambda _, session: session.history(),
    "follow": lambda _, session: followed(session),
    "run": lambda _, session: run(session),
    "control": lambda _, session: session.control("cancel", run="r1"),
    "whisper": lambda fabric, _: fabric.view(participant="operator:eve").session("chat-1").whisper("psst"),
    "join": lambda _, session: joined(session),
    "fresh": lambda fabric, _: fabric.session("another").append(note(2)),
    "list": lambda fabric, _: fabric.sessions(),
    "subscribe": lambda fabric, _: worked(fabric),
    "watch": lambda fabric, _: fabric.watch_over(),
    "close": lambda fabric, _: fabric.close(),
}


def refused(call: Coroutine[Any, Any, Any]) -> None:
    """Make a call in an event loop of its own, and see that it is refused at once."""

    async def make() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(InvalidRequest, match="run_coroutine_threadsafe"):
                await call

    asyncio.run(make())


async def made(call: Awaitable[Any]) -> Any:
    return await call


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_another_thread_says_where_it_belongs(real: Fabric, name: str) -> None:
    session = real.session("chat-1")
    await session.append(note(1))
    await asyncio.to_thread(refused, made(CALLS[name](real, session)))
    await session.append(note(3))
    assert values(await stored(session)) == [1, 3]


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_from_the_next_loop_of_its_thread_says_so(shared_server: NatsNode, tenant: str, name: str) -> None:
    async def open() -> Fabric:
        fabric = await Fabric.connect(shared_server.url, tenant=tenant, streams=4)
        await fabric.session("chat-1").append(note(1))
        return fabric

    def both() -> None:
        with asyncio.Runner() as first:
            fabric = first.run(open())
            refused(made(CALLS[name](fabric, fabric.session("chat-1"))))
            first.run(fabric.close())

    await asyncio.to_thread(both)


async def test_another_thread_is_served_where_the_fabric_is(real: Fabric) -> None:
    session, home = real.session("chat-1"), asyncio.get_running_loop()

    def elsewhere() -> None:
        asyncio.run_coroutine_threadsafe(session.append(note(1)), home).result(5)

    await asyncio.to_thread(elsewhere)
    assert values(await stored(session)) == [1]


def test_a_loop_that_goes_on_in_another_thread_is_the_same(shared_server: NatsNode, tenant: str) -> None:
    """As programs do that serve requests by threads: they connect first, and leave the loop to one of its own."""
    with asyncio.Runner() as runner:
        home = runner.get_loop()
        fabric = home.run_until_complete(made(Fabric.connect(shared_server.url, tenant=tenant, streams=4)))
        thread = threading.Thread(target=home.run_forever)
        thread.start()
        try:
            for value in (1, 2):
                asyncio.run_coroutine_threadsafe(fabric.session("chat-1").append(note(value)), home).result(10)
        finally:
            home.call_soon_threadsafe(home.stop)
            thread.join()
        assert values(home.run_until_complete(stored(fabric.session("chat-1")))) == [1, 2]
        home.run_until_complete(fabric.close())


@pytest.mark.parametrize("name", CALLS)
async def test_a_process_that_was_forked_is_told_to_connect_anew(real: Fabric, name: str) -> None:
    """As `multiprocessing` does, on Linux before Python 3.14, whose processes may find a fabric where they look."""
    session = real.session("chat-1")
    await session.append(note(1))
    forking = multiprocessing.get_context("fork")
    said, saying = forking.Pipe(duplex=False)

    def forked() -> None:
        try:
            asyncio.run(made(CALLS[name](real, session)))
        except InvalidRequest as error:
            saying.send(str(error))
        except BaseException as error:
            saying.send(repr(error))
        os._exit(0)

    process = forking.Process(target=forked)
    process.start()
    assert "connect there" in await asyncio.to_thread(said.recv)
    await asyncio.to_thread(process.join)
    await session.append(note(3))
    assert values(await stored(session)) == [1, 3]


async def test_one_that_is_closed_may_be_closed_again_anywhere(shared_server: NatsNode, tenant: str) -> None:
    fabric = await Fabric.connect(shared_server.url, tenant=tenant, streams=4)
    await fabric.close()
    await asyncio.to_thread(asyncio.run, made(fabric.close()))
