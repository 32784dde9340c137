"""An author whose time has passed in the middle of a call: it has written all that it writes, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from session_fabric import Run, Session, Steer
from session_fabric.endings import agent_lost, surely_end_run
from session_fabric.rules.batching import MAX_QUEUED_BYTES
from session_fabric.words.errors import RunClosed, RunFenced

from tests.support.cutting import cut
from tests.support.sessions import stored, types
from tests.support.waiting import eventually

# More than is confirmed in the few turns of the loop until somebody waits.
FULL = {"type": "app.note", "value": "x" * (3 * MAX_QUEUED_BYTES)}
STEER = Steer("Shorter.", {}, "user:ada")


async def cut_off(call: Callable[[], Awaitable[object]]) -> None:
    """Make a call whose caller is cancelled where it first waits."""
    assert await cut(call, 1, "at once")


async def contents(session: Session) -> list[object]:
    return [(m.content, m.status) for m in (await session.messages()).messages]


async def test_a_message_whose_end_was_cut_off_is_whole_when_the_run_ends(session: Session) -> None:
    async with session.run("r1") as run:
        message = await run.message("m1").__aenter__()
        await message.text("The whole")
        await run.emit(FULL)
        await cut_off(lambda: message.__aexit__(None, None, None))
    assert await contents(session) == [("The whole", "completed")]


async def test_a_message_whose_beginning_was_cut_off_begins_with_its_next_text(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("one ")
        message = run.message("m2")
        await run.emit(FULL)
        await cut_off(message.__aenter__)
        await run.text("two")
        await run.emit(FULL)
        await cut_off(lambda: message.text("lost"))
        await message.text("three")
        await run.stored()
        begun = [e.body["messageId"] for e in await stored(session) if e.type == "TEXT_MESSAGE_START"]
    assert begun[1:] == ["m2"]
    assert await contents(session) == [("one two", "completed"), ("three", "completed")]


async def test_a_tool_call_that_was_cut_off_is_not_announced_by_half(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("x")
        await run.emit({"type": "app.note", "value": "x" * (MAX_QUEUED_BYTES - 100 - run._writes.queued_bytes)})
        # There is room for one event, and for as many as go with it.
        if await cut(lambda: run.tool("search", {"q": 1}, id="c1"), 1, "at once"):
            await run.tool("search", {"q": 1}, id="c1")
    announced = [type for type in types(await stored(session, deltas="all")) if type.startswith("TOOL_")]
    assert announced == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"]


async def test_arguments_of_which_a_piece_or_the_end_was_cut_off_are_told_as_they_were_written(
    session: Session,
) -> None:
    piece = {"type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": "{}"}
    end = {"type": "TOOL_CALL_END", "toolCallId": "c1"}
    async with session.run("r1") as run:
        await run.emit({"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "search"})
        await run.emit(FULL)
        await cut_off(lambda: run.emit(piece))
        await run.emit(piece)
        await run.emit(FULL)
        await cut_off(lambda: run.emit(end))
        await run.emit(end)
    assert [e.body["args"] for e in await stored(session) if e.type == "TOOL_CALL_END"] == ["{}"]


async def test_what_a_step_said_whose_time_had_passed_is_hidden_by_the_next_attempt(session: Session) -> None:
    async with session.run("r1") as run:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), run.step("search"):
                await run.text("half of ")
                await asyncio.sleep(60)
        await run.emit(FULL)
        await cut_off(run.step("search").__aenter__)
        async with run.step("search") as step:
            assert step.attempt == 2
            await run.text("the whole")
    assert await contents(session) == [("the whole", "completed")]


async def test_what_hides_the_attempt_before_is_not_lost_where_it_was_cut_off(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("first")
        await run.emit(FULL)
        await cut_off(lambda: run.begin_again(2))
        await run.begin_again(2)
        await run.text("second")
    assert await contents(session) == [("second", "completed")]


@pytest.mark.parametrize("turns", range(4))
async def test_what_is_added_while_who_waits_for_it_is_cancelled_is_there_for_the_next(
    session: Session, turns: int
) -> None:
    async with session.run("r1") as run:
        waiting = asyncio.ensure_future(anext(run.steering()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        run.steer(STEER)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        taken = await asyncio.gather(waiting, return_exceptions=True)
        if taken != [STEER]:
            async with asyncio.timeout(5):
                assert await anext(run.steering()) == STEER


async def test_who_waits_for_room_beside_the_author_is_told_that_the_run_has_ended(session: Session) -> None:
    beside: list[asyncio.Task[None]] = []
    with pytest.raises((RunClosed, RunFenced)):
        async with session.run("r1") as run:
            await run.stored()
            assert await surely_end_run(session._parts, "r1", agent_lost())
            await run.emit(FULL)
            beside += [asyncio.create_task(run.text("more")), asyncio.create_task(run.stored())]
            await asyncio.sleep(60)
    async with asyncio.timeout(5):
        ended = await asyncio.gather(*beside, return_exceptions=True)
    assert [type(each) for each in ended] == [RunClosed, RunClosed]


async def test_an_author_who_is_cancelled_while_a_control_is_answered_leaves_no_task(session: Session) -> None:
    before = asyncio.all_tasks()
    begun: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def author() -> None:
        async with session.run("r1") as run:
            await run.text("So far")
            begun.set_result(run)
            await done.wait()

    writing = asyncio.create_task(author())
    run = await begun
    async with run.answering:
        done.set()
        await eventually(lambda: run.leaving)
        writing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await writing
    await eventually(lambda: not [t for t in asyncio.all_tasks() - before if t.get_name().endswith("run r1")])
    assert await contents(session) == [("So far", "failed")]
