"""Agents of the OpenAI Agents SDK as handlers: `fabric.agent()(openai_agents(agent))`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from hashlib import sha256
from typing import Any, Final

import orjson

from session_fabric import AgentRun, Steer
from session_fabric.frameworks.conversation import conversation, parts_of, text_of
from session_fabric.frameworks.extras import extra
from session_fabric.frameworks.openai_agents_stream import Told, plain
from session_fabric.frameworks.requesting import approve_call, together
from session_fabric.frameworks.running import count, given_up, working_on
from session_fabric.frameworks.writing import Writing

with extra("openai-agents"):
    from agents import Agent, Runner, RunResultStreaming, RunState, ToolApprovalItem
    from agents.exceptions import (
        InputGuardrailTripwireTriggered,
        MaxTurnsExceeded,
        ModelRefusalError,
        OutputGuardrailTripwireTriggered,
        UserError,
    )

# What is the same however often it is tried.
HOPELESS: Final = (
    MaxTurnsExceeded,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    ModelRefusalError,
    UserError,
)
_KEPT: Final = "openai-agents"
_ID: Final = re.compile(r"[A-Za-z0-9_:.~@=-]{1,80}")


def openai_agents(
    agent: Agent[Any],
    *,
    context: Callable[[AgentRun], Any] | None = None,
    approval: Callable[[AgentRun, ToolApprovalItem], Mapping[str, Any]] | None = None,
    limit: int = 100,
    **options: Any,
) -> Callable[[AgentRun], Awaitable[None]]:
    """Make a handler of an agent of the OpenAI Agents SDK.

    It is told the conversation so far (the newest `limit` messages of the branch that is shown). `context` makes the
    context object for a run; `options` are those of `Runner.run_streamed` (`max_turns`, `run_config`, `hooks` …).
    Participants are asked for tools with `needs_approval`; `approval` may say how: `title`, `text`, `to`, `deadline_s`.
    While it waits its `RunState` is kept with the session: when an agent dies, another goes on from there. A steer lets
    the turn end, and is the input of the next one. Agents that work, after hand-offs, are steps. An output that is no
    text is the run's `result`. Raises in the run what the SDK raises; what trying again cannot help (`HOPELESS`) ends
    it at once.
    """

    async def handler(run: AgentRun) -> None:
        with working_on(run):
            try:
                await _Answer(run, agent, context, approval, limit, options).make()
            except HOPELESS as error:
                limit_reached = isinstance(error, MaxTurnsExceeded)
                sentence = "The agent has taken more turns than it may." if limit_reached else "The agent failed."
                raise given_up(run, sentence, type(error).__name__) from error

    return handler


class _Answer:
    """One run of the agent, with what it waits for."""

    def __init__(
        self,
        run: AgentRun,
        agent: Agent[Any],
        context: Callable[[AgentRun], Any] | None,
        approval: Callable[[AgentRun, ToolApprovalItem], Mapping[str, Any]] | None,
        limit: int,
        options: Mapping[str, Any],
    ) -> None:
        self._run = run
        self._agent = agent
        self._context = None if context is None else context(run)
        self._how = approval or (lambda _, __: {})
        self._limit = limit
        self._options = options
        self._writing = Writing(run)
        self._told = Told()
        self._steers: list[Steer] = []
        self._kept = run.session.checkpoints

    async def make(self) -> None:
        agent, given = self._agent, await self._begin()
        while True:
            if isinstance(given, RunState):
                await self._decide(given)
            result = await self._turn(agent, given)
            if result.interruptions:
                given = result.to_state()
                await self._keep(given)
            elif self._steers:
                given = [*result.to_input_list(), *(_said("user", steer.text) for steer in self._steers)]
                agent, self._steers = result.last_agent, []
            else:
                break
        await self._kept.remove([self._name])
        if not isinstance(result.final_output, str):
            self._run.result = plain(result.final_output)

    async def _begin(self) -> Any:
        """Return what the agent is told: the conversation; or where another process, or attempt, has waited."""
        run = self._run
        stored = await self._kept.get(*self._name) if run.resumed or run.attempt > 1 else None
        if stored is None:
            return as_input(await conversation(run, limit=self._limit))
        kept = orjson.loads(stored)
        if run.takeover is not None and run.takeover.goes_on:
            await run.begin_again(run.generation)
        count(run, kept["usage"])
        self._told.said = kept["said"]
        for body in kept["said"]:
            await self._writing.write(body)
        return await RunState.from_string(self._agent, kept["state"], context_override=self._context)

    @property
    def _name(self) -> tuple[str, str]:
        return _KEPT, self._run.id

    async def _keep(self, state: RunState[Any]) -> None:
        kept = {"state": state.to_string(), "said": self._told.said, "usage": self._run.usage}
        await self._kept.put({self._name: orjson.dumps(kept)})

    async def _turn(self, agent: Agent[Any], given: Any) -> RunResultStreaming:
        """Let the agent work until it has answered or waits, and write what it says."""
        told = self._told
        result = Runner.run_streamed(agent, given, context=self._context, **self._options)
        try:
            async with aclosing(result.stream_events()) as events:  # type: ignore[type-var]
                async for event in events:
                    for body in told.event(event):
                        await self._writing.write(body)
                    self._steer(result)
            for body in told.end():
                await self._writing.write(body)
        finally:
            count(self._run, told.usage)
            told.usage = []
            if not result.is_complete:
                await _stop(result)
        self._steer(result)
        return result

    def _steer(self, result: RunResultStreaming) -> None:
        """Have the turn be the last one where something was added."""
        self._steers += self._run.steers()
        if self._steers and not result.is_complete:
            result.cancel(mode="after_turn")

    async def _decide(self, state: RunState[Any]) -> None:
        """Ask participants for all that waits for approval, at once; each under the same id in every process."""
        run, items = self._run, {self._request(item): item for item in state.get_interruptions()}
        asked = {
            id: approve_call(run, str(item.name), item.arguments, {**self._how(run, item), "id": id})
            for id, item in items.items()
        }
        for id, approval in (await together(asked)).items():
            if approval.approved:
                state.approve(items[id])
            else:
                state.reject(items[id], rejection_message=approval.comment or "The tool call was denied.")

    def _request(self, item: ToolApprovalItem) -> str:
        call = str(item.call_id)
        return f"{self._run.id}.{call if _ID.fullmatch(call) else sha256(call.encode()).hexdigest()[:32]}"


async def _stop(result: RunResultStreaming) -> None:
    """Cancel what the SDK does in tasks of its own, and wait until it has left."""
    result.cancel()
    if result.run_loop_task is not None:
        await asyncio.gather(result.run_loop_task, return_exceptions=True)


def as_input(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return AG-UI's messages as input items of the Responses API."""
    found: list[dict[str, Any]] = []
    for message in messages:
        content = text_of(message.get("content"))
        if message["role"] == "tool":
            found.append({"type": "function_call_output", "call_id": message["toolCallId"], "output": content})
        elif message["role"] == "user":
            found.append(_said("user", _items(message.get("content"))))
        elif content:
            found.append(_said("assistant", content))
        for call in message.get("toolCalls", ()):
            function = call["function"]
            about = {"call_id": call["id"], "name": function["name"], "arguments": function["arguments"]}
            found.append({"type": "function_call", **about})
    return found


def _said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def _items(content: Any) -> Any:
    """Return what a user says: text, or the items of the Responses API."""
    if not isinstance(content, list):
        return text_of(content)
    items: list[dict[str, Any]] = []
    for part in parts_of(content):
        if isinstance(part, str):
            items.append({"type": "input_text", "text": part})
        elif part.kind == "image":
            items.append({"type": "input_image", "image_url": part.url or f"data:{part.mime};base64,{part.data}"})
        elif part.url is not None:
            items.append({"type": "input_file", "file_url": part.url})
        else:
            items.append({"type": "input_file", "file_data": f"data:{part.mime};base64,{part.data}"})
    return items
