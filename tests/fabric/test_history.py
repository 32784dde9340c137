"""Pages backwards, and the projection to messages."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from session_fabric import Event, Offset, Session, history
from session_fabric.history import Read
from session_fabric.words.errors import InvalidRequest, OffsetForeign
from session_fabric.words.events import TEXT_CONTENT

from tests.support.sessions import Fabrics, follow_until, has, note, said, stored, text_of, types, values


async def pages(session: Session, limit: int) -> list[Event]:
    """Read all history backwards, page by page; return it oldest first."""
    page = await session.history(limit=limit)
    events = list(page.events)
    while page.previous is not None:
        page = await session.history(before=page.previous, limit=limit)
        assert len(page.events) <= limit
        events = page.events + events
    return events


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
async def test_pages_backwards_join_to_the_whole(session: Session, limit: int) -> None:
    for n in range(20):
        await session.append(note(n))
    assert await pages(session, limit) == await stored(session)


async def test_a_page_is_the_newest_events_oldest_first(session: Session) -> None:
    for n in range(10):
        await session.append(note(n))
    page = await session.history(limit=3)
    assert values(page.events) == [7, 8, 9]
    assert page.previous == page.events[0].offset
    assert (await session.history(limit=11)).previous == (await stored(session))[0].offset
    assert (await session.history(limit=12)).previous is None


async def test_a_page_backwards_ends_where_it_has_grown_too_large(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 1_000_000)
    for size in (400_000, 10, 400_000, 400_000, 400_000, 700_000, 10, 10, 1_200_000):
        await session.append(note("x" * size))
    sizes, before = [], None
    while before is not None or not sizes:
        page = await session.history(before=before or "tail", limit=1000)
        sizes.append([len(value) for value in values(page.events)])
        before = page.previous
    assert sizes == [[1_200_000], [400_000, 700_000, 10, 10], [400_000, 10, 400_000, 400_000], []]


async def test_a_page_backwards_is_as_large_over_a_fork(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 10_000)
    for _ in range(3):
        at = (await session.append(note("x" * 4_000))).offset
    fork = await session.fork(at, "fork")
    await fork.append(note("y" * 4_000))
    page = await fork.history()
    assert [value[0] for value in values(page.events)] == ["x", "x", "y"]
    assert page.previous is not None
    assert await pages(fork, 1000) == await stored(fork)


async def test_what_is_read_is_counted_as_it_comes_and_more_comes_when_the_counter_lets_it(session: Session) -> None:
    for n in range(300):
        await session.append(note(n))
    counted: list[int] = []

    def count(read: Read) -> float:
        counted.append(read.events)
        return 0.001

    session.counted_by(count)
    came = []
    async with aclosing(session.read("start")) as batches:
        async for records in batches:
            came.append(len(records))
            assert counted == came
    assert sum(came) == len(await stored(session))
    counted.clear()
    await session.history(limit=10)
    await session.messages()
    assert sum(counted) >= 10 + sum(came)


async def test_a_page_limit_out_of_range_is_refused(session: Session) -> None:
    await session.create()
    for limit in (0, -1, 1001):
        with pytest.raises(InvalidRequest):
            await session.history(limit=limit)
        with pytest.raises(InvalidRequest):
            await session.messages(limit=limit)


async def test_a_page_before_a_foreign_offset_is_refused(session: Session) -> None:
    await session.create()
    with pytest.raises(OffsetForeign):
        await session.history(before=Offset(1, 1))


async def test_pages_leave_the_deltas_of_ended_runs_out(session: Session) -> None:
    async with session.run() as run:
        await run.text("Hello")
    assert TEXT_CONTENT not in types(await pages(session, 2))


async def test_pages_go_through_a_forks_past(session: Session) -> None:
    for n in range(10):
        await session.append(note(n))
    fork = await session.fork(await session.head(), "fork")
    await session.append(note("source"))
    for n in range(10, 15):
        await fork.append(note(n))
    assert values(await pages(fork, 4)) == list(range(15))


async def test_messages_are_what_was_said_in_the_order_of_its_beginning(session: Session) -> None:
    await session.append(said("What is it?", "q1"))
    async with session.run("r1") as run, run.message("a1") as message:
        await message.reasoning("Hm.")
        await message.text("It is 42.")
    await session.append(said("Sure?", "q2"))
    found = (await session.messages()).messages
    assert [(m.id, m.role, m.content, m.status) for m in found] == [
        ("q1", "user", "What is it?", "completed"),
        ("a1", "assistant", "It is 42.", "completed"),
        ("q2", "user", "Sure?", "completed"),
    ]
    assert found[1].reasoning == "Hm."
    assert found[1].run == "r1"


async def test_messages_come_in_pages_too(session: Session) -> None:
    for n in range(10):
        await session.append(said(str(n), f"m{n}"))
    page = await session.messages(limit=4)
    found = list(page.messages)
    while page.previous is not None:
        page = await session.messages(before=page.previous, limit=4)
        found = page.messages + found
    assert [m.content for m in found] == [str(n) for n in range(10)]


async def test_messages_of_a_session_that_nobody_used_are_none(session: Session) -> None:
    assert (await session.messages()).messages == []


async def test_an_open_answer_is_shown_so_far_and_followed_from_there_without_a_seam(session: Session) -> None:
    async with session.run("r1", window_s=0) as run, run.message("a1") as message:
        await message.text("so far, ")
        await follow_until(session, has(TEXT_CONTENT))
        found = await session.messages()
        assert [(m.content, m.status) for m in found.messages] == [("so far, ", "open")]
        following = asyncio.create_task(follow_until(session, has("RUN_FINISHED"), after=found.offset))
        await message.text("and on")
        seen = await follow_until(session, lambda e: has(TEXT_CONTENT)(e) and text_of(e) == "so far, and on")
    assert text_of(seen) == "so far, and on"
    assert text_of(await following) == "so far, and on"


async def test_messages_as_of_a_moment_hold_the_text_of_runs_that_end_meanwhile(session: Session) -> None:
    """What is read up to an offset is what was there then, though the run has ended since."""
    async with session.run("r1", window_s=0) as run:
        await run.text("so far")
        await follow_until(session, has(TEXT_CONTENT))
        head = await session.head()
    events = await stored(session, upto=head)
    assert events[-1].offset == head
    assert text_of(events) == "so far"


async def test_what_a_killed_agent_had_said_is_all_there(session: Session, fabrics: Fabrics) -> None:
    """Deltas behind the last snapshot are read as long as the run has not ended."""
    text = "".join(f"word {n:05d} " for n in range(2500))
    async with session.run("r1", window_s=0) as run:
        for at in range(0, len(text), 700):
            await run.text(text[at : at + 700])
            await asyncio.sleep(0)
        await follow_until(session, lambda e: has(TEXT_CONTENT)(e) and text_of(e) == text)
        reader = (await fabrics.open("user:ada")).session(session.name)
        assert [m.content for m in (await reader.messages()).messages] == [text]


async def test_an_event_that_a_leader_of_before_does_not_know_yet_is_waited_for(session: Session) -> None:
    """A desk has heard of it live: that it cannot be read says nothing until its sequence has been given away."""
    await session.append(note(0))
    parts = session._parts
    to = (await parts.open()).stretch
    after = await parts.broker.log.end(to)
    asked = asyncio.create_task(parts.history.at(to, after + 1))
    done, _ = await asyncio.wait([asked], timeout=0.3)
    assert not done
    await session.append(note(1))
    found = await asked
    assert found is not None
    assert found.sequence == after + 1


async def test_an_event_that_was_removed_is_known_to_be_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "OLD_LEADER_S", 3600)
    removed = (await session.append(note(0))).offset
    await session.append(note(1))
    parts = session._parts
    to = (await parts.open()).stretch
    await parts.broker.log.erase(to, [removed.sequence])
    assert await parts.history.at(to, removed.sequence) is None
