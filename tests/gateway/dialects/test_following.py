"""A session is followed from the log into what happens, without a hole, and again after a rewind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from session_fabric import Fabric, Offset, Session
from session_fabric.words.positions import After
from session_fabric.words.wire import Record
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.dialects.following import Following
from session_fabric_gateway.feed import Feed
from session_fabric_gateway.replays import Shelf

from tests.gateway.conftest import Running
from tests.support.waiting import eventually


async def _gather(house: Running, feed: Feed, after: After, found: list[Record], role: str = "user") -> None:
    meter = house.gateway.accounts.request(Grant(house.tenant, f"{role}:ada"), 0.0, writes=False, size=0)
    following = Following(feed, after, role, house.gateway.sender.history, meter)
    await following.begin()
    async with aclosing(following.batches()) as batches:
        async for records in batches:
            found += records


async def _until(found: list[Record], id: str, times: int = 1) -> list[str]:
    await eventually(lambda: sum(one.id == id for one in found) >= times)
    return [one.id for one in found if one.id.startswith("e")]


def _session(agent: Fabric) -> Session:
    return agent.session("followed")


async def test_what_is_stored_comes_first_then_what_happens(house: Running, agent: Fabric) -> None:
    session = _session(agent)
    for number in range(5):
        await session.append({"type": "app.n"}, id=f"e{number}")
    found: list[Record] = []
    async with house.gateway.hub.reading(session.place) as feed:
        task = asyncio.create_task(_gather(house, feed, "start", found))
        await _until(found, "e4")
        for number in range(5, 10):
            await session.append({"type": "app.n"}, id=f"e{number}")
        assert await _until(found, "e9") == [f"e{number}" for number in range(10)]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_a_rewind_brings_late_is_not_missed(house: Running, agent: Fabric) -> None:
    session = _session(agent)
    await session.append({"type": "app.n"}, id="e0")
    found: list[Record] = []
    async with house.gateway.hub.reading(session.place) as feed:
        task = asyncio.create_task(_gather(house, feed, "start", found))
        await _until(found, "e0")
        for number in (1, 2, 3):
            await session.append({"type": "app.n"}, id=f"e{number}")
        await _until(found, "e3")
        again = [one for one in found if one.id in ("e2", "e3")]
        first = next(one for one in found if one.id == "e1")
        feed.rewind(Offset(first.segment, first.sequence))
        feed.records(again)
        assert await _until(found, "e3", 2) == ["e0", "e1", "e2", "e3", "e2", "e3"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_users_do_not_hear_what_is_whispered(house: Running, agent: Fabric) -> None:
    session = _session(agent)
    await session.append({"type": "app.n"}, id="e0")
    operator = agent.view(tenant=house.tenant, participant="operator:eve", gateway=True).session("followed")
    await operator.whisper("quiet", id="e-stored")
    heard: dict[str, list[Record]] = {"user": [], "operator": []}
    async with house.gateway.hub.reading(session.place) as feed:
        tasks = [asyncio.create_task(_gather(house, feed, "start", found, role)) for role, found in heard.items()]
        await _until(heard["user"], "e0")
        await operator.whisper("quiet too", id="e-live")
        await session.append({"type": "app.n"}, id="e1")
        for found in heard.values():
            await _until(found, "e1")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [one.id for one in heard["user"] if one.id.startswith("e")] == ["e0", "e1"]
    assert {"e-stored", "e-live"} <= {one.id for one in heard["operator"]}


async def test_what_the_live_path_lost_comes_before_the_end_of_a_run(house: Running, agent: Fabric) -> None:
    session = _session(agent)
    async with session.run("r1") as run:
        await run.text("All of it.")
    stored = [record async for records in session.read(deltas="all") for record in records]
    heard = [record for record in stored if record.parts.kind == "own"]
    assert [record.type for record in heard] == ["RUN_STARTED", "RUN_FINISHED"]
    # A feed that has heard no more than that: a lost event leaves no hole in another subject.
    feed = Feed(session, Shelf(), lambda _: None, lambda _: None)
    feed.mark(heard[0].offset)
    found: list[Record] = []
    task = asyncio.create_task(_gather(house, feed, heard[0].offset, found))
    await asyncio.sleep(0)
    feed.records(heard[1:])
    await eventually(lambda: any(record.type == "RUN_FINISHED" for record in found))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [record.type for record in found if record.parts.kind != "tok"] == ["message.completed", "RUN_FINISHED"]
