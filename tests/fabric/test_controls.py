"""What is asked of a run: heard whenever it was asked, answered once, done."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest
from session_fabric import Event, Session
from session_fabric.authoring import MOST_STEERS
from session_fabric.run import Run
from session_fabric.words.errors import InvalidEvent, InvalidRequest, RunClosed

from tests.support.waiting import eventually


async def outcomes(session: Session) -> list[Event]:
    events = (await session.history(limit=1000)).events
    return [e for e in events if e.type.startswith("control.") and e.type != "control.requested"]


async def answered(session: Session, count: int = 1) -> list[Event]:
    async def there() -> list[Event] | None:
        found = await outcomes(session)
        return found if len(found) >= count else None

    return await eventually(there)


async def test_a_stop_that_was_asked_before_the_run_began_stops_it(session: Session) -> None:
    asked = await session.control("cancel", run="r1", deadline_ms=60_000, id="c1")
    assert not asked.duplicate
    async with session.run("r1") as run:
        await asyncio.Event().wait()
    assert run.cancelled
    (outcome,) = await outcomes(session)
    assert (outcome.type, outcome.body["request"], outcome.run) == ("control.accepted", "c1", "r1")


async def test_a_stop_whose_deadline_has_passed_when_the_run_begins_expires(session: Session) -> None:
    asked = await session.control("cancel", run="r1", deadline_ms=1)
    requested = (await session.history()).events[-1]
    await eventually(lambda: time.time_ns() // 1_000_000 > requested.ts + 1)
    async with session.run("r1") as run:
        await run.text("undisturbed")
        (outcome,) = await answered(session)
    assert not run.cancelled
    assert asked.offset < outcome.offset
    assert outcome.type == "control.expired"


async def test_a_steer_reaches_an_author_who_listens(session: Session) -> None:
    heard: list[tuple[str, str]] = []
    async with session.run("r1") as run, asyncio.TaskGroup() as group:

        async def listen() -> None:
            async with aclosing(run.steering()) as steering:
                async for steer in steering:
                    heard.append((steer.actor, steer.text))
                    return

        task = group.create_task(listen())
        await eventually(lambda: run.steerable)
        await session.control("steer", run="r1", body={"text": "Shorter, please"})
        await task
    assert heard == [("agent:writer", "Shorter, please")]
    (outcome,) = await outcomes(session)
    assert outcome.type == "control.accepted"
    assert not run.cancelled


async def test_steers_can_be_taken_between_two_steps(session: Session) -> None:
    async with session.run("r1") as run:
        assert run.steers() == []
        await session.control("steer", run="r1", body={"text": "In French"})
        await answered(session)
        assert [steer.text for steer in run.steers()] == ["In French"]
        assert run.steers() == []


async def test_the_author_has_a_steer_before_anybody_reads_that_it_was_accepted(session: Session) -> None:
    async with session.run("r1") as run, aclosing(session.follow("start")) as following:
        assert run.steers() == []
        for turn in range(50):
            await session.control("steer", run="r1", body={"text": str(turn)})
            async for event in following:
                if event.type == "control.accepted":
                    break
            assert [steer.text for steer in run.steers()] == [str(turn)]


async def test_a_steer_is_rejected_where_a_hundred_wait(session: Session) -> None:
    async with session.run("r1") as run:
        assert run.steers() == []
        for turn in range(MOST_STEERS + 1):
            await session.control("steer", run="r1", body={"text": str(turn)})
        await answered(session, MOST_STEERS + 1)
        assert [steer.text for steer in run.steers()] == [str(turn) for turn in range(MOST_STEERS)]
    assert [e.body.get("reason") for e in await outcomes(session)] == [*[None] * MOST_STEERS, "too many wait"]


async def test_a_steer_is_rejected_by_an_author_who_does_not_listen(session: Session) -> None:
    async with session.run("r1"):
        await session.control("steer", run="r1", body={"text": "Shorter"})
        (outcome,) = await answered(session)
    assert (outcome.type, outcome.body["reason"]) == ("control.rejected", "unsupported")


async def test_steering_ends_with_the_run(session: Session) -> None:
    left = asyncio.Event()

    async def listen(run: Run) -> None:
        async with aclosing(run.steering()) as steering:
            async for _ in steering:
                pass
        left.set()

    async with asyncio.TaskGroup() as group, session.run("r1") as run:
        group.create_task(listen(run))
        await eventually(lambda: run.steerable)
    assert left.is_set()


async def test_a_redirect_stops_the_run_and_asks_for_something_else(session: Session) -> None:
    message = {"id": "m2", "role": "user", "content": "In French, please"}
    async with session.run("r1") as run:
        await session.control("redirect", run="r1", body={"message": message}, id="c1")
        await asyncio.Event().wait()
    assert run.cancelled
    said = [e for e in (await session.history()).events if e.type == "message.user"]
    assert [(e.body["message"], e.body["redirects"], e.actor) for e in said] == [(message, "r1", "agent:writer")]
    again = await session.append(said[0].body, id="c1.instead")
    assert again.duplicate


async def test_an_author_who_ignores_a_stop_is_told_of_and_the_run_ends_without_him(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("So far")
        await session.control("cancel", run="r1", deadline_ms=50)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()

        async def ended() -> bool:
            return any(e.type == "RUN_FINISHED" for e in (await session.history()).events)

        await eventually(ended)
        with pytest.raises(RunClosed):
            await run.text("and more")
    events = (await session.history()).events
    types = [e.type for e in events]
    assert types.index("control.accepted") < types.index("control.overdue") < types.index("RUN_FINISHED")
    assert events[-1].body["outcome"] == {"type": "cancelled"}
    assert [m.content for m in (await session.messages()).messages] == ["So far"]


async def test_a_request_that_is_sent_again_is_answered_once(session: Session) -> None:
    async with session.run("r1"):
        first = await session.control("steer", run="r1", body={"text": "a"}, id="c1")
        again = await session.control("steer", run="r1", body={"text": "a"}, id="c1")
        assert (again.offset, again.duplicate) == (first.offset, True)
        await answered(session)
    assert len(await outcomes(session)) == 1


@pytest.mark.needs_rights
async def test_who_waits_for_what_nobody_hears_and_nobody_watches_over_gets_its_end(session: Session) -> None:
    async with session.run("r1") as run:
        pass
    assert run.ended is not None
    # Its sender had looked for the end just before it was there.
    late = {"type": "control.requested", "action": "cancel", "run": "r1", "body": {}, "deadline_ms": 20}
    parts = session._parts
    late_asked = await parts.writer.append((await parts.open()).stretch, late, id="c1", since=None, own=True)
    never_begun = await session.control("cancel", run="r2", deadline_ms=20, id="c2")
    waiting = [session.outcome(asked) for asked in (late_asked, never_begun, never_begun)]
    for request, outcome in zip(("c1", "c2", "c2"), await asyncio.gather(*waiting), strict=True):
        assert (outcome.type, outcome.body["request"], outcome.actor) == ("control.expired", request, "service:fabric")
        assert outcome.body["reason"] == "deadline"
    assert len(await outcomes(session)) == 2


async def test_what_no_run_could_answer_is_refused_with_what_would_do(session: Session) -> None:
    with pytest.raises(InvalidRequest, match="Use cancel, interrupt, steer or redirect"):
        await session.control("explode", run="r1")
    with pytest.raises(InvalidRequest, match="deadline_ms is 0"):
        await session.control("cancel", run="r1", deadline_ms=0)
    with pytest.raises(InvalidRequest, match="text"):
        await session.control("steer", run="r1", body={})
    with pytest.raises(InvalidEvent, match="message"):
        await session.control("redirect", run="r1")
    with pytest.raises(InvalidEvent, match="id"):
        await session.control("redirect", run="r1", body={"message": {"content": "x"}})
    assert await outcomes(session) == []


async def test_a_stop_of_what_nobody_has_taken_waits_as_long_as_that_does(session: Session) -> None:
    await session.control("cancel", run="r1", id="c1")
    requested = (await session.history()).events[-1]
    assert requested.body["deadline_ms"] is None
    async with session.run("r1") as run:
        await asyncio.Event().wait()
    assert run.cancelled
    (outcome,) = await outcomes(session)
    assert (outcome.type, outcome.body["request"]) == ("control.accepted", "c1")


async def test_what_is_asked_of_a_run_that_has_begun_has_five_seconds(session: Session) -> None:
    async with session.run("r1") as run:
        await session.control("cancel", run="r1", id="c1")
        await asyncio.Event().wait()
    assert run.cancelled
    (requested,) = [e for e in (await session.history(limit=100)).events if e.type == "control.requested"]
    assert requested.body["deadline_ms"] == 5000
