"""What was redacted is served by no gateway, on no path, from no memory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest
from session_fabric import Fabric, Session

from tests.gateway.conftest import Running, Start
from tests.gateway.sockets import greeted, user_message

SECRET = "4111-1111"


@pytest.fixture
async def session(agent: Fabric) -> Session:
    session = agent.session("s1")
    await session.append(user_message("Hello", "m0"))
    return session


async def talk(session: Session) -> str:
    await session.append(user_message(f"Mine is {SECRET}.", "m1"))
    async with session.run("r1") as run:
        await run.text(f"Noted: {SECRET}.")
        await (await run.tool("charge", {"card": SECRET})).result(f"charged {SECRET}")
    await session.append(user_message("Thanks.", "m2"))
    return next(m.id for m in (await session.messages()).messages if m.run == "r1")


async def test_who_is_live_on_any_gateway_is_told_and_no_memory_serves_it_again(start: Start, session: Session) -> None:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(start()) for _ in range(2)]
        at_one, at_two = [await stack.enter_async_context(greeted(h.url, h.token())) for h in (one, two)]
        for client in (at_one, at_two):
            opened = await client.open("s1")
            await client.op("live")
        answer = await talk(session)
        for client in (at_one, at_two):
            await client.until_events(lambda events: bool(events) and "Thanks" in str(events[-1]["body"]))
            assert SECRET in str(client.events)
        for message in ("m1", answer):
            assert (await session.redact(message, reason="A card number.")).complete
        for client in (at_one, at_two):
            events = await client.until_events(lambda events: events[-1]["body"].get("message") == answer)
            assert [e["type"] for e in events[-2:]] == ["message.redacted", "message.redacted"]
        # The feeds are still warm: a resume from before is not answered from memory.
        for house in (one, two):
            for after in (opened["head"], "start"):
                async with greeted(house.url, house.token()) as late:
                    await late.open("s1", after=after)
                    await late.op("live")
                    assert SECRET not in str(late.events)
                    assert "message.redacted" in str(late.events)
            await nothing_over_http(house, session, opened["head"])


async def nothing_over_http(house: Running, session: Session, after: str) -> None:
    headers = {"Authorization": f"Bearer {house.token()}"}
    async with aiohttp.ClientSession(house.url) as http:
        for path in (
            "/v1/sessions/s1/messages",
            "/v1/sessions/s1/events",
            f"/v1/sessions/s1/events?after={after}",
            f"/v1/sessions/s1/events?after={after}&live=long-poll",
            "/v1/sessions/s1/stream",
            "/v1/sessions/s1/runs/r1/stream",
        ):
            async with http.get(path, headers=headers) as response:
                text = await response.text()
                assert response.status == 200, text
                assert SECRET not in text, path
        async with http.get("/v1/sessions/s1/messages", headers=headers) as response:
            told = {m["id"]: (m["redacted"], m["role"], m["content"]) for m in (await response.json())["messages"]}
        assert told["m1"] == (True, "user", "")
        assert told["m0"] == (False, "user", "Hello")
        async with http.get(f"/v1/sessions/s1/events?after={after}&live=sse", headers=headers) as response:
            text = b""
            async with asyncio.timeout(10):
                while text.count(b"message.redacted") < 2:
                    text += await response.content.readany()
            assert SECRET.encode() not in text


async def test_followers_of_a_fork_are_told(house: Running, session: Session) -> None:
    await talk(session)
    await session.fork(await session.head(), "fork-1")
    async with greeted(house.url, house.token()) as client:
        await client.open("fork-1")
        await client.op("live")
        assert SECRET in str(client.events)
        await session.redact("m1", reason="x")
        events = await client.until_events(lambda events: events[-1]["type"] == "message.redacted")
        assert events[-1]["body"]["message"] == "m1"
    async with greeted(house.url, house.token()) as client:
        await client.open("fork-1")
        await client.op("live")
        assert f"Mine is {SECRET}" not in str(client.events)


async def test_who_is_let_in_while_it_is_said_has_it_removed(house: Running, session: Session) -> None:
    """Readers who come at any moment of it end without the content: they have the event behind it."""
    await talk(session)

    async def reader() -> list[dict[str, object]]:
        async with greeted(house.url, house.token()) as client:
            await client.open("s1")
            return await client.until_events(lambda events: any(e["type"] == "message.redacted" for e in events))

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(reader()) for _ in range(5)]
        await session.redact("m1", reason="x")
        readers += [group.create_task(reader()) for _ in range(5)]
    for one in readers:
        events = one.result()
        said = [n for n, e in enumerate(events) if "Mine is" in str(e["body"])]
        gone = next(n for n, e in enumerate(events) if e["type"] == "message.redacted")
        assert all(n < gone for n in said)
