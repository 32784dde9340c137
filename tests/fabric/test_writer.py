"""What a repeated id means when the broker has forgotten it."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric import Fabric, Session
from session_fabric.words.errors import IdConflict, InvalidEvent, InvalidName, OffsetForeign
from session_fabric.words.subjects import Place
from session_fabric.writer import Identity

from tests.support.servers import NatsNode
from tests.support.sessions import api, note, said, stored, values
from tests.support.waiting import eventually


@pytest.mark.parametrize("name", ["ada", "user:", "admin:ada", "user:a b", "user:*", "user:>", "user:\n", ""])
def test_a_participant_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        Identity("default", name)


async def forgetful(fabric: Fabric, session: Session, window_ms: int) -> None:
    """Let the broker remember ids for this long only, instead of two minutes."""
    await session.create()
    broker = api(fabric)
    stream = (await session.record()).segments[-1].stream
    config = (await broker.api.call(f"STREAM.INFO.{stream}"))["config"]
    config["duplicate_window"] = window_ms * 1_000_000
    await broker.api.call(f"STREAM.UPDATE.{stream}", config)


async def test_a_retry_after_minutes_is_stored_once_when_it_says_since(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, streams=1) as fabric:
        session = fabric.session("chat-1")
        await forgetful(fabric, session, 100)
        since = await session.head()
        first = await session.append(said("Hello"), id="e1", since=since)
        # The broker has forgotten the id when it takes another event of the same id.
        probe = (await session.append(note(0), id="probe")).offset

        async def forgotten() -> bool:
            return (await session.append(note(0), id="probe")).offset != probe

        await eventually(forgotten, 30, every_s=0.25)
        again = await session.append(said("Hello"), id="e1", since=since)
        assert again == (first.offset, True)
        with pytest.raises(IdConflict):
            await session.append(said("Hallo"), id="e1", since=since)
        # An offset of none of its parts was never this session's: the retry is of another life.
        with pytest.raises(OffsetForeign):
            await session.append(said("Hello"), id="e1", since=since._replace(segment=1))


async def test_many_retries_at_once_store_an_event_once(real: Fabric) -> None:
    session = real.session("chat-1")
    since = (await session.append(note("before"))).offset
    appended = await asyncio.gather(*(session.append(note("x"), id="e1", since=since) for _ in range(20)))
    assert len({a.offset for a in appended}) == 1
    assert [a.duplicate for a in appended].count(False) == 1
    assert values(await stored(session)) == ["before", "x"]


async def test_a_large_body_sent_again_is_recognised_and_leaves_nothing_behind(real: Fabric) -> None:
    session = real.session("chat-1")
    first = await session.append(note("x" * 600_000), id="e1")
    again = await session.append(note("x" * 600_000), id="e1")
    assert again == (first.offset, True)
    with pytest.raises(IdConflict):
        await session.append(note("y" * 600_000), id="e1")
    info = await api(real).api.call("STREAM.INFO.SF-BLOBS", {"subjects_filter": Place(real.tenant, "chat-1").blobs()})
    assert len(info["state"]["subjects"]) == 1
    assert values(await stored(session)) == ["x" * 600_000]


async def test_a_retry_across_a_deletion_is_not_stored_in_the_next_life(session: Session) -> None:
    since = (await session.append(note("before"))).offset
    await session.delete()
    await session.append(note("the next life"))
    with pytest.raises(OffsetForeign):
        await session.append(note("late"), id="e1", since=since)
    assert "late" not in values(await stored(session))


async def test_an_input_without_a_message_is_refused_before_it_wakes_anybody(session: Session) -> None:
    for body in ({"type": "message.user"}, {"type": "message.user", "message": "Hello"}):
        with pytest.raises(InvalidEvent):
            await session.append(body)
