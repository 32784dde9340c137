"""Agents of the OpenAI Agents SDK in durable sessions, with its own model for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import pytest
from agents import Agent, RunConfig, function_tool, handoff
from agents.items import TResponseStreamEvent
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from openai.types.responses.response_reasoning_item import ResponseReasoningItem, Summary
from pydantic import BaseModel
from session_fabric import AgentRun, Fabric, Session
from session_fabric.frameworks.openai_agents import openai_agents
from session_fabric.frameworks.running import current_run
from session_fabric.rules.routing import run_of_input
from structlog.testing import capture_logs

from tests.frameworks.models import AT_ONCE, Pause
from tests.frameworks.talk import answers, asked, begun, ended, kinds, messages, request, say, seen, served

QUIET = RunConfig(tracing_disabled=True)
USED = Usage(requests=1, input_tokens=3, output_tokens=4, total_tokens=7)


class Words(ScriptedModel):
    """A scripted model that says its text word by word, with a pause between words."""

    pause: Pause = staticmethod(AT_ONCE)

    async def stream_response(self, *args: Any, **more: Any) -> AsyncIterator[TResponseStreamEvent]:
        async for event in super().stream_response(*args, **more):
            if event.type != "response.output_text.delta":
                yield event
                continue
            for word in event.delta.split(" "):
                yield event.model_copy(update={"delta": f"{word} "})
                await self.pause()


def script(*steps: Any) -> list[Any]:
    """Return the steps of a model, each of one item or of several."""
    return [step if isinstance(step, list | ModelStep) else [step] for step in steps]


def made(model: ScriptedModel, **more: Any) -> Agent[Any]:
    return Agent(name="helper", model=model, **more)


def texts(call: ModelCall | None) -> list[Any]:
    """Return what a model was told, as role or kind and text."""
    assert call is not None
    return [
        (item.get("role") or item["type"], item.get("content") or item.get("output") or item.get("name"))
        for item in call.input
    ]


async def test_an_answer_streams_is_completed_and_says_what_it_used(fabric: Fabric, ada: Session) -> None:
    model = Words(script(assistant_message("once upon a time")), default_usage=USED)
    model.pause = partial(begun, ada)
    async with served(fabric, openai_agents(made(model), run_config=QUIET)):
        events = await asked(ada, "a story")
    assert await answers(ada) == ["once upon a time "]
    assert [m.status for m in await messages(ada)] == ["completed", "completed"]
    assert sum(event.type == "TEXT_MESSAGE_CONTENT" for event in events) > 1
    (used,) = events[-1].body["usage"]
    assert (used["inputTokens"], used["outputTokens"], used["totalTokens"]) == (3, 4, 7)


async def test_tool_calls_are_told_with_arguments_and_results(fabric: Fabric, ada: Session) -> None:
    @function_tool
    def weather(city: str) -> dict[str, str]:
        return {city: "sunny"}

    model = ScriptedModel(
        script(function_call("weather", {"city": "Oslo"}, call_id="c1"), assistant_message("It is sunny.")),
        default_usage=USED,
    )
    async with served(fabric, openai_agents(made(model, tools=[weather]), run_config=QUIET)):
        events = await asked(ada, "the weather?")
    (call,) = [call for message in await messages(ada) for call in message.tool_calls]
    assert (call.id, call.name, call.args, call.result) == ("c1", "weather", '{"city":"Oslo"}', '{"Oslo":"sunny"}')
    assert (await answers(ada))[-1] == "It is sunny."
    assert kinds(events).count("TOOL_CALL_RESULT") == 1
    assert events[-1].body["usage"][0]["totalTokens"] == 14


async def test_what_a_model_thinks_is_told_beside_its_text(fabric: Fabric, ada: Session) -> None:
    summary = Summary(text="They greet.", type="summary_text")
    thought = ResponseReasoningItem(id="r1", type="reasoning", summary=[summary])
    model = ScriptedModel([[thought, assistant_message("Hello.")]])
    async with served(fabric, openai_agents(made(model), run_config=QUIET)):
        await asked(ada, "hi")
    (said,) = [message for message in await messages(ada) if message.role == "assistant"]
    assert (said.reasoning, said.content) == ("They greet.", "Hello.")


async def test_the_second_question_is_asked_with_the_first_its_calls_and_its_answer(
    fabric: Fabric, ada: Session
) -> None:
    @function_tool
    def look() -> str:
        return "seen"

    model = ScriptedModel(
        script(function_call("look", {}, call_id="c1"), assistant_message("one"), assistant_message("two"))
    )
    async with served(fabric, openai_agents(made(model, tools=[look]), run_config=QUIET)):
        await asked(ada, "first", "q1")
        await asked(ada, "second", "q2")
    told = texts(model.last_call)
    assert [text for kind, text in told if kind == "user"] == ["first", "second"]
    assert ("assistant", "one") in told
    assert ("function_call", "look") in told
    assert ("function_call_output", "seen") in told


async def test_a_cancel_in_mid_answer_keeps_the_text(fabric: Fabric, ada: Session) -> None:
    model = Words(script(assistant_message("once upon a time " * 200)))
    model.pause = partial(asyncio.sleep, 0.02)
    async with served(fabric, openai_agents(made(model), run_config=QUIET)):
        run = await say(ada, "a story")
        await seen(ada, lambda event: event.type == "TEXT_MESSAGE_CONTENT")
        await ada.control("cancel", run=run)
        end = (await ended(ada, run))[-1]
    assert end.body["outcome"] == {"type": "cancelled"}
    (cut,) = await answers(ada)
    assert cut.startswith("once")
    assert len(cut) < 3000


async def test_a_steer_is_the_input_of_the_next_turn_of_the_same_run(fabric: Fabric, ada: Session) -> None:
    steered = asyncio.Event()

    async def first(call: ModelCall) -> Sequence[Any]:
        await steered.wait()
        return [assistant_message("long")]

    model = ScriptedModel([ModelStep.respond(first), [assistant_message("short")]])
    async with served(fabric, openai_agents(made(model), run_config=QUIET)):
        run = await say(ada, "go")
        await seen(ada, lambda event: event.type == "STEP_STARTED")
        await ada.control("steer", run=run, body={"text": "shorter"})
        await seen(ada, lambda event: event.type == "control.accepted")
        steered.set()
        await ended(ada, run)
    assert [text for kind, text in texts(model.last_call) if kind == "user"] == ["go", "shorter"]
    assert await answers(ada) == ["long", "short"]


def deleting(calls: list[str]) -> Any:
    @function_tool(needs_approval=True)
    def delete(file: str) -> str:
        calls.append(file)
        return f"{file} is gone"

    return delete


@pytest.mark.parametrize(("approved", "told"), [(True, "a.txt is gone"), (False, "not that one")])
async def test_a_tool_that_needs_approval_waits_for_another_participant(
    fabric: Fabric, ada: Session, approved: bool, told: str
) -> None:
    model = ScriptedModel(script(function_call("delete", {"file": "a.txt"}, call_id="c1"), assistant_message("Done.")))
    calls: list[str] = []
    how = {"to": "role:operator", "title": "Delete a file?"}
    agent = made(model, tools=[deleting(calls)])
    async with served(fabric, openai_agents(agent, approval=lambda run, item: how, run_config=QUIET)):
        run = await say(ada, "delete it")
        found = await request(ada)
        answer = {"approved": approved, **({} if approved else {"comment": "not that one"})}
        await fabric.view(participant="operator:eve").session("chat").answer(found.request, answer)
        await ended(ada, run)
    assert (found.body["title"], found.body["text"], found.to) == (
        "Delete a file?",
        '{"file":"a.txt"}',
        "role:operator",
    )
    assert calls == (["a.txt"] if approved else [])
    (call,) = [call for message in await messages(ada) for call in message.tool_calls]
    assert told in str(call.result)
    assert (await answers(ada))[-1] == "Done."
    assert await fabric.session("chat").checkpoints.entries() == []


async def test_an_agent_that_is_gone_while_it_waits_is_gone_on_for_by_another(fabric: Fabric, ada: Session) -> None:
    calls: list[str] = []
    first = ScriptedModel(
        [[assistant_message("Let me see."), function_call("delete", {"file": "a.txt"}, call_id="c1")]],
        default_usage=USED,
    )
    second = ScriptedModel(script(assistant_message("It is done.")), default_usage=USED)
    agent = fabric.agent(stop_s=0.0)(openai_agents(made(first, tools=[deleting(calls)]), run_config=QUIET))
    serving = asyncio.create_task(agent.serve())
    await say(ada, "delete it")
    found = await request(ada)
    agent.stop()  # at once: its run is left to others
    await serving
    await fabric.watch_over()
    async with served(fabric, openai_agents(made(second, tools=[deleting(calls)]), run_config=QUIET)):
        await ada.answer(found.request, {"approved": True})
        events = await ended(ada, run_of_input("q1"))
    assert calls == ["a.txt"]
    assert await answers(ada) == ["Let me see.", "It is done."]
    assert ("function_call_output", "a.txt is gone") in texts(second.last_call)
    assert [event.type for event in events].count("input.requested") == 1
    assert events[-1].body["usage"][0]["totalTokens"] == 14


async def test_agents_that_get_a_hand_off_are_steps(fabric: Fabric, ada: Session) -> None:
    expert = Agent(name="expert", model=ScriptedModel(script(assistant_message("I know."))))
    first = ScriptedModel(script(function_call("transfer_to_expert", {}, call_id="c1")))
    agent = made(first, handoffs=[handoff(expert)])
    async with served(fabric, openai_agents(agent, run_config=QUIET)):
        events = await asked(ada, "who knows?")
    steps = [(e.type, e.body["stepName"]) for e in events if e.type.startswith("STEP_")]
    begun, over = "STEP_STARTED", "STEP_FINISHED"
    assert steps == [(begun, "helper"), (over, "helper"), (begun, "expert"), (over, "expert")]
    assert (await answers(ada))[-1] == "I know."


async def test_an_output_that_is_no_text_is_the_runs_result_and_a_context_is_made(fabric: Fabric, ada: Session) -> None:
    class Trip(BaseModel):
        city: str

    contexts: list[Any] = []

    def context(run: AgentRun) -> str:
        contexts.append(current_run() is run)
        return run.input.actor

    agent = made(ScriptedModel(script(assistant_message('{"city":"Oslo"}'))), output_type=Trip)
    async with served(fabric, openai_agents(agent, context=context, run_config=QUIET)):
        end = (await asked(ada, "plan a trip"))[-1]
    assert end.body["result"] == {"city": "Oslo"}
    assert contexts == [True]


async def test_too_many_turns_end_the_run_at_once(fabric: Fabric, ada: Session) -> None:
    @function_tool
    def again() -> str:
        return "once more"

    model = ScriptedModel(script(*(function_call("again", {}, call_id=f"c{n}") for n in range(9))))
    agent = made(model, tools=[again])
    async with served(fabric, openai_agents(agent, max_turns=2, run_config=QUIET), retries=3):
        end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "MaxTurnsExceeded")


async def test_what_the_model_raises_is_named_and_its_text_is_not_told(fabric: Fabric, ada: Session) -> None:
    model = ScriptedModel([ModelStep.raise_error(ConnectionError("secret"))])
    with capture_logs():
        async with served(fabric, openai_agents(made(model), run_config=QUIET)):
            end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "ConnectionError")
    assert "secret" not in str(end.body)
