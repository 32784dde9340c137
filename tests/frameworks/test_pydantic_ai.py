"""Pydantic AI's agents in durable sessions, with its own models for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ApprovalRequired, CallDeferred, DeferredToolRequests, RunContext
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.usage import UsageLimits
from session_fabric import AgentRun, Event, Fabric, Session
from session_fabric.frameworks.pydantic_ai import pydantic_ai
from structlog.testing import capture_logs

from tests.frameworks.talk import answers, asked, begun, ended, kinds, messages, request, say, seen, served


@dataclass
class Who:
    """What a tool of the test wants to know."""

    name: str


def users(history: list[ModelMessage]) -> list[str]:
    """Return what users say in a history."""
    parts = [part for message in history if isinstance(message, ModelRequest) for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, UserPromptPart)]


def returns(history: list[ModelMessage]) -> list[Any]:
    """Return what tools have returned in a history."""
    parts = [part for message in history if isinstance(message, ModelRequest) for part in message.parts]
    return [part.content for part in parts if isinstance(part, ToolReturnPart)]


def calling(tool: str, args: str = "{}", then: str = "Done.") -> FunctionModel:
    """A model that calls a tool once, and says what it returned."""

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if not (found := returns(history)):
            yield {0: DeltaToolCall(name=tool, json_args=args, tool_call_id="call-1")}
        else:
            yield f"{then} {found[-1]}"

    return FunctionModel(stream_function=stream)


async def test_an_answer_streams_is_completed_and_says_what_it_used(fabric: Fabric, ada: Session) -> None:
    async def words(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for word in ("You ", "said: ", users(history)[-1]):
            yield word
            await begun(ada)

    agent = Agent(FunctionModel(stream_function=words))
    async with served(fabric, pydantic_ai(agent)):
        events = await asked(ada, "hello")
    assert await answers(ada) == ["You said: hello"]
    assert [m.status for m in await messages(ada)] == ["completed", "completed"]
    assert sum(event.type == "TEXT_MESSAGE_CONTENT" for event in events) > 1
    (used,) = events[-1].body["usage"]
    assert used["model"] == "function::words"
    assert used["totalTokens"] == used["inputTokens"] + used["outputTokens"] > 0


async def test_thoughts_and_tool_calls_are_told_with_arguments_and_results(fabric: Fabric, ada: Session) -> None:
    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if returns(history):
            yield "It is 21 degrees."
        else:
            yield {0: DeltaThinkingPart(content="A tool knows.")}
            yield {1: DeltaToolCall(name="weather", json_args='{"city":', tool_call_id="call-1")}
            yield {1: DeltaToolCall(json_args='"Oslo"}')}

    agent = Agent(FunctionModel(stream_function=stream))

    @agent.tool_plain
    def weather(city: str) -> dict[str, Any]:
        return {"city": city, "degrees": 21}

    async with served(fabric, pydantic_ai(agent)):
        events = await asked(ada, "the weather?")
    said = await messages(ada)
    (call,) = [call for message in said for call in message.tool_calls]
    assert (call.name, call.args, call.result) == ("weather", '{"city":"Oslo"}', '{"city":"Oslo","degrees":21}')
    assert [m.reasoning for m in said if m.role == "reasoning"] == ["A tool knows."]
    assert (await answers(ada))[-1] == "It is 21 degrees."
    assert kinds(events).count("TOOL_CALL_RESULT") == 1


async def test_the_second_question_is_asked_with_the_first_and_its_answer(fabric: Fabric, ada: Session) -> None:
    heard: list[list[ModelMessage]] = []

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        heard.append(history)
        yield f"answer {len(heard)}"

    async with served(fabric, pydantic_ai(Agent(FunctionModel(stream_function=stream)))):
        await asked(ada, "first", "q1")
        await asked(ada, "second", "q2")
    assert users(heard[1]) == ["first", "second"]
    assert "answer 1" in str(heard[1])


async def test_a_cancel_in_mid_answer_cancels_the_models_request_and_keeps_the_text(
    fabric: Fabric, ada: Session
) -> None:
    left = asyncio.Event()

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        try:
            yield "Once upon "
            yield "a time"
            await asyncio.sleep(3600)
        finally:
            left.set()

    async with served(fabric, pydantic_ai(Agent(FunctionModel(stream_function=stream)))):
        run = await say(ada, "a story")
        await seen(ada, lambda e: e.type == "TEXT_MESSAGE_CONTENT" and "time" in str(e.body.get("delta")))
        await ada.control("cancel", run=run)
        end = (await ended(ada, run))[-1]
        await asyncio.wait_for(left.wait(), 10)
    assert end.body["outcome"] == {"type": "cancelled"}
    assert await answers(ada) == ["Once upon a time"]
    assert end.body["usage"][0]["totalTokens"] > 0


async def test_a_steer_is_in_the_next_request_of_the_same_run(fabric: Fabric, ada: Session) -> None:
    heard: list[list[str]] = []
    steered = asyncio.Event()

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        heard.append(users(history))
        yield "Long "
        await steered.wait()
        yield "answer."

    async with served(fabric, pydantic_ai(Agent(FunctionModel(stream_function=stream)))):
        run = await say(ada, "go")
        await seen(ada, lambda e: e.type == "TEXT_MESSAGE_CONTENT")
        await ada.control("steer", run=run, body={"text": "shorter"})
        await seen(ada, lambda e: e.type == "control.accepted")
        steered.set()
        await ended(ada, run)
    assert heard == [["go"], ["go", "shorter"]]


async def approve(session: Session, approved: bool, comment: str = "") -> dict[str, Any]:
    found = await request(session)
    await session.answer(found.request, {"approved": approved, **({"comment": comment} if comment else {})})
    return dict(found.body)


@pytest.mark.parametrize(("approved", "said"), [(True, "Done. a.txt is gone"), (False, "Done. not that one")])
async def test_a_tool_that_needs_approval_waits_for_another_participant(
    fabric: Fabric, ada: Session, approved: bool, said: str
) -> None:
    agent = Agent(calling("delete", '{"file":"a.txt"}'), output_type=[str, DeferredToolRequests])

    @agent.tool
    def delete(ctx: RunContext[None], file: str) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"to": "role:operator", "title": f"Delete {file}?"})
        return f"{file} is gone"

    eve = fabric.view(participant="operator:eve").session("chat")
    async with served(fabric, pydantic_ai(agent)):
        run = await say(ada, "delete it")
        body = await approve(eve, approved, "" if approved else "not that one")
        events = await ended(ada, run)
    assert (body["title"], body["to"], body["text"]) == ("Delete a.txt?", "role:operator", '{"file":"a.txt"}')
    assert (await answers(ada))[-1] == said
    assert [e.type for e in events if e.type in ("run.suspended", "run.resumed")] == ["run.suspended", "run.resumed"]
    assert len([call for message in await messages(ada) for call in message.tool_calls]) == 1


async def test_an_approval_that_nobody_gives_in_time_is_a_no(fabric: Fabric, ada: Session) -> None:
    agent = Agent(calling("delete"), output_type=[str, DeferredToolRequests])

    @agent.tool
    def delete(ctx: RunContext[None]) -> str:
        raise ApprovalRequired(metadata={"deadline_s": 0.1})

    async with served(fabric, pydantic_ai(agent)):
        await asked(ada, "delete it")
    assert (await answers(ada))[-1] == "Done. Nobody decided in time."


async def test_a_deferred_tool_is_called_by_a_participants_device(fabric: Fabric, ada: Session) -> None:
    agent = Agent(calling("read_selection", '{"format":"text"}'), output_type=[str, DeferredToolRequests])

    @agent.tool_plain
    def read_selection(format: str) -> str:
        raise CallDeferred(metadata={"to": "user:ada"})

    async with served(fabric, pydantic_ai(agent)):
        run = await say(ada, "what have I marked?")
        found = await request(ada)
        await ada.answer(found.request, "these words", device="laptop")
        await ended(ada, run)
    assert (found.kind, found.tool, dict(found.args or {})) == ("tool", "read_selection", {"format": "text"})
    assert found.body["call"] == "call-1"
    (call,) = [call for message in await messages(ada) for call in message.tool_calls]
    assert (call.id, call.result) == ("call-1", "these words")
    assert (await answers(ada))[-1] == "Done. these words"


async def test_an_error_of_the_device_is_told_to_the_model(fabric: Fabric, ada: Session) -> None:
    agent = Agent(calling("read_selection"), output_type=[str, DeferredToolRequests])

    @agent.tool_plain
    def read_selection() -> str:
        raise CallDeferred

    async with served(fabric, pydantic_ai(agent)):
        run = await say(ada, "go")
        found = await request(ada)
        await ada.answer(found.request, error="Nothing is marked.")
        await ended(ada, run)
    assert "Nothing is marked." in (await answers(ada))[-1]


async def test_an_output_that_is_no_text_is_the_runs_result(fabric: Fabric, ada: Session) -> None:
    class Trip(BaseModel):
        city: str
        days: int

    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield {0: DeltaToolCall(name=info.output_tools[0].name, json_args='{"city":"Oslo","days":3}')}

    agent = Agent(FunctionModel(stream_function=stream), output_type=Trip)
    async with served(fabric, pydantic_ai(agent)):
        end = (await asked(ada, "plan a trip"))[-1]
    assert end.body["result"] == {"city": "Oslo", "days": 3}


async def test_dependencies_are_made_for_each_run(fabric: Fabric, ada: Session) -> None:
    agent = Agent(calling("whoami"), deps_type=Who)

    @agent.tool
    def whoami(ctx: RunContext[Who]) -> str:
        return ctx.deps.name

    def deps(run: AgentRun) -> Who:
        return Who(run.input.actor)

    async with served(fabric, pydantic_ai(agent, deps=deps)):
        await asked(ada, "who am I?")
    assert (await answers(ada))[-1] == "Done. user:ada"


def failing(error: Exception) -> FunctionModel:
    async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "So "
        raise error

    return FunctionModel(stream_function=stream)


async def test_what_the_model_raises_ends_the_run_with_its_name_and_not_its_words(fabric: Fabric, ada: Session) -> None:
    error = ModelHTTPError(503, "toy", body="secret")
    with capture_logs():
        async with served(fabric, pydantic_ai(Agent(failing(error)))):
            end = (await asked(ada, "go"))[-1]
    assert end.type == "RUN_ERROR"
    assert "secret" not in str(end.body)
    assert end.body["code"].lstrip("_").endswith("Error")


async def test_a_limit_of_use_ends_the_run_at_once(fabric: Fabric, ada: Session) -> None:
    agent = Agent(calling("again"))

    @agent.tool_plain
    def again() -> str:
        return "once more"

    limits = UsageLimits(request_limit=1)
    async with served(fabric, pydantic_ai(agent, usage_limits=limits), retries=3):
        end: Event = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "UsageLimitExceeded")
    assert "attempts" not in end.body
