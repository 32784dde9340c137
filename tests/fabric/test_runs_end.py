"""Every run ends as its author's code did, whatever he hands over and whatever his handler raises."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from ag_ui.core import TokenUsage
from session_fabric import AgentRun, Event, Fabric, RunFailed, Session
from session_fabric.endings import By, orphan_run
from session_fabric.words.errors import (
    BrokerUnavailable,
    InvalidEvent,
    InvalidName,
    InvalidRequest,
    RunClosed,
    TooLarge,
)

from tests.support.servers import NatsNode
from tests.support.sessions import RUN_END, follow_until, said, stored, text_of, types

MIB = 1024 * 1024
ENDS = (*RUN_END, "run.orphaned")
_ENDS_ITSELF = """
import asyncio, builtins, sys
from session_fabric import Fabric
url, tenant, leaving = sys.argv[1:]
async def main():
    async with Fabric.connect(url, tenant=tenant, participant="agent:writer") as fabric:
        @fabric.agent(pool="default")
        async def handler(run):
            await run.text("So far")
            raise getattr(builtins, leaving)("leaving")
        await handler.serve()
asyncio.run(main())
"""


async def test_text_that_is_none_is_refused_and_harms_nothing_that_was_said(session: Session) -> None:
    async with session.run("r1") as run:
        await run.text("one ")
        for wrong in (b"bytes", None, 5, ["a"]):
            with pytest.raises(InvalidEvent, match="is no text"):
                await run.text(wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidEvent, match="is no text"):
                await run.reasoning(wrong)  # type: ignore[arg-type]
        await run.text("two")
    assert [m.content for m in (await session.messages()).messages] == ["one two"]


async def test_a_message_that_would_not_fit_an_event_is_refused_before_it_does_not(session: Session) -> None:
    piece = "x" * MIB
    async with session.run("r1") as run:
        with pytest.raises(TooLarge, match="Begin another"):
            for _ in range(9):
                await run.text(piece)
        async with run.message():
            await run.text("and so on")
    said = (await session.messages()).messages
    assert [(m.status, len(m.content)) for m in said] == [("completed", 7 * MIB), ("completed", 9)]
    assert types(await stored(session))[-1] == "RUN_FINISHED"


async def test_an_author_who_is_told_that_it_does_not_fit_has_a_run_that_failed(session: Session) -> None:
    with pytest.raises(TooLarge):
        async with session.run("r1") as run:
            await run.text("\x00" * (2 * MIB))  # six bytes each, as JSON
    await asyncio.sleep(0)
    end = (await stored(session))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "TooLarge")


@pytest.mark.parametrize("wrong", [{1, 2}, object(), "\ud800", {"a": 2**70}])
async def test_a_result_that_is_no_json_is_refused_when_it_is_set(session: Session, wrong: Any) -> None:
    async with session.run("r1") as run:
        with pytest.raises(InvalidEvent, match="result is not JSON"):
            run.result = wrong
        run.result = {"fine": True}
    assert (await stored(session))[-1].body["result"] == {"fine": True}


async def test_a_result_and_usage_are_told_as_they_were_when_they_were_set(session: Session) -> None:
    async with session.run("r1") as run:
        run.result = result = {"a": 1}
        run.usage = used = [{"inputTokens": 5}]
        result["a"] = used[0]["inputTokens"] = object()  # type: ignore[assignment]
        used.append(5)  # type: ignore[arg-type]
    end = (await stored(session))[-1]
    assert (end.type, end.body["result"], end.body["usage"]) == ("RUN_FINISHED", {"a": 1}, [{"inputTokens": 5}])


async def test_an_author_s_own_error_ends_the_run_whatever_became_of_what_he_had_set(session: Session) -> None:
    with pytest.raises(ValueError, match="his own"):
        async with session.run("r1") as run:
            run.usage = used = [{"inputTokens": 5}]
            used[0]["inputTokens"] = object()  # type: ignore[assignment]
            raise ValueError("his own")
    end = (await stored(session))[-1]
    assert (end.type, end.body["code"], end.body["usage"]) == ("RUN_ERROR", "ValueError", [{"inputTokens": 5}])


async def test_usage_is_taken_as_ag_ui_has_it(session: Session) -> None:
    totals = {"m": TokenUsage(input_tokens=5, model="m")}
    async with session.run("r1") as run:
        run.usage = totals.values()  # type: ignore[assignment]
        assert run.usage == [{"inputTokens": 5, "model": "m"}]
        run.usage = None  # type: ignore[assignment]
        assert run.usage == []
        run.usage = totals.values()  # type: ignore[assignment]
    assert (await stored(session))[-1].body["usage"] == [{"inputTokens": 5, "model": "m"}]


async def test_a_run_that_waits_for_two_answers_says_so_once(session: Session) -> None:
    async with session.run("r1") as run:
        with pytest.raises(InvalidName):
            await run.suspend("no id")
        await run.text("x" * 70_000)
        await asyncio.gather(run.suspend("q1"), run.suspend("q2"))
        with pytest.raises(InvalidName):
            await run.suspend("no id")
        await run.resume("q1")
        await run.resume("q2")
    said = [each for each in types(await stored(session)) if each in ("run.suspended", "run.resumed")]
    assert said == ["run.suspended", "run.resumed"]


async def test_usage_that_is_none_is_refused_when_it_is_set(session: Session) -> None:
    async with session.run("r1") as run:
        for wrong in (5, ["a"], [{"a": object()}], {"a": 1}):
            with pytest.raises(InvalidEvent, match="usage"):
                run.usage = wrong  # type: ignore[assignment]


async def test_a_tool_that_cannot_be_said_is_not_announced(session: Session) -> None:
    async with session.run("r1") as run:
        for name, args in ((5, {}), ("t", [1]), ("t", {"a": object()}), ("t", {"a": "\ud800"})):
            with pytest.raises((InvalidEvent, InvalidRequest)):
                await run.tool(name, args)  # type: ignore[arg-type]
    assert "TOOL_CALL_START" not in types(await stored(session))


async def test_nothing_is_asked_for_a_run_that_has_ended(session: Session) -> None:
    async with session.run("r1") as run:
        pass
    for ask in (lambda: run.ask("Which?"), lambda: run.approve("This?"), lambda: run.client_tool("t", {})):
        async with asyncio.timeout(5):
            with pytest.raises(RunClosed):
                await ask()
    assert await session.requests() == []


# --- handlers ---------------------------------------------------------------------------------------


async def end_of(fabric: Fabric, handler: Callable[[AgentRun], Awaitable[None]], *, retries: int = 1) -> Event:
    agent = fabric.agent(pool="default", retries=retries)(handler)
    ada = fabric.view(participant="user:ada").session("chat-1")
    async with asyncio.timeout(20), serving(agent):
        await ada.append({"type": "message.user", "message": {"id": "m1", "role": "user", "content": "Hello"}})
        return (await follow_until(ada, lambda events: bool(events) and events[-1].type in RUN_END))[-1]


@asynccontextmanager
async def serving(agent: Any) -> Any:
    task = asyncio.create_task(agent.serve())
    try:
        yield
    finally:
        agent.stop()
        await task


async def cancelled() -> None:
    """Await something that somebody else has cancelled."""
    lost = asyncio.ensure_future(asyncio.sleep(60))
    lost.cancel()
    await lost


async def cancel_oneself() -> None:
    """Do what some libraries do where a time of their own has passed."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.needs_rights
async def test_a_handler_that_awaits_what_was_cancelled_has_failed_and_is_called_again(fabric: Fabric) -> None:
    async def handler(run: AgentRun) -> None:
        if run.attempt == 1:
            await cancelled()
        await run.text("Second time.")

    assert (await end_of(fabric, handler)).type == "RUN_FINISHED"


@pytest.mark.needs_rights
@pytest.mark.parametrize("retries", [0, 1])
async def test_one_that_always_does_is_a_dead_letter_and_not_left_to_others(fabric: Fabric, retries: int) -> None:
    async def handler(run: AgentRun) -> None:
        await cancelled()

    end = await end_of(fabric, handler, retries=retries)
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "dead_letter" if retries else "CancelledError")


@pytest.mark.needs_rights
async def test_a_handler_that_cancels_its_own_task_has_failed_and_is_called_again(fabric: Fabric) -> None:
    async def handler(run: AgentRun) -> None:
        if run.attempt == 1:
            await cancel_oneself()
        await run.text("Second time.")

    assert (await end_of(fabric, handler)).type == "RUN_FINISHED"
    assert text_of(await stored(fabric.session("chat-1"))) == "Second time."


@pytest.mark.needs_rights
@pytest.mark.parametrize("retries", [0, 1])
async def test_one_that_always_cancels_itself_ends_its_run(fabric: Fabric, retries: int) -> None:
    async def handler(run: AgentRun) -> None:
        await run.text("So far")
        await cancel_oneself()

    end = await end_of(fabric, handler, retries=retries)
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "dead_letter" if retries else "CancelledError")
    assert "run.orphaned" not in types(await stored(fabric.session("chat-1")))


@pytest.mark.needs_rights
async def test_a_group_of_cancellations_ends_its_run_and_not_the_agent(fabric: Fabric) -> None:
    async def handler(run: AgentRun) -> None:
        raise BaseExceptionGroup("of a library", [asyncio.CancelledError()])

    end = await end_of(fabric, handler)
    assert (end.body["code"], end.body["cause"]) == ("dead_letter", "BaseExceptionGroup")


@pytest.mark.needs_rights
@pytest.mark.parametrize(
    "instead",
    [
        lambda cut: BaseExceptionGroup("of a library", [cut]),
        lambda cut: BaseExceptionGroup("of a library", [cut, ValueError("too")]),
        lambda cut: RuntimeError("in the middle of it"),
    ],
    ids=["group", "mixed", "error"],
)
async def test_a_stop_is_a_stop_whatever_the_handler_makes_of_it(
    fabric: Fabric, instead: Callable[[BaseException], BaseException]
) -> None:
    at_work = asyncio.Event()

    async def handler(run: AgentRun) -> None:
        try:
            at_work.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError as cut:
            raise instead(cut) from None

    async def stop() -> None:
        await at_work.wait()
        session = fabric.view(participant="user:ada").session("chat-1")
        run = next(event.run for event in await stored(session) if event.type == "RUN_STARTED")
        assert run is not None
        await session.control("cancel", run=run)

    stopping = asyncio.create_task(stop())
    end = await end_of(fabric, handler)
    await stopping
    assert (end.type, end.body["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})


@pytest.mark.parametrize("leaving", ["SystemExit", "KeyboardInterrupt"])
async def test_a_handler_that_ends_its_process_has_ended_its_run(
    shared_server: NatsNode, tenant: str, leaving: str
) -> None:
    """It would end the next process that goes on with it too, and the one after that."""
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="user:ada") as fabric:
        session = fabric.session("chat-1")
        await session.append(said("Hello"))
        command = [sys.executable, "-c", _ENDS_ITSELF, shared_server.url, tenant, leaving]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        try:
            end = (await follow_until(session, lambda events: bool(events) and events[-1].type in ENDS))[-1]
            assert (end.type, end.body.get("code")) == ("RUN_ERROR", leaving)
            assert await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()


@pytest.mark.needs_rights
async def test_a_run_that_was_taken_and_not_rung_for_is_gone_on_with(fabric: Fabric) -> None:
    """Whoever took its process for dead has died before he rang, and the process lives."""
    at_work = asyncio.Event()

    async def handler(run: AgentRun) -> None:
        if not run.resumed:
            await run.text("Once ")
            await run.stored()
            at_work.set()
            while True:
                await run.text("more ")
                await asyncio.sleep(0.01)
        await run.text("and again.")

    async def take() -> None:
        await at_work.wait()
        parts = fabric.view(participant="service:fabric").session("chat-1")._parts
        run = next(e.run for e in await stored(fabric.session("chat-1")) if e.type == "RUN_STARTED")
        assert run is not None
        assert await orphan_run(parts, run, By(fabric.broker.holder), "agent:writer") is not None

    taking = asyncio.create_task(take())
    end = await end_of(fabric, handler)
    await taking
    assert end.type == "RUN_FINISHED"
    lives = [e for e in types(await stored(fabric.session("chat-1"))) if e in ("run.orphaned", "run.taken_over")]
    assert lives == ["run.orphaned", "run.taken_over"]


@pytest.mark.needs_rights
async def test_a_handler_that_is_no_coroutine_fails_at_once_and_says_so(fabric: Fabric) -> None:
    def handler(run: AgentRun) -> None: ...

    end = await end_of(fabric, handler)  # type: ignore[arg-type]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "InvalidRequest")


@pytest.mark.needs_rights
async def test_a_failure_may_say_what_no_json_can(fabric: Fabric) -> None:
    async def handler(run: AgentRun) -> None:
        raise RunFailed("half \ud83d of it")

    assert (await end_of(fabric, handler)).body["message"] == "half ? of it"


async def fails_beside(run: AgentRun) -> None:
    async def look() -> None:
        await run.text("So far")
        raise RunFailed("The search is away.")

    async with asyncio.TaskGroup() as group:
        group.create_task(look())
        group.create_task(asyncio.sleep(60))


async def fails_in_a_group(run: AgentRun) -> None:
    raise BaseExceptionGroup("of a library", [asyncio.CancelledError(), RunFailed("The search is away.")])


@pytest.mark.needs_rights
@pytest.mark.parametrize("handler", [fails_beside, fails_in_a_group])
async def test_what_a_task_of_the_handler_says_of_its_failure_is_its_last_word(
    fabric: Fabric, handler: Callable[[AgentRun], Awaitable[None]]
) -> None:
    end = await end_of(fabric, handler)
    assert (end.type, end.body["message"], end.body["code"]) == ("RUN_ERROR", "The search is away.", "RunFailed")
    assert "STEP_STARTED" not in types(await stored(fabric.session("chat-1")))


async def test_an_author_s_task_says_to_participants_why_it_failed(session: Session) -> None:
    with pytest.raises(ExceptionGroup):
        async with session.run("r1") as run:
            await fails_beside(run)  # type: ignore[arg-type]
    end = (await stored(session))[-1]
    assert (end.body["message"], end.body["code"]) == ("The search is away.", "RunFailed")


@pytest.mark.needs_rights
async def test_a_handler_that_the_broker_did_not_answer_in_time_is_called_again(fabric: Fabric) -> None:
    async def handler(run: AgentRun) -> None:
        if run.attempt == 1:
            raise BrokerUnavailable("The broker did not answer.")
        await run.text("Second time.")

    assert (await end_of(fabric, handler)).type == "RUN_FINISHED"


@pytest.mark.needs_rights
async def test_a_handler_that_no_retry_can_help_is_not_called_again(fabric: Fabric) -> None:
    async def handler(run: AgentRun) -> None:
        raise InvalidRequest("Not so.")

    assert (await end_of(fabric, handler)).body["code"] == "InvalidRequest"
    assert "STEP_STARTED" not in types(await stored(fabric.session("chat-1")))


async def test_what_is_no_handler_is_refused_when_it_is_decorated(fabric: Fabric) -> None:
    async def generator(run: AgentRun) -> Any:
        yield "text"

    for wrong in (generator, None, 5):
        with pytest.raises(InvalidRequest, match="async def handler"):
            fabric.agent()(wrong)  # type: ignore[arg-type]
    for options in ({"idle_s": -1}, {"stop_s": float("nan")}, {"concurrency": "8"}, {"retries": 1.5}):
        with pytest.raises(InvalidRequest, match=next(iter(options))):
            fabric.agent(**options)  # type: ignore[arg-type]
