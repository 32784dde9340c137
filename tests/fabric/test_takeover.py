"""Going on with a run whose agent is gone: its text read back, its writer refused by the broker."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric import AgentRun, Fabric, Session
from session_fabric.floors import lost
from session_fabric.opening import OpenRun
from session_fabric.ports import Wanted
from session_fabric.run import Run, Takeover
from session_fabric.words.errors import RunClosed, RunFenced

from tests.support.sessions import Fabrics
from tests.support.waiting import eventually


async def newest(session: Session, run: str) -> int:
    record = await session.record()
    found = await session._parts.broker.log.newest(record.stretch, Wanted("own", run))
    assert found is not None
    return found.sequence


async def taken(session: Session, run: str, *, goes_on: bool, generation: int = 2) -> OpenRun:
    takeover = Takeover(await newest(session, run), generation, goes_on)
    return OpenRun(session._parts, run, takeover=takeover)


async def all_stored(run: Run) -> None:
    await eventually(lambda: run._writes.idle)


@pytest.fixture
async def other(fabric: Fabric, session: Session) -> Session:
    return fabric.view(participant="agent:other").session(session.name)


async def test_a_run_is_gone_on_with_where_its_text_ends(session: Session, other: Session) -> None:
    first = session.run("r1")
    run = await first.__aenter__()
    await run.reasoning("hm ")
    await run.text("Hello, wörld 🎉 ")
    await all_stored(run)
    async with await taken(other, "r1", goes_on=True) as second:
        assert second.said == "Hello, wörld 🎉 "
        await second.reasoning("so")
        await second.text("and good-bye")
        with pytest.raises((RunFenced, RunClosed)):
            await run.text("stale")
            await first.__aexit__(None, None, None)
    (message,) = (await session.messages()).messages
    assert (message.content, message.reasoning) == ("Hello, wörld 🎉 and good-bye", "hm so")
    assert message.status == "completed"
    assert "stale" not in str([e.body for e in (await session.history(limit=1000)).events])


async def test_who_goes_on_with_a_run_that_had_said_all_but_that_it_ends_finds_it_said(
    session: Session, other: Session
) -> None:
    first = session.run("r1")
    run = await first.__aenter__()
    async with run.message("m1") as message:
        await message.text("All of it.")
    await all_stored(run)
    async with await taken(other, "r1", goes_on=True) as second:
        assert second.said == "All of it."
        async with second.message("m2") as more:
            assert second.said == ""
            await more.text("And more.")
        assert second.said == ""
    with pytest.raises((RunFenced, RunClosed)):
        await first.__aexit__(None, None, None)
    assert [m.content for m in (await session.messages()).messages] == ["All of it.", "And more."]


async def test_a_run_that_begins_again_hides_what_was_said_before(session: Session, other: Session) -> None:
    first = session.run("r1")
    run = await first.__aenter__()
    async with run.message("m1") as message:
        await message.text("a whole one")
    await run.text("half of")
    await all_stored(run)
    async with await taken(other, "r1", goes_on=False) as second:
        assert second.said == ""
        await second.text("anew")
    with pytest.raises((RunFenced, RunClosed)):
        await first.__aexit__(None, None, None)
    steps = [e.body for e in (await session.history(limit=1000)).events if e.type == "STEP_STARTED"]
    assert [(s["attempt"], len(s["supersedes"]), s["supersedes"][0]) for s in steps] == [(2, 2, "m1")]
    assert [m.content for m in (await session.messages()).messages] == ["anew"]


async def test_of_two_who_take_a_run_over_one_has_it(session: Session, other: Session) -> None:
    first = session.run("r1")
    run = await first.__aenter__()
    await run.text("So far")
    await all_stored(run)
    tries = [await taken(who, "r1", goes_on=True) for who in (session, other, session, other)]

    async def go_on(number: int) -> bool:
        try:
            async with tries[number] as second:
                await second.text(f" and {number}")
        except (RunFenced, RunClosed):
            return False
        return True

    won = await asyncio.gather(*(go_on(number) for number in range(4)))
    assert sorted(won) == [False, False, False, True]
    (message,) = (await session.messages()).messages
    assert message.content == f"So far and {won.index(True)}"
    with pytest.raises((RunFenced, RunClosed)):
        await first.__aexit__(None, None, None)


async def test_a_late_reader_of_a_run_that_was_taken_over_gets_the_text_once(session: Session, other: Session) -> None:
    first = session.run("r1")
    run = await first.__aenter__()
    for n in range(200):
        await run.text(f"{n} " * 20)
    await all_stored(run)
    async with await taken(other, "r1", goes_on=True) as second:
        await second.text("end")
        await all_stored(second)
        (message,) = (await session.messages()).messages
        assert message.content == "".join(f"{n} " * 20 for n in range(200)) + "end"
    with pytest.raises((RunFenced, RunClosed)):
        await first.__aexit__(None, None, None)


async def test_a_suspended_run_says_so_and_goes_on(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("Wait: ")
        await run.suspend("q1")
        await run.suspend("q2")
        await run.resume("q1")
        await run.resume("q2")
        await run.text("done")
    types = [e.type for e in (await session.history(limit=1000)).events]
    assert types.count("run.suspended") == types.count("run.resumed") == 1
    assert types.index("message.snapshot") < types.index("run.suspended") < types.index("run.resumed")
    assert [m.content for m in (await session.messages()).messages] == ["Wait: done"]


async def test_a_process_names_what_it_holds_while_it_holds_it(session: Session) -> None:
    holdings = session._parts.common.holdings
    async with session.run("r1"):
        (held,) = [h for h in await holdings.of(holdings.holder) if h.place == session.place]
        assert (held.kind, held.name, held.facts) == ("run", "r1", {"agent": "agent:writer", "pool": None})
    assert [h for h in await holdings.of(holdings.holder) if h.place == session.place] == []


async def test_a_run_that_began_after_its_process_was_looked_into_as_dead_is_gone_on_with(fabrics: Fabrics) -> None:
    fabric = await fabrics.open()
    ada = fabric.view(participant="user:ada").session("chat-1")
    begun = asyncio.Event()

    @fabric.agent(takeover="continue")
    async def writer(run: AgentRun) -> None:
        if not run.resumed:
            await run.text("one ")
            begun.set()
            await asyncio.Event().wait()
        await run.text("two")

    serving = asyncio.create_task(writer.serve())
    await ada.append({"type": "message.user", "message": {"id": "q1", "role": "user", "content": "x"}}, id="q1")
    await begun.wait()
    # Whoever took this process for dead had listed what it holds before the run began: it takes the floor alone.
    await lost(ada._parts, "default", fabric.broker.holder)

    async def over() -> bool:
        events = (await ada.history(limit=1000)).events
        return any(event.type == "RUN_FINISHED" for event in events)

    await eventually(over, 20)
    assert [m.content for m in (await ada.messages()).messages] == ["x", "one two"]
    writer.stop()
    await serving
