"""Who takes part in a session for good, and how it is closed."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric import Fabric, Session
from session_fabric.words.errors import Forbidden, InvalidName, LimitExceeded, SessionClosed, SessionNotFound

from tests.support.sessions import types
from tests.support.waiting import eventually


def named(fabric: Fabric, participant: str, name: str = "chat-1") -> Session:
    return fabric.view(participant=participant).session(name)


async def test_a_person_who_makes_a_session_takes_part_and_an_agent_does_not(fabric: Fabric) -> None:
    assert (await named(fabric, "user:ada", "a").record()).participants == ("user:ada",)
    assert (await named(fabric, "agent:writer", "b").record()).participants == ()
    record, made = await named(fabric, "service:shop", "c").create(participants=["user:ada", "user:bob", "user:ada"])
    assert (record.participants, made) == (("user:ada", "user:bob"), True)


async def test_who_takes_part_may_add_others_and_users_remove_themselves_alone(fabric: Fabric) -> None:
    ada, bob, eve = (named(fabric, who) for who in ("user:ada", "user:bob", "operator:eve"))
    with pytest.raises(SessionNotFound):
        await ada.add_participant("user:bob")
    await ada.create()
    with pytest.raises(Forbidden, match="take part"):
        await bob.add_participant("user:bob")
    assert (await ada.add_participant("user:bob")).participants == ("user:ada", "user:bob")
    assert (await bob.add_participant("user:bob")).participants == ("user:ada", "user:bob")
    with pytest.raises(Forbidden, match="remove others"):
        await bob.remove_participant("user:ada")
    assert (await bob.remove_participant("user:bob")).participants == ("user:ada",)
    assert (await eve.remove_participant("user:ada")).participants == ()
    said = [e.body["participants"] for e in (await eve.history()).events if e.type == "session.participants"]
    assert said == [["user:ada", "user:bob"], ["user:ada"], []]


async def test_participants_are_names_and_not_too_many(fabric: Fabric) -> None:
    session = named(fabric, "service:shop")
    with pytest.raises(InvalidName):
        await session.create(participants=["ada"])
    with pytest.raises(LimitExceeded, match="201"):
        await session.create(participants=[f"user:u{n}" for n in range(201)])
    await session.create(participants=[f"user:u{n}" for n in range(200)])
    with pytest.raises(LimitExceeded):
        await session.add_participant("user:one-more")


async def test_a_fork_is_the_forkers_or_its_sources(fabric: Fabric) -> None:
    ada = named(fabric, "user:ada")
    at = (await ada.append({"type": "app.note"})).offset
    assert (await (await named(fabric, "user:bob").fork(at)).record()).participants == ("user:bob",)
    assert (await (await named(fabric, "agent:writer").fork(at)).record()).participants == ("user:ada",)


async def test_a_closed_session_says_so_last_and_takes_nothing_more(fabric: Fabric, session: Session) -> None:
    ada, eve = named(fabric, "user:ada"), named(fabric, "operator:eve")
    with pytest.raises(SessionNotFound):
        await eve.close()
    await ada.append({"type": "app.note"})
    with pytest.raises(Forbidden, match="close"):
        await ada.close()
    async with session.run("r1") as run:
        await run.text("almost")
        assert (await eve.close()).state == "closed"
        assert (await eve.close()).state == "closed"
        for refused in (ada.append({"type": "app.note"}), eve.whisper("psst"), eve.add_participant("user:bob")):
            with pytest.raises(SessionClosed):
                await refused
        await run.text(" done")
    with pytest.raises(SessionClosed):
        async with session.run("r2"):
            pass
    events = (await ada.history(limit=1000)).events
    assert types(events).count("session.closed") == 1
    assert types(events)[-1] == "RUN_FINISHED"
    assert [m.content for m in (await ada.messages()).messages] == ["almost done"]
    assert (await (await ada.fork(events[-1].offset)).append({"type": "app.note"})).duplicate is False


async def test_what_became_of_a_control_request_is_waited_for(fabric: Fabric, session: Session) -> None:
    ada = named(fabric, "user:ada")
    await session.create()
    before = await ada.control("steer", run="r1", body={"text": "x"}, deadline_ms=60_000)
    waiting = asyncio.create_task(ada.outcome(before))
    async with session.run("r1"):
        outcome = await waiting
        assert (outcome.type, outcome.body["reason"]) == ("control.rejected", "unsupported")
        assert await ada.outcome(before) == outcome
        stop = await ada.control("cancel", run="r1")
        await eventually(waiting.done)
        assert (await asyncio.shield(asyncio.create_task(ada.outcome(stop)))).type == "control.accepted"
        await asyncio.Event().wait()


async def test_an_outcome_of_a_session_that_is_closed_is_waited_for_no_more(fabric: Fabric, session: Session) -> None:
    eve = named(fabric, "operator:eve")
    asked = await eve.control("cancel", run="r1", deadline_ms=60_000)
    waiting = asyncio.create_task(eve.outcome(asked))
    await eve.close()
    with pytest.raises(SessionClosed):
        await waiting
