"""LangGraph's graphs as handlers: `fabric.agent()(langgraph(graph))`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final
from uuid import uuid4

import orjson

from session_fabric import AgentRun, Steer
from session_fabric.frameworks.checkpointer import JetStreamCheckpointer
from session_fabric.frameworks.conversation import conversation, parts_of, text_of
from session_fabric.frameworks.extras import extra
from session_fabric.frameworks.langgraph_asks import ask_participants
from session_fabric.frameworks.langgraph_stream import Told
from session_fabric.frameworks.requesting import together
from session_fabric.frameworks.running import count, given_up, working_on
from session_fabric.frameworks.writing import Writing

with extra("langgraph"):
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, ToolMessage
    from langgraph.errors import GraphRecursionError
    from langgraph.graph.message import REMOVE_ALL_MESSAGES
    from langgraph.pregel import Pregel
    from langgraph.types import Command

# In a checkpoint's metadata: the run that has made it.
RUN: Final = "session_fabric_run"
# And how many messages the state had when that began, beside what it was asked: those behind them it has said.
BEFORE: Final = "session_fabric_before"
_STEER: Final = "steer-"
_MODES: Final = ("messages", "updates", "tasks", "custom")

Ask = Callable[[AgentRun, str, Any], Coroutine[Any, Any, Any]]


def langgraph(
    graph: Pregel[Any, Any, Any, Any],
    *,
    input: Callable[[AgentRun, list[BaseMessage]], Any] | None = None,
    ask: Ask = ask_participants,
    state: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    limit: int = 100,
) -> Callable[[AgentRun], Awaitable[None]]:
    """Make a handler of a compiled graph whose state has `messages`, or whose input `input` makes.

    With a checkpointer its thread is the session: it is told what is new, or the whole branch that is shown where it
    knows another one; without one it is told the newest `limit` messages each time. `input(run, messages)` returns the
    graph's input instead of `{"messages": messages}`. Interrupts are asked of participants by `ask(run, request id,
    value)`; an agent that dies meanwhile, or in the middle of a node, is gone on for from the last step. Steers are
    the next turn of the same run. `state`: keys that participants see (`STATE_SNAPSHOT`); `config` goes to the graph.
    Raises in the run what a node raises; `GraphRecursionError` ends it at once.
    """

    async def handler(run: AgentRun) -> None:
        with working_on(run):
            try:
                await _Answer(run, graph, input, ask, tuple(state), config or {}, limit).make()
            except GraphRecursionError as error:
                raise given_up(run, "The agent has taken more steps than it may.", type(error).__name__) from error

    return handler


class _Answer:
    """One run's way through the graph."""

    def __init__(
        self,
        run: AgentRun,
        graph: Pregel[Any, Any, Any, Any],
        input: Callable[[AgentRun, list[BaseMessage]], Any] | None,
        ask: Ask,
        state: tuple[str, ...],
        config: Mapping[str, Any],
        limit: int,
    ) -> None:
        self._run = run
        self._graph = graph
        self._input = input or (lambda _, messages: {"messages": messages})
        self._ask = ask
        self._state = state
        self._limit = limit
        self._writing = Writing(run)
        self._kept = bool(graph.checkpointer)
        self._values: Any = None
        said = {**config.get("configurable", {}), "thread_id": run.session.name}
        self._config: Any = {**config, "configurable": said, "metadata": {**config.get("metadata", {}), RUN: run.id}}

    async def make(self) -> None:
        run = self._run
        steers = run.steers()  # from here on it takes them
        given = await self._begin() if self._kept else self._input(run, await self._conversation())
        while True:
            if given is not None:
                await self._turn(None if given is _GO_ON else given)
            given = await self._answered()
            if given is None and (steers := [*steers, *run.steers()]):
                before = [] if self._kept else _messages(self._values)
                given, steers = self._input(run, [*before, *_steered(steers)]), []
            if given is None:
                break
        checkpointer = self._graph.checkpointer
        if isinstance(checkpointer, JetStreamCheckpointer) and not checkpointer.keeps_history:
            await checkpointer.aprune([run.session.name])

    async def _conversation(self) -> list[BaseMessage]:
        return as_langchain(await conversation(self._run, limit=self._limit))

    async def _begin(self) -> Any:
        """Return what the graph is to be told: what is new, everything, or to go on where it was; None: it is through,
        or waits."""
        run, now = self._run, await self._graph.aget_state(self._config)
        known, about = _messages(now.values), self._config["metadata"]
        made: Mapping[str, Any] = now.metadata or {}
        if made.get(RUN) == run.id:  # another process had the run, or an attempt of it has failed
            about[BEFORE] = made.get(BEFORE, 0)
            if run.takeover is not None and run.takeover.goes_on:
                await run.begin_again(run.generation)
            await self._tell_again(known[about[BEFORE] :])
            return _GO_ON if now.next and not now.interrupts else None
        said = await self._conversation()
        about[BEFORE] = len(said) - 1
        if not now.values:
            return self._input(run, said)
        if known_as(known) == known_as(said[:-1]) and not now.next:
            about[BEFORE] = len(known)
            return self._input(run, said[-1:])
        return self._input(run, [RemoveMessage(id=REMOVE_ALL_MESSAGES), *said])

    async def _tell_again(self, said: Sequence[BaseMessage]) -> None:
        """Say what this run has said before, and which is hidden since it began again."""
        told = Told(())
        for message in said:
            for event in told.message(message):
                await self._writing.write(event)

    async def _turn(self, given: Any) -> None:
        """Run the graph until it ends or interrupts itself, and write what it says."""
        told = Told(self._state)
        modes: Any = [*_MODES, *(["values"] if self._state or not self._kept else [])]
        durability: Any = "sync" if self._kept else None  # without a checkpointer it is refused
        stream: Any = self._graph.astream(
            given, self._config, stream_mode=modes, subgraphs=True, version="v2", durability=durability
        )
        try:
            async with aclosing(stream) as parts:
                async for part in parts:
                    for event in told.part(part):
                        await self._writing.write(event)
            for event in told.end():
                await self._writing.write(event)
            self._values = told.values
        finally:
            count(self._run, told.usage)

    async def _answered(self) -> Any:
        """Return the answers to what the graph waits for; None where it waits for nothing."""
        if not self._kept:
            return None
        waiting = (await self._graph.aget_state(self._config)).interrupts
        if not waiting:
            return None
        # An interrupt's id is the same in every process that finds it.
        asked = {each.id: self._ask(self._run, f"{self._run.id}.{each.id}"[:120], each.value) for each in waiting}
        return Command(resume=await together(asked))


_GO_ON: Final = object()


def known_as(messages: Sequence[BaseMessage]) -> list[tuple[str | None, str]]:
    """Return what users have said in messages, by id: what tells a branch from another."""
    return [
        (message.id, text_of(message.content))
        for message in messages
        if isinstance(message, HumanMessage) and not (message.id or "").startswith(_STEER)
    ]


def _messages(values: Any) -> list[BaseMessage]:
    found = values.get("messages") if isinstance(values, Mapping) else getattr(values, "messages", None)
    return [each for each in found or () if isinstance(each, BaseMessage)]


def _steered(steers: Sequence[Steer]) -> list[BaseMessage]:
    """Return steers as messages; one that is a message of the session has the id that it has there."""
    found: list[BaseMessage] = []
    for steer in steers:
        message = steer.body.get("message")
        id = message.get("id") if isinstance(message, Mapping) else None
        found.append(HumanMessage(content=steer.text, id=id or f"{_STEER}{uuid4().hex}"))
    return found


def as_langchain(messages: Sequence[Mapping[str, Any]]) -> list[BaseMessage]:
    """Return AG-UI's messages as LangChain has them."""
    found: list[BaseMessage] = []
    for message in messages:
        id, content = message.get("id"), message.get("content") or ""
        match message["role"]:
            case "user":
                found.append(HumanMessage(content=_blocks(content), id=id))
            case "tool":
                found.append(ToolMessage(content=content, id=id, tool_call_id=message["toolCallId"]))
            case "assistant":
                calls = [
                    {"id": call["id"], "name": call["function"]["name"], "args": _args(call["function"]["arguments"])}
                    for call in message.get("toolCalls", ())
                ]
                found.append(AIMessage(content=text_of(content), id=id, tool_calls=calls))
    return found


def _blocks(content: Any) -> Any:
    """Return what a user says: text, or LangChain's standard blocks."""
    if isinstance(content, str):
        return content
    blocks: list[dict[str, Any]] = []
    for part in parts_of(content):
        if isinstance(part, str):
            blocks.append({"type": "text", "text": part})
        elif part.url is not None:
            blocks.append({"type": part.kind, "url": part.url})
        else:
            blocks.append({"type": part.kind, "base64": part.data, "mime_type": part.mime})
    return blocks


def _args(text: str) -> Any:
    try:
        args = orjson.loads(text)
    except orjson.JSONDecodeError:
        args = text
    return args if isinstance(args, dict) else {"input": args}
