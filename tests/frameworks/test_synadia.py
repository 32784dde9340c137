"""Agents of the Synadia Agent Protocol for NATS in durable sessions: real ones, by the protocol's own host SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from session_fabric import Fabric, Session
from session_fabric.frameworks.synadia import synadia_agent
from structlog.testing import capture_logs
from synadia_ai.agent_service import AgentService, PromptStream
from synadia_ai.agents import Agents, Attachment, Envelope, ResponseChunk

from tests.frameworks.talk import answers, asked, begun, ended, messages, request, say, seen, served
from tests.support.servers import NatsNode

Answer = Callable[[Envelope, PromptStream], Awaitable[None]]


@pytest.fixture
async def connection(shared_server: NatsNode) -> AsyncIterator[Any]:
    client = await nats.connect(shared_server.url)
    yield client
    await client.close()


@pytest.fixture
async def agents(connection: Any) -> AsyncIterator[Agents]:
    agents = Agents(nc=connection)
    yield agents
    await agents.close()


@pytest.fixture
def harness(tenant: str) -> str:
    """The name of an agent that no other test has."""
    return tenant.lower()


@asynccontextmanager
async def hosted(connection: Any, harness: str, answer: Answer, session: str = "main") -> AsyncIterator[None]:
    """Host an agent of the protocol for as long as the block lasts."""
    service = AgentService(agent=harness, owner="ops", session_name=session, nc=connection, description="a test")
    service.on_prompt(answer)
    await service.start()
    try:
        yield
    finally:
        await service.stop()


async def test_what_the_agent_streams_is_what_the_run_says(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        for word in ("You ", "said: ", envelope.prompt):
            await stream.send(word)
            await begun(ada)
        await stream.send(ResponseChunk(text="", attachments=[Attachment.from_bytes("a.txt", b"hello")]))

    async with hosted(connection, harness, answer), served(fabric, synadia_agent(agents, harness)):
        events = await asked(ada, "hello")
    assert await answers(ada) == ["You said: hello"]
    assert [m.status for m in await messages(ada)] == ["completed", "completed"]
    assert sum(event.type == "TEXT_MESSAGE_CONTENT" for event in events) > 1
    (attachment,) = [e.body["value"] for e in events if e.type == "CUSTOM"]
    assert attachment == {"filename": "a.txt", "content": "aGVsbG8="}


async def test_sessions_can_be_those_of_the_agent_and_be_told_the_conversation(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    def named(name: str) -> Answer:
        async def answer(envelope: Envelope, stream: PromptStream) -> None:
            await stream.send(f"{name} heard: {envelope.prompt}")

        return answer

    handler = synadia_agent(
        agents,
        harness,
        owner="ops",
        session=lambda run: run.session.name,
        prompt=lambda run, told: " | ".join(m["content"] for m in told),
    )
    other = fabric.view(participant="user:ada").session("else")
    async with (
        hosted(connection, harness, named("first"), "chat"),
        hosted(connection, harness, named("second"), "else"),
        served(fabric, handler),
    ):
        await asked(ada, "one", "q1")
        await asked(other, "two", "q2")
        await asked(ada, "three", "q3")
    assert await answers(ada) == ["first heard: one", "first heard: one | first heard: one | three"]
    assert await answers(other) == ["second heard: two"]


async def test_queries_of_the_agent_are_answered_by_participants(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        name = await stream.ask("Your name?", timeout=60)
        await stream.send(f"Hello {name.prompt}")

    handler = synadia_agent(agents, harness, inactivity_s=0.5)
    eve = fabric.view(participant="operator:eve").session("chat")
    async with hosted(connection, harness, answer), served(fabric, handler):
        run = await say(ada, "hi")
        found = await request(ada)
        await asyncio.sleep(0.7)  # she thinks for longer than the stream may be silent
        await eve.answer(found.request, "Eve")
        events = await ended(ada, run)
    assert (found.kind, found.body["title"]) == ("text", "Your name?")
    assert await answers(ada) == ["Hello Eve"]
    assert [e.type for e in events if e.type in ("run.suspended", "run.resumed")] == ["run.suspended", "run.resumed"]


async def test_a_query_that_the_agent_gives_up_is_closed_with_its_run(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        try:
            await stream.ask("Sure?", timeout=0.2)
        except Exception:
            await stream.send("I go on by myself.")

    async with hosted(connection, harness, answer), served(fabric, synadia_agent(agents, harness)):
        await asked(ada, "go")
    assert await answers(ada) == ["I go on by myself."]
    assert await ada.requests() == []


async def test_a_cancel_drops_the_stream_and_keeps_the_text(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    go = asyncio.Event()

    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        await stream.send("Once upon a time")
        await go.wait()
        await stream.send(" and so on")

    async with hosted(connection, harness, answer), served(fabric, synadia_agent(agents, harness)):
        run = await say(ada, "a story")
        await seen(ada, lambda event: event.type == "TEXT_MESSAGE_CONTENT")
        await ada.control("cancel", run=run)
        end = (await ended(ada, run))[-1]
        go.set()
    assert end.body["outcome"] == {"type": "cancelled"}
    assert await answers(ada) == ["Once upon a time"]


async def test_a_steer_is_refused_since_the_protocol_has_none(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    go = asyncio.Event()

    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        await stream.send("So ")
        await go.wait()

    async with hosted(connection, harness, answer), served(fabric, synadia_agent(agents, harness)):
        run = await say(ada, "go")
        await seen(ada, lambda event: event.type == "TEXT_MESSAGE_CONTENT")
        await ada.control("steer", run=run, body={"text": "shorter"})
        events = await seen(ada, lambda event: event.type in ("control.accepted", "control.rejected"))
        go.set()
        await ended(ada, run)
    assert events[-1].body["reason"] == "unsupported"


async def test_an_error_of_the_agent_ends_the_run_and_its_text_is_not_told(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        await stream.send("So ")
        raise RuntimeError("secret")

    with capture_logs():
        async with hosted(connection, harness, answer), served(fabric, synadia_agent(agents, harness)):
            end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "ProtocolError")
    assert "secret" not in str(end.body)


async def test_what_the_agent_cannot_take_ends_the_run_at_once(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        raise AssertionError("never")

    handler = synadia_agent(agents, harness, prompt=lambda run, told: "")
    async with hosted(connection, harness, answer), served(fabric, handler, retries=3):
        end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "PromptEmptyError")


async def test_an_agent_that_falls_silent_or_is_not_there_is_named(
    fabric: Fabric, ada: Session, connection: Any, agents: Agents, harness: str
) -> None:
    async def answer(envelope: Envelope, stream: PromptStream) -> None:
        await stream.send("So ")
        await asyncio.sleep(3600)

    with capture_logs():
        handler = synadia_agent(agents, harness, inactivity_s=0.3)
        async with served(fabric, handler):
            async with hosted(connection, harness, answer):
                silent = (await asked(ada, "go", "q1"))[-1]
            gone = (await asked(ada, "again", "q2"))[-1]
    assert silent.body["code"] == "StreamStalledError"
    assert gone.body["code"] == "AgentNotFound"
