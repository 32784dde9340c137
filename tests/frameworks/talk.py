"""Words for tests that talk to an agent as participants do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

from session_fabric import AgentRun, Event, Fabric, Message, Request, Session
from session_fabric.rules.routing import run_of_input

from tests.support.waiting import eventually

ENDS = ("RUN_FINISHED", "RUN_ERROR")


@asynccontextmanager
async def served(fabric: Fabric, handler: Callable[[AgentRun], Awaitable[None]], **options: Any) -> AsyncIterator[None]:
    """Serve a handler as an agent of the pool `default` for as long as the block lasts."""
    agent = fabric.agent(**{"retries": 0, **options})(handler)
    task = asyncio.create_task(agent.serve())
    try:
        yield
    finally:
        agent.stop()
        await task


async def say(session: Session, text: str, id: str = "q1", **more: Any) -> str:
    """Say something; return the run that will answer it."""
    message = {"id": id, "role": "user", "content": text}
    await session.append({"type": "message.user", "message": message, **more}, id=id)
    return run_of_input(id)


WITHIN_S = 60.0


async def seen(session: Session, until: Callable[[Event], bool], within_s: float = WITHIN_S) -> list[Event]:
    """Return all that has happened in the session up to the first event that is wanted, deltas included."""
    events: list[Event] = []
    async with asyncio.timeout(within_s), aclosing(session.follow("start", deltas="all")) as following:
        async for event in following:
            events.append(event)
            if until(event):
                return events
    raise AssertionError("unreachable")


async def begun(session: Session) -> None:
    """Return when the first of an answer is there, for a model that says the rest after it."""
    await seen(session, lambda event: event.type == "TEXT_MESSAGE_CONTENT")


async def ended(session: Session, run: str, within_s: float = WITHIN_S) -> list[Event]:
    """Return all that has happened up to a run's end."""
    return await seen(session, lambda event: event.run == run and event.type in ENDS, within_s)


async def asked(session: Session, text: str, id: str = "q1", **more: Any) -> list[Event]:
    """Say something, and return all that has happened when it was answered."""
    return await ended(session, await say(session, text, id, **more))


async def messages(session: Session) -> list[Message]:
    return list((await session.messages(branch="visible")).messages)


async def answers(session: Session) -> list[str]:
    """Return what agents have said, message by message, without those that say nothing."""
    return [m.content for m in await messages(session) if m.role == "assistant" and m.content]


async def request(session: Session, within_s: float = WITHIN_S) -> Request:
    """Wait until a run asks for something, and return it."""

    async def open_one() -> Request | None:
        found = await session.requests()
        return found[0] if found else None

    return await eventually(open_one, within_s)


def kinds(events: list[Event], run: str | None = None) -> list[str]:
    """Return the types of events (of a run), those that repeat each other once."""
    found: list[str] = []
    for event in events:
        if (run is None or event.run == run) and found[-1:] != [event.type]:
            found.append(event.type)
    return found
