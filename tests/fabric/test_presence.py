"""Presence over native NATS: who is there, in the session's order, and who is no more."""

from __future__ import annotations

import pytest
from session_fabric import Fabric, Session
from session_fabric.words.errors import InvalidRequest, SessionNotFound, TooLarge

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
