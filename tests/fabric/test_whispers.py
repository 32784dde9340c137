"""What operators and supervisors tell agents behind the users' backs: heard by runs, never seen by users."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from session_fabric import Event, Fabric, Session
from session_fabric.authoring import Steer
from session_fabric.run import Run
from session_fabric.words.errors import Forbidden, InvalidRequest, RunClosed


@pytest.fixture
async def sue(fabric: Fabric, session: Session) -> Session:
    await session.create()
    return fabric.view(participant="supervisor:sue").session(session.name)


@pytest.fixture
async def ada(fabric: Fabric, session: Session) -> Session:
    return fabric.view(participant="user:ada").session(session.name)


async def heard(run: Run, count: int) -> list[Steer]:
    found: list[Steer] = []
    async with asyncio.timeout(10), aclosing(run.steering()) as steering:
        async for steer in steering:
            found.append(steer)
            if len(found) == count:
                break
    return found


async def until(session: Session, type: str) -> list[Event]:
    found = []
    async with asyncio.timeout(10), aclosing(session.follow()) as events:
        async for event in events:
            found.append(event)
            if event.type == type:
                break
    return found


async def test_a_whisper_is_heard_by_the_run_that_is_under_way_and_by_later_ones(
    session: Session, sue: Session
) -> None:
    async with session.run("r1") as run:
        await sue.whisper("She is a gold member.")
        (steer,) = await heard(run, 1)
        assert (steer.text, steer.actor, steer.whispered) == ("She is a gold member.", "supervisor:sue", True)
    async with session.run("r2") as run:
        assert [s.text for s in await heard(run, 1)] == ["She is a gold member."]


async def test_a_whisper_to_one_run_is_heard_by_that_one_alone_begun_or_not(session: Session, sue: Session) -> None:
    await sue.whisper("Be brief.", run="r2")
    await sue.whisper("To all.")
    async with session.run("r1") as run:
        assert [s.text for s in await heard(run, 1)] == ["To all."]
    async with session.run("r2") as run:
        assert [s.text for s in await heard(run, 2)] == ["Be brief.", "To all."]
    with pytest.raises(RunClosed):
        await sue.whisper("Too late.", run="r2")


async def test_a_whisper_waits_for_an_author_who_asks_late_and_makes_no_run_steerable(
    session: Session, sue: Session
) -> None:
    async with session.run("r1") as run:
        await sue.whisper("Wait for it.")
        await sue.control("steer", run="r1", body={"text": "now"})
        events = await until(session, "control.rejected")
        assert events[-1].body["reason"] == "unsupported"
        assert [s.text for s in run.steers()] == ["Wait for it."]


async def test_users_see_no_whisper_on_any_way_of_reading(session: Session, sue: Session, ada: Session) -> None:
    live = asyncio.create_task(until(ada, "app.end"))
    await sue.whisper("Do not tell her.")
    await ada.append({"type": "app.end"})
    for events in (await live, await until(ada, "app.end"), (await ada.history(limit=1000)).events):
        assert "app.end" in [e.type for e in events]
        assert "whisper" not in [e.type for e in events]
    async with aclosing(ada.read()) as batches:
        assert "whisper" not in [r.type async for records in batches for r in records]
    for other in (session, sue):
        assert "whisper" in [e.type for e in await until(other, "app.end")]
        assert "whisper" in [e.type for e in (await other.history(limit=1000)).events]


async def test_pages_backwards_reach_the_beginning_past_what_is_whispered(sue: Session, ada: Session) -> None:
    for n in range(12):
        await ada.append({"type": "app.note", "n": n})
        if n != 3:
            await sue.whisper(f"Not for her: {n}")
    await sue.whisper("Nor this.")
    seen, sizes, before = [], [], None
    while before is not None or not seen:
        page = await ada.history(before=before or "tail", limit=4)
        seen, before = [*page.events, *seen], page.previous
        sizes.append(len(page.events))
    assert [event.body["n"] for event in seen if event.type == "app.note"] == list(range(12))
    assert set(sizes[:-1]) == {4}


async def test_users_and_agents_do_not_whisper_and_nobody_whispers_nothing(
    session: Session, sue: Session, ada: Session
) -> None:
    for who in (ada, session):
        with pytest.raises(Forbidden, match="cannot whisper"):
            await who.whisper("psst")
        with pytest.raises(Forbidden):
            await who.append({"type": "whisper", "text": "psst"})
    for text in ("", "x" * 16_385):
        with pytest.raises(InvalidRequest, match="bytes"):
            await sue.whisper(text)


async def test_a_whisper_that_is_sent_again_is_said_once(session: Session, sue: Session) -> None:
    first = await sue.whisper("once", id="w1")
    assert (await sue.whisper("once", id="w1")) == (first.offset, True)
