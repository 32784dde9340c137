"""Pydantic AI's agents as handlers: `fabric.agent()(pydantic_ai(agent))`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from session_fabric import AgentRun
from session_fabric.frameworks.conversation import conversation
from session_fabric.frameworks.extras import extra
from session_fabric.frameworks.requesting import approve_call, call_client, together
from session_fabric.frameworks.running import count, given_up, usage_entry, working_on
from session_fabric.frameworks.writing import Writing
from session_fabric.words import errors

with extra("pydantic-ai"):
    from ag_ui.core import RunAgentInput, RunErrorEvent
    from pydantic import TypeAdapter
    from pydantic_ai import (
        AgentRunResult,
        AgentRunResultEvent,
        DeferredToolRequests,
        DeferredToolResults,
        ToolApproved,
        ToolDenied,
    )
    from pydantic_ai.agent import AbstractAgent, Agent
    from pydantic_ai.agent import AgentRun as FrameworkRun
    from pydantic_ai.exceptions import (
        ContentFilterError,
        ModelRequestRejectedError,
        ToolFailed,
        UsageLimitExceeded,
        UserError,
    )
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.ui.ag_ui import AGUIAdapter, AGUIEventStream

# What is the same however often it is tried.
HOPELESS: Final = (UsageLimitExceeded, ContentFilterError, ModelRequestRejectedError, UserError)
_JSON: Final[TypeAdapter[Any]] = TypeAdapter(Any)


def pydantic_ai(
    agent: AbstractAgent[Any, Any],
    *,
    deps: Callable[[AgentRun], Any] | None = None,
    limit: int = 100,
    **options: Any,
) -> Callable[[AgentRun], Awaitable[None]]:
    """Make a handler of a Pydantic AI agent.

    It is told the conversation so far (the newest `limit` messages of the branch that is shown). `deps` makes its
    dependencies for a run; `options` are those of `Agent.iter` (`model_settings`, `usage_limits`, `toolsets`, …).
    A steer goes into its next request. Tool calls that it defers, `DeferredToolRequests` being one of its output
    types, become approvals and calls of participants' tools; `metadata` of the deferral may say `to`, `title`, `text`,
    `deadline_s` and `id`. An output that is no text is the run's `result`. Raises in the run what the agent raises;
    what trying again cannot help (`HOPELESS`) ends it at once. Cancelled: the model's request is, too.
    """

    async def handler(run: AgentRun) -> None:
        with working_on(run):
            await _answer(run, agent, None if deps is None else deps(run), limit, options)

    return handler


async def _answer(
    run: AgentRun, agent: AbstractAgent[Any, Any], deps: Any, limit: int, options: Mapping[str, Any]
) -> None:
    said = await conversation(run, limit=limit)
    asked = RunAgentInput.model_validate(
        {"threadId": run.session_name, "runId": run.id, "messages": said, "protocolVersion": "1.0"}
        | {"state": None, "tools": [], "context": [], "forwardedProps": None}
    )
    history: Sequence[ModelMessage] = AGUIAdapter.load_messages(asked.messages)
    results: DeferredToolResults | None = None
    writing = Writing(run)
    try:
        while True:
            turn = _Turn(run, agent, asked)
            given = {"message_history": history, "deferred_tool_results": results, "deps": deps, **options}
            result = await turn.take(writing, given)
            if not isinstance(result.output, DeferredToolRequests):
                break
            history, results = result.all_messages(), await _results(run, result.output)
    except HOPELESS as error:
        used_up = isinstance(error, UsageLimitExceeded)
        sentence = "The agent has reached a limit of what it may use." if used_up else "The agent failed."
        code = next(each.__name__ for each in type(error).__mro__ if not each.__name__.startswith("_"))
        raise given_up(run, sentence, code) from error
    if not isinstance(result.output, str):
        run.result = _JSON.dump_python(result.output, mode="json", fallback=str)


class _Turn:
    """One run of the agent: until it has answered, or waits for what it has deferred."""

    def __init__(self, run: AgentRun, agent: AbstractAgent[Any, Any], asked: RunAgentInput) -> None:
        self._run = run
        self._agent = agent
        self._stream: AGUIEventStream[Any, Any] = AGUIEventStream(asked)
        self._failed: BaseException | None = None
        self._result: AgentRunResult[Any] | None = None

    async def take(self, writing: Writing, given: Mapping[str, Any]) -> AgentRunResult[Any]:
        """Run it and write what it says. Raises what it raises."""
        async with aclosing(self._events(given)) as native:
            async for event in self._stream.transform_stream(native):
                if isinstance(event, RunErrorEvent) and self._failed is not None:
                    raise self._failed  # of which the event has the sentence alone
                await writing.write(event)
        assert self._result is not None
        return self._result

    async def _events(self, given: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        async with self._agent.iter(**given) as going:
            try:
                async for event in self._native(going):
                    self._steer(going)
                    yield event
                assert going.result is not None
                self._result = going.result
                yield AgentRunResultEvent(going.result)
            except Exception as error:
                self._failed = error
                raise
            finally:
                count(self._run, map(_usage_of, _responses(going.new_messages())))

    async def _native(self, going: FrameworkRun[Any, Any]) -> AsyncGenerator[Any, None]:
        async for node in going:
            if Agent.is_model_request_node(node) or Agent.is_call_tools_node(node):
                self._steer(going)
                async with node.stream(going.ctx) as events:
                    async for event in events:
                        yield event

    def _steer(self, going: FrameworkRun[Any, Any]) -> None:
        """Have what was added meanwhile go into the next request; instead of the end, where that would be next."""
        for steer in self._run.steers():
            with contextlib.suppress(UserError):  # it has ended this moment
                going.enqueue(steer.text)


def _responses(messages: Sequence[ModelMessage]) -> list[ModelResponse]:
    return [message for message in messages if isinstance(message, ModelResponse)]


def _usage_of(response: ModelResponse) -> dict[str, Any]:
    used = response.usage
    return usage_entry(
        response.provider_name,
        response.model_name,
        used.input_tokens,
        used.output_tokens,
        cached=used.cache_read_tokens,
        cache_written=used.cache_write_tokens,
        reasoning=used.output_reasoning_tokens,
    )


async def _results(run: AgentRun, asked: DeferredToolRequests) -> DeferredToolResults:
    """Ask participants for what was deferred: all approvals at once, then all calls."""
    how = asked.metadata
    approvals = await together(
        {c.tool_call_id: approve_call(run, c.tool_name, c.args, how.get(c.tool_call_id, {})) for c in asked.approvals}
    )
    results = await together(
        {
            c.tool_call_id: _call(run, c.tool_name, c.args, c.tool_call_id, how.get(c.tool_call_id, {}))
            for c in asked.calls
        }
    )
    decided: dict[str, bool | ToolApproved | ToolDenied] = {
        id: True if approval.approved else ToolDenied(approval.comment or "The tool call was denied.")
        for id, approval in approvals.items()
    }
    return DeferredToolResults(approvals=decided, calls=results)


async def _call(run: AgentRun, tool: str, args: Any, id: str, how: Mapping[str, Any]) -> Any:
    try:
        return await call_client(run, tool, args, id, how)
    except errors.ToolFailed as failed:
        return ToolFailed(failed.error)
    except errors.RequestExpired as expired:
        if expired.facts.get("reason") != "deadline":
            raise
        return ToolFailed("Nobody has answered in time.")
