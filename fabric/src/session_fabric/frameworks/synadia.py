"""Agents that speak the Synadia Agent Protocol for NATS (0.3) in durable sessions: `fabric.agent()(synadia_agent(…))`.

The agent stays the service that it is; this is its caller. What a caller cannot do there, a session cannot either: the
protocol has no cancel (who drops the stream is not heard of), no steer and no usage.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from hashlib import sha256
from typing import Any, Final

from session_fabric import AgentRun
from session_fabric.frameworks.conversation import conversation
from session_fabric.frameworks.extras import extra
from session_fabric.frameworks.requesting import first_error
from session_fabric.frameworks.running import given_up, working_on
from session_fabric.words.errors import RequestExpired

with extra("synadia"):
    from synadia_ai.agents import (
        Agent,
        AgentNotFound,
        Agents,
        DiscoverFilter,
        Envelope,
        ProtocolError,
        Query,
        ResponseChunk,
        StreamMessage,
        StreamStalledError,
        ValidationError,
    )

# What the protocol recommends to callers: so long without a message, and the stream is lost.
INACTIVITY_S: Final = 60.0
# Beside it, an end to everything: queries wait for people.
MOST_S: Final = 24 * 3600.0
_PING_S: Final = 1.0
_SERVICE_ERROR: Final = re.compile(r"service error (\d+)")
# Codes of errors that are the same however often the prompt is sent.
_HOPELESS: Final = ("400", "401", "403", "404")
_ID: Final = re.compile(r"[A-Za-z0-9_:.~@=-]{1,80}")

Prompt = Callable[[AgentRun, list[dict[str, Any]]], str | Envelope]


def synadia_agent(
    agents: Agents,
    agent: str,
    *,
    owner: str | None = None,
    session: str | Callable[[AgentRun], str] | None = None,
    prompt: Prompt | None = None,
    query_deadline_s: float | None = None,
    inactivity_s: float = INACTIVITY_S,
    max_wait_s: float = MOST_S,
) -> Callable[[AgentRun], Awaitable[None]]:
    """Make a handler that prompts an agent of the protocol, and writes what it streams into the run.

    The agent is found by discovery: its harness `agent`, and its `owner` and `session` where they are said. It is told
    the question, or what `prompt(run, messages)` makes of the conversation (AG-UI's messages). Its queries are
    questions to participants; what nobody answers within `query_deadline_s` is left unanswered. Raises in the run
    `AgentNotFound`, `StreamStalledError` after `inactivity_s` without a message (while no query is open),
    `ProtocolError`; errors 400, 401, 403 and 404 (their code: `synadia_400` …) and what cannot be sent end it at once.
    Cancelled: the stream is dropped.
    """
    found: dict[str | None, Agent] = {}

    async def handler(run: AgentRun) -> None:
        name = session(run) if callable(session) else session
        wanted = DiscoverFilter(agent=agent, owner=owner, session_name=name)
        with working_on(run):
            if name not in found or not await agents.ping(found[name].instance_id, timeout=_PING_S):
                found[name] = await _discover(agents, wanted)
            text = run.input.text if prompt is None else prompt(run, await conversation(run))
            try:
                with first_error():
                    await _Prompting(run, found[name], query_deadline_s, inactivity_s).send(text, max_wait_s)
            except ValidationError as error:
                raise given_up(run, "The agent does not take this message.", type(error).__name__) from error
            except ProtocolError as error:
                code = _SERVICE_ERROR.match(str(error))
                if code is None or code[1] not in _HOPELESS:
                    raise
                raise given_up(run, "The agent has refused the message.", f"synadia_{code[1]}") from error

    return handler


async def _discover(agents: Agents, wanted: DiscoverFilter) -> Agent:
    """Return the agent of these names; of several, the first by owner and session."""
    found: Sequence[Agent] = await agents.discover(filter=wanted)
    if not found:
        names = " ".join(f"{key}={value}" for key, value in asdict(wanted).items() if value is not None)
        raise AgentNotFound(f"no agent answers to {names}")
    return min(found, key=lambda each: (each.owner, each.session_name, each.instance_id))


class _Prompting:
    """One prompt, its stream, and the queries that are open in it."""

    def __init__(self, run: AgentRun, agent: Agent, query_deadline_s: float | None, inactivity_s: float) -> None:
        self._run = run
        self._agent = agent
        self._deadline_s = query_deadline_s
        self._inactivity_s = inactivity_s
        self._open: set[asyncio.Task[None]] = set()
        self._silence: asyncio.Timeout | None = None

    async def send(self, text: str | Envelope, max_wait_s: float) -> None:
        """Prompt the agent, and write what it says until its stream ends; queries that are open then are closed."""
        # The SDK's own inactivity timer would run while people think.
        stream: Any = self._agent.prompt(text, timeout=max_wait_s, max_wait_s=max_wait_s)
        async with asyncio.TaskGroup() as group, aclosing(stream) as messages:
            try:
                while (message := await self._next(messages)) is not None:
                    await self._take(message, group)
            finally:
                for task in self._open:
                    task.cancel()

    async def _next(self, messages: Any) -> StreamMessage | None:
        """Return the next message, None at the end. Raises `StreamStalledError`."""
        try:
            async with asyncio.timeout(None if self._open else self._inactivity_s) as self._silence:
                return await anext(messages, None)
        except TimeoutError as error:
            raise StreamStalledError(self._inactivity_s) from error
        finally:
            self._silence = None

    async def _take(self, message: StreamMessage, group: asyncio.TaskGroup) -> None:
        if isinstance(message, ResponseChunk):
            await self._run.text(message.text)
            for attachment in message.attachments or ():
                value = {"filename": attachment.filename, "content": attachment.content}
                await self._run.emit({"type": "CUSTOM", "name": "attachment", "value": value})
        elif isinstance(message, Query):
            task = group.create_task(self._ask(message), name=f"query {message.id}")
            self._open.add(task)
            task.add_done_callback(self._answered)

    async def _ask(self, query: Query) -> None:
        id = query.id if _ID.fullmatch(query.id) else sha256(query.id.encode()).hexdigest()[:32]
        try:
            answer = await self._run.ask(query.prompt, deadline_s=self._deadline_s, id=f"{self._run.id}.{id}")
        except RequestExpired:
            return  # the agent has a time-out of its own, and goes on by it
        await query.reply(str(answer.body))

    def _answered(self, task: asyncio.Task[None]) -> None:
        """From the last answer on the agent is to be heard again."""
        self._open.discard(task)
        if self._silence is not None and not self._open:
            self._silence.reschedule(asyncio.get_running_loop().time() + self._inactivity_s)
