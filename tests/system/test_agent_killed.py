"""An agent that is killed: what it said is there once, and the session goes on."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from session_fabric import Event, Fabric
from session_fabric.words.errors import RunClosed, RunExists
from session_fabric.words.events import TEXT_CONTENT

from tests.support.servers import NatsNode
from tests.support.sessions import Following, deltas, ended, exact, stored, text_of, types
from tests.support.waiting import eventually
from tests.system.agent import SESSION, answer


@asynccontextmanager
async def agent(node: NatsNode, tenant: str, run: str, count: int) -> AsyncIterator[Process]:
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.agent", node.url, tenant, run, str(count), stdout=PIPE, cwd=root
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def fabric(shared_server: NatsNode, tenant: str) -> AsyncIterator[Fabric]:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="user:ada") as fabric:
        yield fabric


async def test_an_agent_killed_in_mid_answer_leaves_a_prefix_that_every_reader_sees_once(
    fabric: Fabric, shared_server: NatsNode, tenant: str
) -> None:
    session = fabric.session(SESSION)
    await session.create()
    following = Following(session)
    got = asyncio.create_task(following.until(lambda events: len(events) > 0 and events[-1].type == "app.end"))
    async with agent(shared_server, tenant, "r1", 1_000_000) as process:
        await eventually(lambda: sum(e.type == TEXT_CONTENT for e in following.events) > 30)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    await session.append({"type": "app.end"})
    live = exact(await got)
    text = text_of(live)
    assert len(text) > 100
    assert answer(len(text)).startswith(text)
    assert "".join(deltas(live)) == text
    # Late joiners, the whole log and the projection say the same.
    assert text_of(exact(await stored(session))) == text
    assert text_of(await stored(session, deltas="all")) == text
    assert [(m.content, m.status) for m in (await session.messages()).messages] == [(text, "open")]

    with pytest.raises((RunExists, RunClosed)):
        async with session.run("r1"):
            pass
    async with agent(shared_server, tenant, "r2", 100) as process:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"done"
    events = exact(await stored(session))
    assert text_of(events, "m-r1") == text
    assert text_of(events, "m-r2") == answer(100)


async def test_an_agent_that_is_asked_to_end_says_that_it_was_stopped(
    fabric: Fabric, shared_server: NatsNode, tenant: str
) -> None:
    session = fabric.session(SESSION)
    await session.create()
    following = Following(session)
    got = asyncio.create_task(following.until(ended("r1")))
    async with agent(shared_server, tenant, "r1", 1_000_000) as process:
        await eventually(lambda: TEXT_CONTENT in types(following.events))
        process.send_signal(signal.SIGINT)
        await process.wait()
    events: list[Event] = exact(await got)
    assert (events[-1].type, events[-1].body["code"]) == ("RUN_ERROR", "agent_stopped")
    assert answer(10_000).startswith(text_of(events))


async def test_two_agents_answer_in_one_session_at_once(fabric: Fabric, shared_server: NatsNode, tenant: str) -> None:
    session = fabric.session(SESSION)
    await session.create()
    got = asyncio.create_task(Following(session).until(ended("r1", "r2")))
    async with agent(shared_server, tenant, "r1", 300), agent(shared_server, tenant, "r2", 300):
        events = await got
    assert len({e.offset for e in events}) == len(events)
    for run in ("r1", "r2"):
        assert text_of(events, f"m-{run}") == answer(300)
