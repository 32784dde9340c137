"""Runs: claimed once, streamed in order, ended always; nobody else writes for them."""

from __future__ import annotations

import asyncio
import time

import orjson
import pytest
from session_fabric import Event, Fabric, FabricError, Run, RunFailed, Session
from session_fabric.janitor import Janitor
from session_fabric.ports import Guard
from session_fabric.rules.batching import MAX_QUEUED_BYTES
from session_fabric.words.errors import (
    Forbidden,
    InvalidEvent,
    InvalidName,
    InvalidRequest,
    RunClosed,
    RunExists,
    RunFenced,
)
from session_fabric.words.events import TEXT_CONTENT, Draft

from tests.support.servers import NatsNode
from tests.support.sessions import (
    Fabrics,
    deltas,
    ended,
    exact,
    follow_until,
    has,
    stored,
    text_of,
    types,
)
from tests.support.waiting import eventually


async def one_run(session: Session, text: str = "Hello", id: str = "r1") -> list[Event]:
    async with session.run(id) as run:
        await run.text(text)
    return await stored(session, deltas="all")


async def test_a_run_is_started_streamed_completed_and_finished_in_this_order(session: Session) -> None:
    events = await one_run(session)
    assert types(events)[1:] == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "message.completed",
        "RUN_FINISHED",
    ]
    assert {e.run for e in events[1:]} == {"r1"}
    assert {e.actor for e in events[1:]} == {"agent:writer"}
    assert events[1].body == {
        "type": "RUN_STARTED",
        "threadId": "chat-1",
        "runId": "r1",
        "agent": "agent:writer",
        "generation": 1,
        "holder": session._parts.broker.holder,
    }
    assert events[-1].body["outcome"] == {"type": "success"}


async def test_a_run_says_whose_child_it_is_and_what_came_of_it(session: Session) -> None:
    async with session.run("child", parent="r0") as run:
        run.result = {"answer": 42}
    events = await stored(session)
    assert events[1].body["parentRunId"] == "r0"
    assert events[-1].body["result"] == {"answer": 42}


async def test_tokens_written_at_once_leave_together_and_the_first_without_waiting(session: Session) -> None:
    async with session.run(window_s=0.5) as run:
        begun = time.monotonic()
        await run.text("first ")
        seen = await follow_until(session, has(TEXT_CONTENT))
        assert time.monotonic() - begun < 0.4
        for n in range(100):
            await run.text(f"{n} ")
    pieces = deltas(await stored(session, deltas="all"))
    assert deltas(seen) == ["first "]
    assert pieces == ["first ", "".join(f"{n} " for n in range(100))]


async def test_a_window_gathers_tokens(session: Session) -> None:
    async with session.run(window_s=0.1) as run:
        begun = time.monotonic()
        while time.monotonic() - begun < 0.5:
            await run.text("token ")
            await asyncio.sleep(0.002)
    pieces = deltas(await stored(session, deltas="all"))
    assert 3 <= len(pieces) <= 8


async def test_positions_count_utf16_code_units(session: Session) -> None:
    async with session.run(window_s=0) as run:
        for piece in ("é", "😀", "x"):
            await run.text(piece)
            await eventually(lambda: run._writes.idle)
    events = await stored(session, deltas="all")
    assert [(e.at, e.body["delta"]) for e in events if e.type == TEXT_CONTENT] == [(0, "é"), (1, "😀"), (3, "x")]


async def test_halves_of_a_surrogate_pair_are_joined_and_a_lone_one_replaced(session: Session) -> None:
    async with session.run(window_s=0) as run:
        for piece in ("a\ud83d", "\ude00b", "c\ud83d", "d", "\ude00e", "f\ud83d"):
            await run.text(piece)
            await eventually(lambda: run._writes.idle)
    events = await stored(session, deltas="all")
    whole = "a😀bc\ufffdd\ufffdef\ufffd"
    assert "".join(deltas(events)) == whole
    assert text_of(events) == text_of(await stored(session)) == whole


async def test_reasoning_is_kept_beside_the_text(session: Session) -> None:
    async with session.run() as run:
        await run.reasoning("Let me ")
        await run.reasoning("think.")
        await run.text("Yes.")
    (message,) = (await session.messages()).messages
    assert (message.content, message.reasoning) == ("Yes.", "Let me think.")


async def test_a_run_writes_several_messages(session: Session) -> None:
    async with session.run() as run:
        async with run.message("m1") as one, run.message("m2") as two:
            for n in range(20):
                await one.text(f"a{n}")
                await two.text(f"b{n}")
        await run.text("third")
    texts = {m.id: m.content for m in (await session.messages()).messages}
    assert texts["m1"] == "".join(f"a{n}" for n in range(20))
    assert texts["m2"] == "".join(f"b{n}" for n in range(20))
    assert sorted(texts.values())[-1] == "third"


async def test_a_tool_call_and_its_result_are_told(session: Session) -> None:
    async with session.run() as run:
        call = await run.tool("search", {"q": "wine"}, id="c1")
        await call.result({"found": 3})
    events = await stored(session)
    assert [t for t in types(events) if t.startswith("TOOL")] == [
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
    ]
    by_type = {e.type: e.body for e in events}
    assert orjson.loads(by_type["TOOL_CALL_ARGS"]["delta"]) == {"q": "wine"}
    assert by_type["TOOL_CALL_RESULT"]["content"] == '{"found":3}'


async def test_a_run_emits_any_event_of_ag_ui_but_its_own_end(session: Session) -> None:
    async with session.run("r1") as run:
        await run.emit({"type": "STEP_STARTED", "stepName": "search"})
        await run.emit({"type": "CUSTOM", "name": "x", "value": 1})
        await run.emit({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m9", "delta": "streamed"})
        for type in ("RUN_FINISHED", "RUN_ERROR", "RUN_STARTED"):
            with pytest.raises(InvalidEvent):
                await run.emit({"type": type})
        with pytest.raises(InvalidEvent):
            await run.emit({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m9", "delta": 7})
        with pytest.raises(Forbidden):
            await run.emit({"type": "session.closed"})
    events = await stored(session, deltas="all")
    assert [e.run for e in events if e.type in ("STEP_STARTED", "CUSTOM")] == ["r1", "r1"]
    assert text_of(events, "m9") == "streamed"


@pytest.mark.parametrize("id", ["", "a b", "*", "a\n", "x" * 129])
async def test_a_run_id_of_another_form_is_refused(session: Session, id: str) -> None:
    with pytest.raises(InvalidName):
        async with session.run(id):
            pass


# --- who may write ------------------------------------------------------------------------------------


async def test_a_run_has_one_writer(session: Session, fabrics: Fabrics) -> None:
    other = (await fabrics.open("agent:other")).session(session.name)
    async with session.run("r1"):
        with pytest.raises(RunExists) as refused:
            async with other.run("r1"):
                pass
    assert "agent:writer" in refused.value.message


async def test_of_many_who_claim_a_run_one_wins(session: Session, fabrics: Fabrics) -> None:
    await session.create()
    sessions = [(await fabrics.open(f"agent:a{n}")).session(session.name) for n in range(5)]
    entered: list[int] = []
    release = asyncio.Event()

    async def claim(n: int) -> None:
        async with sessions[n].run("r1") as run:
            entered.append(n)
            await run.text(f"by {n}")
            await release.wait()

    async with asyncio.timeout(10):
        claims = asyncio.gather(*(claim(n) for n in range(5)), return_exceptions=True)
        await eventually(lambda: entered)
        release.set()
        results = await claims
    refused = [type(r) for r in results if r is not None]
    assert len(refused) == 4
    assert set(refused) <= {RunExists, RunClosed}  # closed: who comes when the winner has ended
    assert text_of(await stored(session)) == f"by {entered[0]}"


async def test_an_ended_run_is_not_begun_again(session: Session) -> None:
    await one_run(session)
    with pytest.raises(RunClosed):
        async with session.run("r1"):
            pass


async def test_nobody_publishes_for_a_run_that_has_ended(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("x")
    assert run._writes.fence is not None
    draft = Draft("app.late", b'{"type":"app.late"}', "late", "ev", "_", "agent:writer", "agent:writer", "r1")
    with pytest.raises(FabricError) as refused:
        await run._writes._log.publish(run._writes.to, draft, guard=run._writes.fence)
    assert refused.value.code == "conflict"
    assert "app.late" not in types(await stored(session))


async def take_over(session: Session, run: Run) -> None:
    """Claim a run from its writer, as a new agent process will."""
    assert run._writes.fence is not None
    body = orjson.dumps({"type": "run.taken_over", "run": run.id, "agent": "agent:new", "generation": 2})
    draft = Draft("run.taken_over", body, "takeover", "own", run.id, "agent:new", "agent:new", run.id)
    await run._writes._log.publish(run._writes.to, draft, guard=Guard("own", run.id, run._writes.fence.sequence))


async def test_the_stale_writer_of_a_run_that_was_taken_over_is_refused(session: Session, fabrics: Fabrics) -> None:
    with pytest.raises(RunFenced) as refused:
        async with session.run("r1") as run:
            await run.text("kept")
            await follow_until(session, has(TEXT_CONTENT))
            await take_over((await fabrics.open("agent:new")).session(session.name), run)
            async with asyncio.timeout(10):
                while True:
                    await run.text("refused")
                    await asyncio.sleep(0)
    assert "agent:new" in refused.value.message
    events = await stored(session, deltas="all")
    assert deltas(events) == ["kept"]
    assert types(events)[-1] == "run.taken_over"


async def test_the_deltas_of_a_run_that_was_taken_over_stay(session: Session, fabrics: Fabrics) -> None:
    first = await fabrics.open()
    with pytest.raises(RunFenced):
        async with first.session(session.name).run("r1") as run:
            await run.text("kept")
            await follow_until(session, has(TEXT_CONTENT))
            await take_over(session, run)
            while True:
                await run.text("refused")
                await asyncio.sleep(0)
    await first.close()  # would purge what waits to be purged
    assert text_of(await stored(session)) == "kept"


# --- how it ends --------------------------------------------------------------------------------------


async def test_an_exception_ends_the_run_without_showing_its_text(session: Session) -> None:
    with pytest.raises(ValueError, match="the password is 1234"):
        async with session.run() as run:
            await run.text("so far")
            raise ValueError("the password is 1234")
    events = await stored(session)
    assert events[-1].body == {"type": "RUN_ERROR", "message": "The agent failed.", "code": "ValueError"}
    assert b"1234" not in b"".join(e.raw for e in events)
    (message,) = (await session.messages()).messages
    assert (message.content, message.status) == ("so far", "failed")


async def test_what_run_failed_says_is_shown(session: Session) -> None:
    with pytest.raises(RunFailed):
        async with session.run():
            raise RunFailed("The model is overloaded.")
    body = (await stored(session))[-1].body
    assert (body["type"], body["message"]) == ("RUN_ERROR", "The model is overloaded.")


@pytest.mark.parametrize("action", ["cancel", "interrupt"])
async def test_any_participant_stops_a_run_and_what_was_written_stays(
    session: Session, fabrics: Fabrics, action: str
) -> None:
    user = (await fabrics.open("user:ada")).session(session.name)
    written = 0

    async def stop() -> None:
        await follow_until(user, has(TEXT_CONTENT))
        await user.control(action, run="r1")

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        await session.create()
        group.create_task(stop())
        async with session.run("r1") as run:
            while True:
                await run.text("tick ")
                written += 1
                await asyncio.sleep(0.001)
    assert run.cancelled
    events = await stored(session)
    assert text_of(events) == "tick " * written
    assert types(events)[-2:] == ["message.snapshot", "RUN_FINISHED"]
    assert events[-1].body["outcome"] == {"type": "cancelled"}
    by_type = {e.type: e for e in events}
    assert by_type["control.requested"].actor == "user:ada"
    assert by_type["control.accepted"].body["request"] == by_type["control.requested"].id
    assert [m.status for m in (await session.messages()).messages] == ["interrupted"]


async def test_a_stop_asked_twice_is_answered_twice_and_done_once(session: Session) -> None:
    async with asyncio.timeout(10):
        async with session.run("r1") as run:
            await session.control("cancel", run="r1", id="c1")
            await session.control("cancel", run="r1", id="c2")
            await asyncio.Event().wait()
    assert run.cancelled
    answers = {e.body["request"]: e.type for e in await stored(session) if e.type.startswith("control.a")}
    assert answers["c1"] == "control.accepted"


async def test_a_stop_sent_again_under_its_id_is_stored_once(session: Session) -> None:
    first = await session.control("cancel", run="not-begun", id="c1")
    second = await session.control("cancel", run="not-begun", id="c1")
    assert (second.offset, second.duplicate) == (first.offset, True)


async def test_a_stop_of_another_run_does_not_touch_this_one(session: Session) -> None:
    async with session.run("r1") as run, session.run("r2") as other:
        await session.control("cancel", run="r2")
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        assert other.cancelled
        await run.text("goes on")
    assert not run.cancelled
    outcomes = {e.run: e.body["outcome"]["type"] for e in await stored(session) if e.type == "RUN_FINISHED"}
    assert outcomes == {"r1": "success", "r2": "cancelled"}


async def test_controlling_an_ended_run_or_with_an_unknown_action_is_refused(session: Session) -> None:
    await one_run(session)
    with pytest.raises(RunClosed):
        await session.control("cancel", run="r1")
    with pytest.raises(InvalidRequest):
        await session.control("explode", run="r1")


async def test_a_cancelled_task_says_that_the_agent_was_stopped(session: Session) -> None:
    writing = asyncio.Event()

    async def agent() -> None:
        async with session.run("r1") as run:
            await run.text("so far")
            writing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(agent())
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    events = await stored(session)
    assert (events[-1].type, events[-1].body["code"]) == ("RUN_ERROR", "agent_stopped")
    assert text_of(events) == "so far"


async def test_a_timeout_around_a_run_is_a_timeout(session: Session) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            async with session.run("r1") as run:
                await run.text("so far")
                limit.reschedule(asyncio.get_running_loop().time())
                await asyncio.Event().wait()
    events = await stored(session)
    assert events[-1].body["code"] == "agent_stopped"


async def test_a_cancellation_from_outside_is_not_swallowed_by_a_stop_that_comes_with_it(session: Session) -> None:
    writing, agreed = asyncio.Event(), asyncio.Event()

    async def agent() -> None:
        async with session.run("r1") as run:
            writing.set()
            await agreed.wait()
            run.agree_to_stop()
            run.stop()
            await asyncio.Event().wait()

    task = asyncio.create_task(agent())
    await writing.wait()
    agreed.set()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await stored(session))[-1].type in ("RUN_ERROR", "RUN_FINISHED")


# --- deltas go ----------------------------------------------------------------------------------------


async def test_deltas_go_a_grace_after_the_run_has_ended(session: Session) -> None:
    await one_run(session)
    record = await session.record()
    log = session._parts.broker.log
    assert await log.runs_with_deltas(record.stretch) == {"r1": 3}
    janitor = Janitor(log, grace_s=0.05)
    janitor.run_ended(record, "r1", (await session.head()).sequence)

    async def gone() -> bool:
        return not await log.runs_with_deltas(record.stretch)

    await eventually(gone)
    await janitor.close()
    assert text_of(await stored(session, deltas="all")) == "Hello"


async def test_a_closing_connection_takes_the_deltas_of_ended_runs_along(fabrics: Fabrics, session: Session) -> None:
    writing = await fabrics.open()
    await one_run(writing.session(session.name))
    await writing.close()
    record = await session.record()
    assert await session._parts.broker.log.runs_with_deltas(record.stretch) == {}
    assert text_of(await stored(session, deltas="all")) == "Hello"


async def test_the_deltas_of_a_later_life_stay(session: Session, fabrics: Fabrics) -> None:
    writing = await fabrics.open()
    await one_run(writing.session(session.name))
    await session.delete()
    async with session.run("r1") as run:
        await run.text("next life")
        await follow_until(session, has(TEXT_CONTENT))
        await writing.close()
        assert text_of(await stored(session)) == "next life"


async def test_a_messages_place_outlives_its_deltas(session: Session, fabrics: Fabrics) -> None:
    writing = await fabrics.open()
    async with writing.session(session.name).run("r1") as run, run.message("early") as early:
        await early.text("1")
        await follow_until(session, has(TEXT_CONTENT))
        await session.append({"type": "message.user", "message": {"id": "between", "role": "user", "content": "2"}})
        await early.text("3")
    await writing.close()
    assert [m.id for m in (await session.messages()).messages] == ["early", "between"]


# --- back-pressure ------------------------------------------------------------------------------------


async def test_a_writer_waits_while_the_broker_is_frozen_and_loses_nothing(own_server: NatsNode) -> None:
    pieces = [f"token {n:06d}, " * 7 for n in range(4000)]
    async with Fabric.connect(own_server.url, streams=1) as fabric:
        session = fabric.session("chat-1")
        await session.create()
        written = 0
        runs: list[Run] = []

        async def write() -> None:
            nonlocal written
            async with session.run("r1") as run:
                runs.append(run)
                for piece in pieces:
                    await run.text(piece)
                    written += 1

        task = asyncio.create_task(write())
        await eventually(lambda: written > 100)
        own_server.freeze()
        try:
            seen = -1
            while written != seen:  # until it stands still
                seen = written
                await asyncio.sleep(0.2)
            assert not task.done()
            # What waits: 64 KiB of it, one addition, and the snapshots that were due among it.
            text_bytes = sum(len(piece) for piece in pieces[:written])
            assert MAX_QUEUED_BYTES <= runs[0]._writes.queued_bytes < MAX_QUEUED_BYTES + 200 + 2 * text_bytes
        finally:
            own_server.thaw()
        await task
        assert text_of(exact(await follow_until(session, ended("r1")))) == "".join(pieces)


async def test_what_is_written_behind_the_end_is_refused_and_not_dropped(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("all")
    with pytest.raises(RunClosed):
        await run.text("lost")
    with pytest.raises(RunClosed):
        await run.emit({"type": "CUSTOM", "name": "lost"})
    with pytest.raises(RunClosed):
        await run.tool("late", {})


async def test_every_end_says_what_the_runs_models_have_used(session: Session) -> None:
    used = [{"model": "toy", "inputTokens": 3, "outputTokens": 4, "totalTokens": 7}]
    async with session.run("r1") as run:
        run.usage = used
    with pytest.raises(RunFailed):
        async with session.run("r2") as run:
            run.usage = used
            raise RunFailed("no")
    async with session.run("r3") as run:
        run.usage = used
        await session.control("cancel", run="r3")
        await asyncio.sleep(3600)
    async with session.run("r4"):
        pass
    ends = {event.run: event.body for event in await stored(session) if event.type in ("RUN_FINISHED", "RUN_ERROR")}
    assert [ends[run].get("usage") for run in ("r1", "r2", "r3", "r4")] == [used, used, used, None]
