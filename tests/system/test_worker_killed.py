"""A worker that is killed in mid-answer: another one of its pool goes on, and nothing is lost or said twice."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from session_fabric import Event, Fabric, Session, doorbell
from session_fabric.rules.routing import run_of_input

from tests.support.servers import NatsNode
from tests.support.sessions import Following, ended, exact, stored, text_of, types
from tests.support.waiting import eventually
from tests.system.agent import answer

ROOT = Path(__file__).parents[2]
TOKENS = 2500


@asynccontextmanager
async def worker(node: NatsNode, tenant: str, count: int = TOKENS) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.worker", node.url, tenant, str(count), stdout=PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def fabric(shared_server: NatsNode, tenant: str) -> AsyncIterator[Fabric]:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="user:ada") as fabric:
        yield fabric


async def ask(session: Session, id: str) -> str:
    message = {"id": id, "role": "user", "content": "count"}
    await session.append({"type": "message.user", "message": message}, id=id)
    return run_of_input(id)


async def test_a_killed_workers_answer_is_gone_on_with_to_its_end(
    fabric: Fabric, shared_server: NatsNode, tenant: str
) -> None:
    session = fabric.session("chat-1")
    await session.create()
    following = Following(session)

    def over(events: list[Event]) -> bool:
        return bool(events) and events[-1].type in ("RUN_FINISHED", "RUN_ERROR")

    got = asyncio.create_task(following.until(over, 120.0))
    async with worker(shared_server, tenant) as first:
        run = await ask(session, "q1")
        await eventually(lambda: types(following.events).count("TEXT_MESSAGE_CONTENT") > 20, 60.0)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        async with worker(shared_server, tenant):
            events = exact(await got)
    life = [e.type for e in events if e.run == run and e.type.startswith(("RUN_", "run."))]
    assert life == ["RUN_STARTED", "run.orphaned", "run.taken_over", "RUN_FINISHED"]
    messages = [m for m in (await session.messages()).messages if m.role == "assistant"]
    assert [(m.content, m.status) for m in messages] == [(answer(TOKENS), "completed")]
    assert text_of(exact(await stored(session)), messages[0].id) == answer(TOKENS)


async def killed_in_mid_answer(
    fabric: Fabric, session: Session, server: NatsNode, tenant: str, last: str
) -> tuple[str, list[Event]]:
    """Have a worker killed that answers; return its run, and all events up to the first of type `last`."""
    await session.create()
    following = Following(session)
    got = asyncio.create_task(following.until(lambda events: bool(events) and events[-1].type == last, 120.0))
    await fabric.watch_over()
    async with worker(server, tenant) as first:
        run = await ask(session, "q1")
        await eventually(lambda: types(following.events).count("TEXT_MESSAGE_CONTENT") > 20, 60.0)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        return run, await got


async def rung(session: Session, run: str) -> Event:
    """Return the event that asks the run's pool to go on with it."""
    events = (await session.history(limit=1000)).events
    found = [e for e in events if e.type == "pool.rung" and e.body.get("run") == run]
    assert found, "nobody has rung"
    return found[0]


async def test_a_killed_worker_whose_pool_has_nobody_else_has_been_lost_until_somebody_comes(
    fabric: Fabric, shared_server: NatsNode, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "TAKEN_OVER_WITHIN_S", 600.0)  # however long another process takes to begin
    session = fabric.session("chat-1")
    run, _ = await killed_in_mid_answer(fabric, session, shared_server, tenant, "run.orphaned")
    left = [e for e in (await session.history(limit=1000)).events if e.type == "presence.left"]
    assert all(e.body["reason"] == "lost" for e in left)
    async with worker(shared_server, tenant):

        async def done() -> bool:
            return any(e.run == run and e.type == "RUN_FINISHED" for e in (await session.history(limit=1000)).events)

        await eventually(done, 120.0)
    assert (await session.messages()).messages[-1].content == answer(TOKENS)


async def test_a_killed_worker_after_whom_nobody_comes_in_time_ends_its_run_as_lost(
    fabric: Fabric, shared_server: NatsNode, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doorbell.TAKEN_OVER_WITHIN_S == 15.0
    monkeypatch.setattr(doorbell, "TAKEN_OVER_WITHIN_S", 1.0)
    session = fabric.session("chat-1")
    run, events = await killed_in_mid_answer(fabric, session, shared_server, tenant, "RUN_ERROR")
    life = [e for e in events if e.run == run and e.type.startswith(("RUN_", "run."))]
    assert types(life) == ["RUN_STARTED", "run.orphaned", "RUN_ERROR"]
    assert life[-1].body["code"] == "agent_lost"
    asked = await rung(session, run)
    assert life[-1].ts - asked.ts >= asked.body["deadline_ms"] - 5
    (message,) = [m for m in (await session.messages()).messages if m.role == "assistant"]
    assert message.status == "failed"
    assert answer(TOKENS).startswith(str(message.content))
    assert message.content
    async with worker(shared_server, tenant, count=1):  # who comes now answers what is asked now, and that alone
        later = await ask(session, "q2")
        await Following(session).until(ended(later), 120.0)
    assert [e.type for e in await stored(session) if e.run == run and e.type.startswith("RUN_")][-1] == "RUN_ERROR"
