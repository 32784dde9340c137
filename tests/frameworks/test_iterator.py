"""Any async iterator as an agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ag_ui.core import CustomEvent, RunErrorEvent, TextMessageContentEvent
from session_fabric import AgentRun, Fabric, Session
from session_fabric.frameworks.conversation import conversation
from session_fabric.frameworks.iterator import streaming
from session_fabric.frameworks.running import current_run
from session_fabric.words.errors import InvalidRequest
from structlog.testing import capture_logs

from tests.frameworks.talk import answers, asked, ended, messages, say, seen, served


async def test_what_an_iterator_yields_is_what_the_run_says(fabric: Fabric, ada: Session) -> None:
    async def answer(run: AgentRun) -> AsyncIterator[str]:
        for word in run.input.text.split():
            yield f"{word} "

    async with served(fabric, streaming(answer)):
        await asked(ada, "one two three")
    (said,) = [m for m in await messages(ada) if m.role == "assistant"]
    assert (said.content, said.status) == ("one two three ", "completed")


async def test_events_of_ag_ui_are_written_as_they_are(fabric: Fabric, ada: Session) -> None:
    call = {"toolCallId": "c1", "toolCallName": "search", "parentMessageId": "m2"}
    usage = [{"model": "toy", "inputTokens": 3, "outputTokens": 4}]

    async def answer(run: AgentRun) -> AsyncIterator[Any]:
        yield {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
        yield {"type": "REASONING_MESSAGE_CONTENT", "messageId": "m1", "delta": "They want it found."}
        yield TextMessageContentEvent(message_id="m1", delta="Let me look. ", timestamp=1)
        yield {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m1", "delta": "Now."}
        yield {"type": "TEXT_MESSAGE_END", "messageId": "m1"}
        yield {"type": "TOOL_CALL_START", **call}
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": '{"q":1}'}
        yield {"type": "TOOL_CALL_END", "toolCallId": "c1"}
        yield {"type": "TOOL_CALL_RESULT", "messageId": "x", "toolCallId": "c1", "role": "tool", "content": "found"}
        yield {"type": "STATE_SNAPSHOT", "snapshot": {"step": 2}}
        yield {"type": "STEP_STARTED", "stepName": "tidy"}
        yield {"type": "STEP_FINISHED", "stepName": "tidy"}
        yield CustomEvent(name="mood", value="good")
        yield {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "result": {"ok": True}, "usage": usage}

    async with served(fabric, streaming(answer)):
        events = await asked(ada, "go")
    first, second = [m for m in await messages(ada) if m.role == "assistant"]
    assert (first.content, first.reasoning) == ("Let me look. Now.", "They want it found.")
    (made,) = second.tool_calls
    assert (made.name, made.args, made.result) == ("search", '{"q":1}', "found")
    by_type = {event.type: event.body for event in events}
    assert by_type["CUSTOM"] == {"type": "CUSTOM", "name": "mood", "value": "good"}
    assert by_type["STEP_FINISHED"]["stepName"] == "tidy"
    assert by_type["STATE_SNAPSHOT"]["snapshot"] == {"step": 2}
    assert by_type["RUN_FINISHED"]["result"] == {"ok": True}
    assert by_type["RUN_FINISHED"]["usage"] == usage


async def test_a_run_error_of_the_iterator_is_the_runs_with_its_sentence_and_code(fabric: Fabric, ada: Session) -> None:
    async def answer(run: AgentRun) -> AsyncIterator[RunErrorEvent]:
        yield RunErrorEvent(message="The model is asleep.", code="asleep")

    async with served(fabric, streaming(answer), retries=2):
        end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["message"], end.body["code"]) == ("RUN_ERROR", "The model is asleep.", "asleep")


async def test_what_is_neither_text_nor_an_event_fails_the_run_by_name(fabric: Fabric, ada: Session) -> None:
    async def answer(run: AgentRun) -> AsyncIterator[Any]:
        yield 7

    with capture_logs():
        async with served(fabric, streaming(answer)):
            end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "InvalidEvent")


async def test_a_cancel_closes_the_iterator_and_keeps_what_it_has_yielded(fabric: Fabric, ada: Session) -> None:
    closed = asyncio.Event()

    async def answer(run: AgentRun) -> AsyncIterator[str]:
        try:
            yield "Once upon a time"
            await asyncio.sleep(3600)
        finally:
            closed.set()

    async with served(fabric, streaming(answer)):
        run = await say(ada, "go")
        await seen(ada, lambda event: event.type == "TEXT_MESSAGE_CONTENT")
        await ada.control("cancel", run=run)
        end = (await ended(ada, run))[-1]
    assert closed.is_set()
    assert end.body["outcome"] == {"type": "cancelled"}
    assert await answers(ada) == ["Once upon a time"]


async def test_the_conversation_is_the_branch_that_is_shown_with_calls_and_results(
    fabric: Fabric, ada: Session
) -> None:
    heard: list[list[tuple[str, Any]]] = []

    async def answer(run: AgentRun) -> AsyncIterator[str]:
        heard.append([(m["role"], m.get("content")) for m in await conversation(run)])
        if run.input.text == "first":
            await (await run.tool("look", {})).result("seen")
        yield f"to {run.input.text}"

    async with served(fabric, streaming(answer)):
        await asked(ada, "first", "q1")
        await asked(ada, "second", "q2")
        again = await ada.regenerate("q1", id="again")
        await seen(ada, lambda event: event.offset > again.offset and event.type == "RUN_FINISHED")
        await asked(ada, "third", "q3")
    first = [("user", "first"), ("assistant", "to first"), ("tool", "seen")]
    assert heard == [
        [("user", "first")],
        [*first, ("user", "second")],
        [("user", "first")],
        [*first, ("user", "third")],
    ]


async def test_a_question_that_waited_is_told_what_was_answered_meanwhile(fabric: Fabric, ada: Session) -> None:
    heard: dict[str, list[Any]] = {}
    go = asyncio.Event()

    async def answer(run: AgentRun) -> AsyncIterator[str]:
        heard[run.input.text] = [m["content"] for m in await conversation(run)]
        await go.wait()
        yield f"to {run.input.text}"

    async with served(fabric, streaming(answer)):
        await say(ada, "first", "q1")
        last = await say(ada, "second", "q2")
        go.set()
        await ended(ada, last)
    assert heard == {"first": ["first"], "second": ["first", "to first", "second"]}


async def test_tools_find_the_run_that_they_work_in(fabric: Fabric, ada: Session) -> None:
    with pytest.raises(InvalidRequest, match="No run is being worked on"):
        current_run()

    async def answer(run: AgentRun) -> AsyncIterator[str]:
        yield "the same" if current_run() is run else "another"

    async with served(fabric, streaming(answer)):
        await asked(ada, "go")
    assert await answers(ada) == ["the same"]


async def test_what_an_attempt_has_called_is_hidden_when_it_has_failed(fabric: Fabric, ada: Session) -> None:
    async def answer(run: AgentRun) -> AsyncIterator[Any]:
        call = f"c{run.attempt}"
        start = {"toolCallId": call, "toolCallName": "look", "parentMessageId": f"m{run.attempt}"}
        yield {"type": "TOOL_CALL_START", **start}
        yield {"type": "TOOL_CALL_END", "toolCallId": call}
        if run.attempt == 1:
            raise ConnectionError

    async with served(fabric, streaming(answer), retries=1):
        await asked(ada, "go")
    assert [call.id for message in await messages(ada) for call in message.tool_calls] == ["c2"]
