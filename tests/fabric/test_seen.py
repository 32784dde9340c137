"""What each participant has seen, and which tools are at work: the fabric's own documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from session_fabric import Fabric, Offset, Session, Signal, State
from session_fabric.words.errors import InvalidName, InvalidRequest, OffsetForeign, SessionNotFound, TooLarge

from tests.support.servers import NatsNode
from tests.support.sessions import Fabrics, note, said, stored
from tests.support.waiting import eventually


async def until(changes: AsyncIterator[State], body: dict[str, Any]) -> None:
    """Go on reading until a document is like this."""
    newest: Any = None
    try:
        async with asyncio.timeout(20):
            async for state in changes:
                newest = state.body
                if newest == body:
                    return
    except TimeoutError:
        pass
    assert newest == body


# --- cursors ------------------------------------------------------------------------------------------


async def test_each_device_has_a_cursor_of_its_own(fabrics: Fabrics) -> None:
    ada, eve = (await fabrics.open("user:ada")).session("s"), (await fabrics.open("user:eve")).session("s")
    first = (await ada.append(note(1))).offset
    second = (await ada.append(note(2))).offset
    await ada.seen(first, device="phone")
    await ada.seen(second, device="tab")
    await eve.seen(first)
    assert await eve.cursors() == [
        ("user:ada", "phone", first),
        ("user:ada", "tab", second),
        ("user:eve", "default", first),
    ]


async def test_a_cursor_never_goes_back(session: Session) -> None:
    offsets = [(await session.append(note(n))).offset for n in range(6)]
    assert await session.seen(offsets[3]) == offsets[3]
    assert await session.seen(offsets[1]) == offsets[3]
    await asyncio.gather(*(session.seen(offset) for offset in offsets))
    assert [cursor.offset for cursor in await session.cursors()] == [offsets[5]]


async def test_a_cursor_stands_where_the_session_is(fabric: Fabric, session: Session) -> None:
    with pytest.raises(SessionNotFound):
        await session.seen(Offset(1, 1))
    offset = (await session.append(note(1))).offset
    other = (await fabric.session("other").append(note(1))).offset
    for wrong in (other, offset._replace(sequence=offset.sequence + 1000), Offset(1, 1)):
        with pytest.raises(OffsetForeign):
            await session.seen(wrong)
    with pytest.raises(InvalidName):
        await session.seen(offset, device="a b")
    assert await session.cursors() == []


@pytest.mark.needs_rights
async def test_what_a_stranger_wrote_there_is_no_cursor(fabric: Fabric, session: Session) -> None:
    await session.create()
    for name, value in (("user=3Aada.d", b"no JSON"), ("user=3Aada.e", b'{"offset":"x"}'), ("x", b'{"offset":1}')):
        await fabric.broker.bucket("sf-cursors").put(f"{session.place.key()}.{name}", value)
    assert await session.cursors() == []
    assert (await session.state("_seen").get()).body == {"participants": {}}  # type: ignore[union-attr]


# --- _seen --------------------------------------------------------------------------------------------


async def test_seen_says_who_has_read_how_far_and_what_is_left(fabrics: Fabrics) -> None:
    ada, agent = (await fabrics.open("user:ada")).session("s"), (await fabrics.open()).session("s")
    asked = await ada.append(said("Hello"))
    async with agent.run("r1") as run:
        await run.text("Hello, Ada. ")
    await agent.append({"type": "app.note"})
    await ada.seen(asked.offset, device="phone")
    state = await agent.state("_seen").get()
    assert state is not None
    participants = {
        "user:ada": {"offset": str(asked.offset), "unread": 1, "devices": {"phone": str(asked.offset)}},
    }
    assert (state.body, state.by) == ({"participants": participants}, "service:fabric")
    head = await ada.head()
    await ada.seen(head, device="tab")
    state = await agent.state("_seen").get()
    assert state is not None
    assert state.body is not None
    assert state.body["participants"]["user:ada"]["unread"] == 0
    assert state.body["participants"]["user:ada"]["offset"] == str(head)


async def test_seen_is_watched(fabrics: Fabrics) -> None:
    ada, agent = (await fabrics.open("user:ada")).session("s"), (await fabrics.open()).session("s")
    asked = str((await ada.append(said("Hello"))).offset)
    async with aclosing(agent.state("_seen").watch()) as changes:
        await until(changes, {"participants": {}})
        await ada.seen(Offset.parse(asked), device="d1")
        devices = {"d1": asked}
        await until(changes, {"participants": {"user:ada": {"offset": asked, "unread": 0, "devices": devices}}})
        await agent.append({"type": "message.completed", "message": {"id": "m2", "role": "assistant", "content": "!"}})
        await until(changes, {"participants": {"user:ada": {"offset": asked, "unread": 1, "devices": devices}}})


async def test_a_message_is_unread_as_soon_as_it_begins(fabrics: Fabrics) -> None:
    ada, agent = (await fabrics.open("user:ada")).session("s"), (await fabrics.open()).session("s")
    asked = str((await ada.append(said("Hello"))).offset)
    await ada.seen(Offset.parse(asked), device="d1")
    async with aclosing(ada.state("_seen").watch()) as changes, agent.run("r1") as run:
        await run.text("Once upon a time")
        one = {"offset": asked, "unread": 1, "devices": {"d1": asked}}
        await until(changes, {"participants": {"user:ada": one}})


async def test_where_there_is_no_session_there_are_no_own_documents(session: Session) -> None:
    assert await session.state("_seen").get() is None
    assert await session.state("_tools").get() is None
    assert await session.state("_tools").history() == []


# --- _tools -------------------------------------------------------------------------------------------


async def test_tools_shows_what_is_in_flight(fabrics: Fabrics) -> None:
    ada, agent = (await fabrics.open("user:ada")).session("s"), (await fabrics.open()).session("s")
    async with aclosing(ada.state("_tools").watch()) as changes:
        await until(changes, {"calls": [], "requests": []})
        async with agent.run("r1") as run:
            call = await run.tool("search", {"q": "x"})
            async with asyncio.timeout(10):
                state = await anext(changes)
            assert state.body is not None
            (shown,) = state.body["calls"]
            assert (shown["id"], shown["name"], shown["run"], shown["by"]) == (call.id, "search", "r1", "agent:writer")
            now = await agent.state("_tools").get()
            assert now is not None
            assert now.body == state.body
            await call.result("found")
            await until(changes, {"calls": [], "requests": []})
            await run.tool("forever", {})
            async with asyncio.timeout(10):
                state = await anext(changes)
        await until(changes, {"calls": [], "requests": []})
    now = await agent.state("_tools").get()
    assert now is not None
    assert now.body == {"calls": [], "requests": []}


async def test_own_documents_are_watched_over_a_lost_broker(own_server: NatsNode, tenant: str) -> None:
    async with Fabric.connect(own_server.url, tenant=tenant, streams=1) as fabric:
        session = fabric.session("s")
        first = (await session.append(said("Hello"))).offset
        async with aclosing(session.state("_seen").watch()) as changes:
            await until(changes, {"participants": {}})
            own_server.kill()
            await own_server.restart()
            await eventually(lambda: fabric.broker.connected)
            await session.seen(first, device="d1")
            reader = {"offset": str(first), "unread": 1, "devices": {"d1": str(first)}}
            body = {"participants": {"agent:default": reader | {"unread": 0}}}
            await until(changes, body)


# --- signals ------------------------------------------------------------------------------------------


async def test_a_signal_is_heard_by_the_others_with_who_sent_it(fabrics: Fabrics) -> None:
    ada, agent = (await fabrics.open("user:ada")).session("s"), (await fabrics.open()).session("s")
    by_ada: list[Signal] = []
    by_agent: list[Signal] = []
    listening = [await ada.on_signal(by_ada.append), await agent.on_signal(by_agent.append)]
    await ada.signal({"type": "typing"}, device="d1")
    await agent.signal({"type": "thinking"})
    await eventually(lambda: by_agent == [("user:ada", "d1", {"type": "typing"})])
    await eventually(lambda: by_ada == [("agent:writer", "default", {"type": "thinking"})])
    for one in listening:
        await one.close()


@pytest.mark.needs_rights
async def test_what_is_no_signal_is_not_heard(fabric: Fabric, session: Session) -> None:
    heard: list[Signal] = []
    listening = await session.on_signal(heard.append)
    for data in (b"no JSON", b"7", b"{}", b'{"op":"signal","connection":"c","fields":{"actor":"a","device":"d"}}'):
        await fabric.broker.signals.send(session.place, data)
    await session.append(note(1))
    await session.seen(await session.head())
    other = fabric.session(session.name)
    await other.signal({"n": 1})
    await eventually(lambda: [signal.body for signal in heard] == [{"n": 1}])
    await listening.close()


async def test_a_signal_is_a_small_json_object(session: Session) -> None:
    for wrong in (b"bytes", "text", [1], {"a": object()}):
        with pytest.raises(InvalidRequest):
            await session.signal(wrong)  # type: ignore[arg-type]
    with pytest.raises(TooLarge) as refused:
        await session.signal({"x": "y" * 70_000})
    assert refused.value.facts["limit"] == 64 * 1024


async def test_a_signal_is_not_stored(session: Session) -> None:
    await session.create()
    await session.signal({"type": "typing"})
    assert [event.type for event in await stored(session)] == ["session.created"]
