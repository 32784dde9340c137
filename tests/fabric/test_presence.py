"""Presence over native NATS: who is there, in the session's order, and who is no more."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric import Event, Fabric, Session
from session_fabric.memory import MemoryBroker
from session_fabric.words.errors import BrokerUnavailable, InvalidRequest, SessionGone, SessionNotFound, TooLarge

from tests.support.sessions import Fabrics
from tests.support.waiting import eventually


async def about(session: Session) -> list[tuple[str, str, str | None]]:
    events = [e for e in (await session.history(limit=1000)).events if e.type.startswith("presence.")]
    return [(e.type.removeprefix("presence."), e.body["device"], e.body.get("status")) for e in events]


async def test_who_joins_is_there_until_the_block_is_left(session: Session) -> None:
    async with session.join({"name": "w"}, status="idle", device="d1") as member:
        (found,) = await session.members()
        assert (found.participant, found.device, found.status, found.data) == (
            "agent:writer",
            "d1",
            "idle",
            {"name": "w"},
        )
        await member.update(status="thinking")
        await member.update(data={"name": "x"})
        (found,) = await session.members()
        assert (found.status, found.data) == ("thinking", {"name": "x"})
    assert await session.members() == []
    assert await about(session) == [
        ("joined", "d1", "idle"),
        ("updated", "d1", "thinking"),
        ("updated", "d1", "thinking"),
        ("left", "d1", None),
    ]


async def test_two_devices_of_a_participant_are_two_members(fabric: Fabric, session: Session) -> None:
    async with session.join(device="d1"), session.join(device="d2"):
        assert [m.device for m in await session.members()] == ["d1", "d2"]
    assert await session.members() == []


async def test_the_members_of_a_process_that_is_gone_leave_and_it_is_said_once(fabrics: Fabrics) -> None:
    one, two, three = await fabrics.open(), await fabrics.open(), await fabrics.open()
    session = two.session("chat-1")
    await two.watch_over()
    await three.watch_over()
    joined = one.session("chat-1").join(device="d1")
    await joined.__aenter__()
    assert [m.device for m in await session.members()] == ["d1"]
    # It ends without a word: its lease is not renewed any more, and its name is not answered to.
    task = one._shared.lease._task
    assert task is not None
    task.cancel()
    one._shared.presence._locals.clear()
    assert one._shared.lease._serving is not None
    await one._shared.lease._serving.close()

    async def left() -> bool:
        return ("left", "d1", None) in await about(session)

    await eventually(left, 20)
    assert await session.members() == []

    async def entries() -> bool:
        return await two.broker.bucket("sf-presence").entries(session.place.key()) == []

    await eventually(entries)
    assert [kind for kind, _, _ in await about(session)] == ["joined", "left"]


@pytest.mark.parametrize(
    ("data", "status", "error"), [({"x": "y" * 5000}, None, TooLarge), ({}, "asleep", InvalidRequest)]
)
async def test_what_cannot_be_shown_is_refused(
    session: Session, data: dict[str, str], status: str | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        session.join(data, status=status)


async def test_nobody_is_asked_for_in_a_session_that_is_not_there(fabric: Fabric) -> None:
    with pytest.raises(SessionNotFound):
        await fabric.session("nowhere").members()


async def test_of_changes_that_come_faster_than_they_are_written_the_newest_is_told(session: Session) -> None:
    async with session.join(device="d1") as member:
        await asyncio.gather(*(member.update(data={"n": n}) for n in range(200)))
        assert [m.data for m in await session.members()] == [{"n": 199}]
        told = [e.body["data"]["n"] for e in await updates(session)]
    assert told == sorted(told)
    assert told[-1] == 199
    assert len(told) < 20


async def updates(session: Session) -> list[Event]:
    return [e for e in (await session.history(limit=1000)).events if e.type == "presence.updated"]


async def test_a_status_is_taken_back_and_what_is_the_same_is_not_said_again(session: Session) -> None:
    async with session.join(status="tool", device="d1") as member:
        await member.update(status="tool")
        await member.update(status=None)
        assert [m.status for m in await session.members()] == [None]
    assert [status for kind, _, status in await about(session) if kind != "left"] == ["tool", None]


async def test_a_device_in_many_processes_joins_once_and_leaves_once(fabrics: Fabrics) -> None:
    all_of_them = [await fabrics.open() for _ in range(6)]
    session = all_of_them[0].session("chat-1")
    await session.create()
    for _ in range(3):
        joined = [fabric.session("chat-1").join({"x": 1}, device="d1") for fabric in all_of_them]
        await asyncio.gather(*(one.__aenter__() for one in joined))
        assert [m.device for m in await session.members()] == ["d1"]
        await asyncio.gather(*(one.__aexit__() for one in joined))
        assert await session.members() == []
    kinds = [kind for kind, _, _ in await about(session)]
    # Said twice at most in a race, and never that it has left while it is there.
    assert kinds[0] == "joined"
    assert kinds[-1] == "left"
    assert kinds.count("left") >= 3
    assert kinds.count("joined") >= 3


async def test_a_device_that_moves_to_another_process_has_never_left(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    session = two.session("chat-1")
    first = one.session("chat-1").join({"from": "one"}, device="d1")
    await first.__aenter__()
    (before,) = await session.members()
    async with session.join({"from": "two"}, device="d1"):
        await first.__aexit__()
        (after,) = await session.members()
        assert (after.since, after.data) == (before.since, {"from": "two"})
        assert [kind for kind, _, _ in await about(session)] == ["joined", "updated"]
    assert [kind for kind, _, _ in await about(session)] == ["joined", "updated", "left"]


async def test_when_a_device_leaves_one_of_its_processes_what_the_other_shows_counts(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    session = two.session("chat-1")
    async with session.join({"from": "two"}, device="d1"):
        async with one.session("chat-1").join({"from": "one"}, device="d1"):
            assert [m.data for m in await session.members()] == [{"from": "one"}]
        assert [m.data for m in await session.members()] == [{"from": "two"}]
        assert [e.body["data"] for e in await updates(session)] == [{"from": "one"}, {"from": "two"}]


async def test_nobody_joins_a_session_that_was_deleted_meanwhile(fabrics: Fabrics) -> None:
    one, two = await fabrics.open(), await fabrics.open()
    session = one.session("chat-1")
    async with session.join(device="d1") as member:
        await two.session("chat-1").delete()
        with pytest.raises((SessionGone, SessionNotFound)):
            await member.update(status="idle")
    assert await one.broker.bucket("sf-presence").entries(session.place.key()) == []


async def test_who_has_left_shows_nothing_any_more(session: Session) -> None:
    async with session.join(device="d1") as member:
        pass
    with pytest.raises(InvalidRequest, match="not present"):
        await member.update(status="idle")


async def test_joining_while_the_broker_is_away_is_refused_and_leaves_nothing_behind() -> None:
    broker = MemoryBroker()
    async with await Fabric.over(broker, tenant="t") as fabric:
        session = fabric.session("chat-1")
        await session.create()
        broker.disconnect()
        with pytest.raises(BrokerUnavailable):
            async with session.join(device="d1"):
                pass
        broker.reconnect()

        async def nobody() -> bool:
            return not fabric.presence._locals and await session.members() == []

        await eventually(nobody)
