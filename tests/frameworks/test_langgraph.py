"""LangGraph's graphs in durable sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt
from session_fabric import Fabric, Session
from session_fabric.frameworks.checkpointer import JetStreamCheckpointer
from session_fabric.frameworks.langgraph import langgraph
from session_fabric.frameworks.running import current_run
from structlog.testing import capture_logs

from tests.frameworks.models import AT_ONCE, Answer, Pause, ScriptedChatModel
from tests.frameworks.talk import answers, asked, begun, ended, kinds, messages, request, say, seen, served


def chat(fabric: Fabric | None, answer: Answer, tools: Sequence[Any] = (), pause: Pause = AT_ONCE) -> Any:
    """A graph of one model, with tools; with our checkpointer where there is a fabric."""
    model = ScriptedChatModel(answer=answer, pause=pause)

    async def call(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", call)
    builder.add_edge(START, "model")
    if tools:
        builder.add_node("tools", ToolNode(tools))
        builder.add_conditional_edges("model", tools_condition)
        builder.add_edge("tools", "model")
    else:
        builder.add_edge("model", END)
    return builder.compile(checkpointer=None if fabric is None else JetStreamCheckpointer(fabric))


async def echo(told: list[BaseMessage]) -> str:
    return f"You said: {told[-1].content}"


def texts(told: Sequence[BaseMessage]) -> list[Any]:
    return [str(message.content).strip() for message in told]


async def test_an_answer_streams_is_completed_and_says_what_it_used(fabric: Fabric, ada: Session) -> None:
    async with served(fabric, langgraph(chat(fabric, echo, pause=partial(begun, ada)))):
        events = await asked(ada, "hello")
    assert await answers(ada) == ["You said: hello "]
    assert [m.status for m in await messages(ada)] == ["completed", "completed"]
    assert sum(event.type == "TEXT_MESSAGE_CONTENT" for event in events) > 1
    (used,) = events[-1].body["usage"]
    assert (used["inputTokens"], used["outputTokens"], used["totalTokens"]) == (1, 2, 3)
    steps = [(e.type, e.body["stepName"]) for e in events if e.type.startswith("STEP_")]
    assert steps == [("STEP_STARTED", "model"), ("STEP_FINISHED", "model")]


async def test_langchains_own_fake_model_streams_too(fabric: Fabric, ada: Session) -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage(content="One two three")]))

    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", call)
    builder.add_edge(START, "model")
    async with served(fabric, langgraph(builder.compile())):
        await asked(ada, "hello")
    assert await answers(ada) == ["One two three"]


async def test_tool_calls_are_told_with_arguments_and_results(fabric: Fabric, ada: Session) -> None:
    def weather(city: str) -> str:
        """Say what the weather is."""
        get_stream_writer()({"asked": city})
        return f"sunny in {city}"

    async def answer(told: list[BaseMessage]) -> str | tuple[str, str]:
        return ("weather", '{"city":"Oslo"}') if len(told) == 1 else f"It is {told[-1].content}"

    async with served(fabric, langgraph(chat(fabric, answer, [weather]))):
        events = await asked(ada, "the weather?")
    (call,) = [call for message in await messages(ada) for call in message.tool_calls]
    assert (call.name, call.args, call.result) == ("weather", '{"city":"Oslo"}', "sunny in Oslo")
    assert (await answers(ada))[-1] == "It is sunny in Oslo "
    assert [e.body["value"] for e in events if e.type == "CUSTOM"] == [{"asked": "Oslo"}]
    assert kinds(events).count("TOOL_CALL_RESULT") == 1
    assert events[-1].body["usage"][0]["totalTokens"] == 3 + 5


async def test_what_a_model_thinks_is_told_beside_its_text(fabric: Fabric, ada: Session) -> None:
    thought = [{"type": "reasoning", "reasoning": "They greet."}, {"type": "text", "text": "Hello."}]

    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(content=thought)]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    async with served(fabric, langgraph(builder.compile())):
        await asked(ada, "hi")
    (said,) = [message for message in await messages(ada) if message.role == "assistant"]
    assert (said.reasoning, said.content) == ("They greet.", "Hello.")


@pytest.mark.parametrize("kept", [True, False])
async def test_the_second_question_is_asked_with_the_first_and_its_answer(
    fabric: Fabric, ada: Session, kept: bool
) -> None:
    heard: list[list[Any]] = []

    async def answer(told: list[BaseMessage]) -> str:
        heard.append(texts(told))
        return f"answer {len(heard)}"

    async with served(fabric, langgraph(chat(fabric if kept else None, answer))):
        await asked(ada, "first", "q1")
        await asked(ada, "second", "q2")
        again = await ada.regenerate("q2", id="again")
        await seen(ada, lambda e: e.offset > again.offset and e.type == "RUN_FINISHED")
    assert heard == [["first"], ["first", "answer 1", "second"], ["first", "answer 1", "second"]]


async def test_a_graph_is_told_the_branch_that_is_shown(fabric: Fabric, ada: Session) -> None:
    heard: list[list[Any]] = []

    async def answer(told: list[BaseMessage]) -> str:
        heard.append(texts(told))
        return f"answer {len(heard)}"

    async with served(fabric, langgraph(chat(fabric, answer))):
        await asked(ada, "first", "q1")
        await asked(ada, "second", "q2")
        edited = await ada.edit("q2", "other", id="q3")
        await seen(ada, lambda e: e.offset > edited.offset and e.type == "RUN_FINISHED")
    assert heard[-1] == ["first", "answer 1", "other"]


async def test_a_cancel_in_mid_answer_stops_the_graph_and_the_next_question_knows_what_was_said(
    fabric: Fabric, ada: Session
) -> None:
    heard: list[list[Any]] = []

    async def answer(told: list[BaseMessage]) -> str:
        heard.append(texts(told))
        return "once upon a time " * 200 if len(told) == 1 else "Well."

    graph = chat(fabric, answer, pause=partial(asyncio.sleep, 0.02))
    async with served(fabric, langgraph(graph)):
        run = await say(ada, "a story", "q1")
        await seen(ada, lambda e: e.type == "TEXT_MESSAGE_CONTENT")
        await ada.control("cancel", run=run)
        end = (await ended(ada, run))[-1]
        (cut,) = await answers(ada)
        await asked(ada, "go on", "q2")
    assert end.body["outcome"] == {"type": "cancelled"}
    assert cut.startswith("once")
    assert len(cut) < 3000
    assert heard[1] == ["a story", cut.strip(), "go on"]


async def test_a_steer_is_the_next_turn_of_the_same_run(fabric: Fabric, ada: Session) -> None:
    for kept in (fabric, None):
        session = ada if kept else fabric.view(participant="user:ada").session("another")
        heard: list[list[Any]] = []
        steered = asyncio.Event()

        async def answer(
            told: list[BaseMessage], heard: list[list[Any]] = heard, steered: asyncio.Event = steered
        ) -> str:
            heard.append(texts(told))
            await steered.wait()
            return f"answer {len(heard)}"

        async with served(fabric, langgraph(chat(kept, answer))):
            run = await say(session, "go")
            await seen(session, lambda e: e.type == "STEP_STARTED")
            await session.control("steer", run=run, body={"text": "shorter"})
            await seen(session, lambda e: e.type == "control.accepted")
            steered.set()
            await ended(session, run)
        assert heard == [["go"], ["go", "answer 1", "shorter"]]


def asking(fabric: Fabric, *values: Any) -> Any:
    """A graph that interrupts itself for each value in one node, and says what came of it."""

    async def node(state: MessagesState) -> dict[str, Any]:
        got = [interrupt(value) for value in values]
        return {"messages": [AIMessage(content=f"Got {got}", id=f"ai-{len(state['messages'])}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", node)
    builder.add_edge(START, "ask")
    return builder.compile(checkpointer=JetStreamCheckpointer(fabric))


async def test_interrupts_are_asked_of_participants_one_after_the_other(fabric: Fabric, ada: Session) -> None:
    eve = fabric.view(participant="operator:eve").session("chat")
    approval = {"kind": "approval", "title": "Delete it?", "text": "a.txt", "to": "role:operator"}
    async with served(fabric, langgraph(asking(fabric, approval, "Your name?", "Your name?"))):
        run = await say(ada, "go")
        first = await request(ada)
        await eve.answer(first.request, {"approved": True, "comment": "fine"})
        await seen(ada, lambda e: e.type == "input.requested" and e.body["title"] == "Your name?")
        second = await request(ada)
        await ada.answer(second.request, "Ada")
        third = await seen(ada, lambda e: e.type == "input.requested" and e.id not in (first.request, second.request))
        await ada.answer(third[-1].id, "Lovelace")
        events = await ended(ada, run)
    assert (first.kind, first.to, first.body["text"]) == ("approval", "role:operator", "a.txt")
    said = "[{'approved': True, 'comment': 'fine', 'by': 'operator:eve'}, 'Ada', 'Lovelace']"
    assert await answers(ada) == [f"Got {said}"]
    assert [e.type for e in events].count("run.suspended") == 3


async def test_an_interrupt_can_be_a_tool_of_a_participants_device(fabric: Fabric, ada: Session) -> None:
    async with served(fabric, langgraph(asking(fabric, {"tool": "read_page", "args": {"what": "title"}}))):
        run = await say(ada, "go")
        found = await request(ada)
        await ada.answer(found.request, {"title": "Home"}, device="laptop")
        await ended(ada, run)
    assert (found.kind, found.tool, dict(found.args or {})) == ("tool", "read_page", {"what": "title"})
    assert await answers(ada) == ["Got [{'title': 'Home'}]"]


async def test_langchains_requests_for_review_are_approvals(fabric: Fabric, ada: Session) -> None:
    actions = [{"name": "send", "args": {"to": "bob"}, "description": "Send a mail"}, {"name": "wipe", "args": {}}]
    async with served(fabric, langgraph(asking(fabric, {"action_requests": actions, "review_configs": []}))):
        run = await say(ada, "go")
        await seen(ada, lambda e: e.type == "input.requested" and e.body["title"] == "Call wipe?")
        send, wipe = await ada.requests()
        await ada.answer(send.request, {"approved": True})
        await ada.answer(wipe.request, {"approved": False, "comment": "never"})
        await ended(ada, run)
    assert (send.body["title"], send.body["text"]) == ("Call send?", "Send a mail")
    assert "{'type': 'approve'}, {'type': 'reject', 'message': 'never'}" in (await answers(ada))[0]


async def test_a_choice_and_a_form_are_held_against_what_was_asked(fabric: Fabric, ada: Session) -> None:
    choice = {"title": "Which size?", "options": ["S", "M"]}
    form = {"title": "Where to?", "schema": {"type": "object", "required": ["city"]}}
    async with served(fabric, langgraph(asking(fabric, choice, form))):
        run = await say(ada, "go")
        await ada.answer((await request(ada)).request, "M")
        events = await seen(ada, lambda e: e.type == "input.requested" and e.body["kind"] == "form")
        await ada.answer(events[-1].id, {"city": "Oslo"})
        await ended(ada, run)
    assert await answers(ada) == ["Got ['M', {'city': 'Oslo'}]"]


async def test_a_node_that_fails_is_tried_again_from_the_step_before(fabric: Fabric, ada: Session) -> None:
    tries: list[str] = []

    async def first(state: MessagesState) -> dict[str, Any]:
        tries.append("first")
        return {"messages": [AIMessage(content="First step. ", id="ai-1")]}

    async def second(state: MessagesState) -> dict[str, Any]:
        tries.append("second")
        if tries.count("second") == 1:
            raise ConnectionError("the weather")
        return {"messages": [AIMessage(content="Second step.", id="ai-2")]}

    builder = StateGraph(MessagesState)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    graph = builder.compile(checkpointer=JetStreamCheckpointer(fabric))
    async with served(fabric, langgraph(graph), retries=2):
        await asked(ada, "go")
    assert tries == ["first", "second", "second"]
    assert await answers(ada) == ["First step. ", "Second step."]


@pytest.mark.parametrize("takeover", ["restart", "continue"])
async def test_a_graph_whose_process_is_gone_in_the_middle_of_a_node_is_gone_on_for_from_there(
    fabric: Fabric, ada: Session, takeover: Any
) -> None:
    made: list[str] = []

    def graph(hangs: bool) -> Any:
        async def first(state: MessagesState) -> dict[str, Any]:
            made.append("first")
            return {"messages": [AIMessage(content="First step.", id=f"ai-{len(state['messages'])}")]}

        async def answer(told: list[BaseMessage]) -> str:
            made.append("second")
            return "once upon a time " * 200 if hangs else "Second step."

        model = ScriptedChatModel(answer=answer, pause=partial(asyncio.sleep, 0.02))

        async def second(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"], config)]}

        builder = StateGraph(MessagesState)
        builder.add_sequence([("first", first), ("second", second)])
        builder.add_edge(START, "first")
        return builder.compile(checkpointer=JetStreamCheckpointer(fabric))

    await ada.append({"type": "app.note"})  # the question is not the first thing that is said
    agent = fabric.agent(takeover=takeover, stop_s=0.0)(langgraph(graph(hangs=True)))
    serving = asyncio.create_task(agent.serve())
    run = await say(ada, "go")
    await seen(ada, lambda e: e.type == "TEXT_MESSAGE_CONTENT" and "once" in str(e.body["delta"]))
    agent.stop()  # at once: its run is left to others
    await serving
    await fabric.watch_over()
    async with served(fabric, langgraph(graph(hangs=False)), takeover=takeover):
        await ended(ada, run)
        await asked(ada, "again", "q2")
    assert made == ["first", "second", "second", "first", "second"]
    assert [text.strip() for text in await answers(ada)] == ["First step.", "Second step."] * 2


async def test_too_many_steps_end_the_run_at_once(fabric: Fabric, ada: Session) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("again", lambda state: {})
    builder.add_edge(START, "again")
    builder.add_edge("again", "again")
    async with served(fabric, langgraph(builder.compile(), config={"recursion_limit": 3}), retries=3):
        end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "GraphRecursionError")


async def test_what_a_node_raises_is_named_and_its_text_is_not_told(fabric: Fabric, ada: Session) -> None:
    async def answer(told: list[BaseMessage]) -> str:
        raise LookupError("secret")

    with capture_logs():
        async with served(fabric, langgraph(chat(fabric, answer))):
            end = (await asked(ada, "go"))[-1]
    assert (end.type, end.body["code"]) == ("RUN_ERROR", "LookupError")
    assert "secret" not in str(end.body)


class Plan(TypedDict):
    """A state without messages of a model."""

    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    steps: list[str]


async def test_state_that_is_chosen_is_told_and_the_input_can_be_made(fabric: Fabric, ada: Session) -> None:
    async def plan(state: Plan) -> dict[str, Any]:
        assert current_run().input.text == "Oslo"
        return {"steps": [f"fly to {state['topic']}"]}

    builder = StateGraph(Plan)
    builder.add_node("plan", plan)
    builder.add_edge(START, "plan")
    graph = builder.compile()
    made = langgraph(graph, input=lambda run, told: {"topic": str(told[-1].content)}, state=["topic", "steps"])
    async with served(fabric, made):
        events = await asked(ada, "Oslo")
    snapshots = [e.body["snapshot"] for e in events if e.type == "STATE_SNAPSHOT"]
    assert snapshots == [{"topic": "Oslo"}, {"topic": "Oslo", "steps": ["fly to Oslo"]}]


async def test_the_checkpointer_keeps_one_checkpoint_of_a_conversation_unless_it_is_to_keep_all(
    fabric: Fabric, ada: Session
) -> None:
    async with served(fabric, langgraph(chat(fabric, echo))):
        for number in range(3):
            await asked(ada, "hello", f"q{number}")
    assert len(await fabric.session("chat").checkpoints.under("langgraph", "").entries("c")) == 1
    graph = chat(fabric, echo)
    graph.checkpointer.keeps_history = True
    async with served(fabric, langgraph(graph)):
        await asked(ada, "hello", "q9")
    assert len(await fabric.session("chat").checkpoints.under("langgraph", "").entries("c")) > 2
    assert isinstance(
        (await graph.aget_state({"configurable": {"thread_id": "chat"}})).values["messages"][0], HumanMessage
    )


async def test_what_is_redacted_is_forgotten_once_no_run_waits_and_the_graph_goes_on_from_the_log(
    fabric: Fabric, ada: Session
) -> None:
    """A run that waits for people keeps its state and ends as it should; the one after it knows nothing of it."""
    known: list[list[str]] = []

    async def node(state: MessagesState) -> dict[str, Any]:
        known.append(texts(state["messages"]))
        got = interrupt("Sure?") if len(known) > 1 and known[-1][-1] == "sure" else "nothing"
        return {"messages": [AIMessage(content=f"Got {got}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    checkpointer = JetStreamCheckpointer(fabric, keeps_history=True)
    eve = fabric.view(participant="operator:eve").session("chat")
    async with served(fabric, langgraph(builder.compile(checkpointer=checkpointer))):
        await asked(ada, "4111-1111", "q1")
        run = await say(ada, "sure", "q2")
        waits = await request(ada)
        proof = await eve.redact("q1", reason="A card number.")
        assert (proof.complete, proof.checkpoints_left > 0, proof.waits_for) == (False, True, {"chat": (run,)})
        await ada.answer(waits.request, "yes")
        await ended(ada, run)
        await asked(ada, "and?", "q3")
    assert (await answers(ada))[:2] == ["Got nothing", "Got yes"]
    assert "4111-1111" in known[1]  # it had begun before
    assert known[-1] == ["Got nothing", "sure", "Got yes", "and?"]
    kept = b"".join(value for _, value in await fabric.session("chat").checkpoints.entries())
    assert b"4111-1111" not in kept
    assert b"and?" in kept
