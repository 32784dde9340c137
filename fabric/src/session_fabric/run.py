"""A run: one piece of an agent's work, claimed, streamed, ended; its writer is fenced by the broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Final, Self

import orjson

from session_fabric.ports import Log, Stretch
from session_fabric.rules.batching import WINDOW_S
from session_fabric.rules.routing import authorize, destination
from session_fabric.runlog import RunLog
from session_fabric.words.errors import FabricError, InvalidEvent
from session_fabric.words.events import (
    DELTA_KEYS,
    REASONING_CONTENT,
    RUN_ENDS,
    RUN_ERROR,
    RUN_FINISHED,
    RUN_STARTED,
    TEXT_CONTENT,
    TOOL_ARGS,
)
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.writer import Identity, Parsed, parse_body

# AG-UI's events that begin and end a message; a beginning without a role has this one.
_BEGINNINGS: Final = {"TEXT_MESSAGE_START": "assistant", "REASONING_MESSAGE_START": "reasoning"}
_ENDINGS: Final = frozenset({"TEXT_MESSAGE_END", "REASONING_MESSAGE_END"})
_NAMED_BY: Final = dict.fromkeys((*_BEGINNINGS, *_ENDINGS), "messageId") | {"TOOL_CALL_END": "toolCallId"}


class RunFailed(Exception):
    """Raise inside a run to end it as failed; the message is shown to the session's participants."""


class Run:
    """`async with session.run() as run:` claims a run, streams what is written, ends it.

    Leaving the block completes the open messages and ends the run (`RUN_FINISHED`); an exception ends it with
    `RUN_ERROR` and goes on to the caller. A `cancel` or `interrupt` from any participant cancels the block's
    task at its next await; the block is then left quietly, with `run.cancelled` true and what was written kept.

    Calls keep their order, return when the event is queued, and wait when 64 KiB are queued that the broker has not
    confirmed. Raises `RunExists`, `RunClosed` (on entering), `RunFenced` when another writer has taken the run over,
    `BrokerUnavailable` when the broker was away for over 90 s.
    """

    def __init__(
        self,
        log_: Log,
        identity: Identity,
        to: Stretch,
        id: str | None = None,
        *,
        window_s: float = WINDOW_S,
        parent: str | None = None,
        controls: Callable[[Run], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.id = check_id(new_id("run-") if id is None else id, "run")
        self.cancelled = False
        self.ended: int | None = None  # the sequence of its end, once that is in the log
        self.result: Any = None
        self._identity = identity
        self._parent_run = parent
        self._writes = RunLog(log_, identity, to, self.id, window_s)
        self._leaving = False
        self._stopping = False
        self._cancelling = 0
        self._controls = controls
        self._control: asyncio.Task[None] | None = None
        # Held while a control is being answered, so that a run does not end between the two.
        self.answering = asyncio.Lock()
        self._current: Message | None = None
        # Arguments that are streamed: the call's end carries them whole, since the deltas go.
        self._args: dict[str, list[str]] = {}
        self._group = asyncio.TaskGroup()
        self._author: asyncio.Task[Any] | None = None

    # --- what an author calls ---------------------------------------------------------------------

    @property
    def claim(self) -> Offset:
        """Where the run was claimed: everything that it writes comes after."""
        fence = self._writes.fence
        return Offset(self._writes.to.segment, fence.sequence if fence else 0)

    def message(self, id: str | None = None, *, role: str = "assistant") -> Message:
        """Begin a message: `async with run.message() as message: await message.text("…")`."""
        return Message(self, check_id(new_id("msg-") if id is None else id, "message"), role)

    async def text(self, text: str) -> None:
        """Write text into the current message; the first call begins one."""
        await (await self._implicit()).text(text)

    async def reasoning(self, text: str) -> None:
        """Write what the agent thinks, beside the current message's text."""
        await (await self._implicit()).reasoning(text)

    async def tool(self, name: str, args: Mapping[str, Any], *, id: str | None = None) -> ToolCall:
        """Say that a tool is being called; `await call.result(…)` says what came of it."""
        call = ToolCall(self._writes, check_id(new_id("call-") if id is None else id, "tool call"))
        message = await self._implicit()
        await message._begin()
        start = {"type": "TOOL_CALL_START", "toolCallId": call.id, "toolCallName": name}
        await self._writes.event({**start, "parentMessageId": message.id})
        # Whole arguments are a milestone: there is nothing to stream, and nothing else would keep them.
        args_text = orjson.dumps(args).decode()
        await self._writes.event({"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": args_text})
        await self._writes.event({"type": "TOOL_CALL_END", "toolCallId": call.id})
        return call

    async def emit(self, body: Mapping[str, Any]) -> None:
        """Write any event of AG-UI 1.0, or one of your own (`CUSTOM`, `app.…`).

        Messages that begin, go on and end by AG-UI's events are kept as those of `message` are: their end
        stores the whole text. Raises `InvalidEvent`, `Forbidden`.
        """
        parsed = parse_body(body)
        authorize(parsed.type, self._identity.role)
        if parsed.type in RUN_ENDS or parsed.type == RUN_STARTED:
            raise InvalidEvent(
                f"{parsed.type} is written by the run itself.",
                hint="Leave the block to end the run, or raise RunFailed.",
            )
        key = DELTA_KEYS.get(parsed.type) or _NAMED_BY.get(parsed.type)
        id = check_id(parsed.body.get(key), key) if key is not None else ""
        if parsed.type in DELTA_KEYS:
            await self._emit_delta(parsed, id)
        elif parsed.type in _BEGINNINGS:
            await self._writes.begin(id, str(parsed.body.get("role", _BEGINNINGS[parsed.type])), parsed.body)
        elif parsed.type in _ENDINGS:
            await self._writes.complete(id, parsed.body)
        elif parsed.type == "TOOL_CALL_END" and id in self._args:
            await self._writes.event({**parsed.body, "args": "".join(self._args.pop(id))})
        else:
            await self._writes.event(parsed, *destination(parsed.type, parsed.body, self.id))

    async def _emit_delta(self, parsed: Parsed, id: str) -> None:
        delta = parsed.body.get("delta")
        if not isinstance(delta, str):
            raise InvalidEvent(f"{parsed.type} needs a text `delta`.", hint="Send the piece of text as a string.")
        if parsed.type == TOOL_ARGS:
            self._args.setdefault(id, []).append(delta)
        else:
            await self._writes.begin(id, "reasoning" if parsed.type == REASONING_CONTENT else "assistant")
        await self._writes.delta(parsed.type, id, delta)

    # --- entering and leaving ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        session = self._writes.to.place.session
        body: dict[str, Any] = {"type": RUN_STARTED, "threadId": session, "runId": self.id}
        body |= {"agent": self._identity.participant, "generation": 1}
        if self._parent_run is not None:
            body["parentRunId"] = self._parent_run
        await self._writes.claim(body)
        self._author = asyncio.current_task()
        self._cancelling = self._author.cancelling() if self._author else 0
        await self._group.__aenter__()
        self._group.create_task(self._writes.pump(), name=f"run {self.id}")
        if self._controls is not None:
            self._control = self._group.create_task(self._controls(self), name=f"controls of run {self.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._leaving = True
        stopped = self._stopping and kind is asyncio.CancelledError
        if stopped and self._author is not None:
            # Somebody else may have cancelled the task too: that is not ours to swallow.
            stopped = self._author.uncancel() <= self._cancelling
        if self._control is not None:
            async with self.answering:
                self._control.cancel()
        if not stopped and kind is asyncio.CancelledError:
            return await self._cut_off(error, trace)
        whole = kind is None and not self.cancelled
        try:
            await self._writes.close_messages(whole)
            self._writes.finish()
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            raise _first(group) from error
        except asyncio.CancelledError as cut:
            return await self._cut_off(cut, cut.__traceback__)
        if kind is None or stopped:
            await self._end(self._finished("success" if whole else "cancelled"))
            return stopped
        await self._end(_failure(error))
        return False

    async def _cut_off(self, error: BaseException | None, trace: TracebackType | None) -> bool:
        """The task was cancelled from outside, or by the pump's failure."""
        try:
            await self._group.__aexit__(asyncio.CancelledError, error, trace)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        except asyncio.CancelledError:
            # Two seconds: enough to say that the run ended, short enough for a process that is being stopped.
            with contextlib.suppress(FabricError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._rest()
                    body = {"type": RUN_ERROR, "message": "The agent was stopped.", "code": "agent_stopped"}
                    await self._end(body)
            raise
        return False

    async def _rest(self) -> None:
        """Store what is queued, the author being gone."""
        await self._writes.close_messages(False)
        self._writes.finish()
        await self._writes.pump()

    def _finished(self, outcome: str) -> dict[str, Any]:
        body: dict[str, Any] = {"type": RUN_FINISHED, "threadId": self._writes.to.place.session, "runId": self.id}
        body["outcome"] = {"type": outcome}
        if self.result is not None:
            body["result"] = self.result
        return body

    async def _end(self, body: Mapping[str, Any]) -> None:
        self.ended = await self._writes.end(body)

    def agree_to_stop(self) -> bool:
        """Take note that the run is to stop; False when it is ending already."""
        if self._leaving or self.cancelled or self._author is None:
            return False
        self.cancelled = True
        return True

    def stop(self) -> None:
        """Cancel the author's block, as agreed; what was written is kept."""
        if self._author is not None and not self._leaving:
            self._stopping = True
            self._author.cancel()

    async def _implicit(self) -> Message:
        if self._current is None:
            self._current = self.message()
        return self._current


class Message:
    """A message of a run, written piece by piece. Leaving its block completes it."""

    def __init__(self, run: Run, id: str, role: str) -> None:
        self.id = id
        self.role = role
        self._run = run
        self._begun = False

    async def text(self, text: str) -> None:
        """Write a piece of text behind the earlier ones."""
        await self._begin()
        await self._run._writes.delta(TEXT_CONTENT, self.id, text)

    async def reasoning(self, text: str) -> None:
        """Write what the agent thinks, beside the text."""
        await self._begin()
        await self._run._writes.delta(REASONING_CONTENT, self.id, text)

    async def _begin(self) -> None:
        """Say that the message begins; the first text does so by itself."""
        if not self._begun:
            self._begun = True
            await self._run._writes.begin(self.id, self.role)

    async def __aenter__(self) -> Self:
        self._run._current = self
        await self._begin()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _: object, __: object) -> None:
        if self._run._current is self:
            self._run._current = None
        if kind is None:
            await self._run._writes.complete(self.id)


class ToolCall:
    """A tool call that was announced."""

    def __init__(self, writes: RunLog, id: str) -> None:
        self.id = id
        self._writes = writes

    async def result(self, content: Any) -> None:
        """Say what came of it: text, or anything that is JSON."""
        text = content if isinstance(content, str) else orjson.dumps(content).decode()
        body = {"type": "TOOL_CALL_RESULT", "messageId": f"{self.id}-result", "toolCallId": self.id}
        await self._writes.event({**body, "role": "tool", "content": text})


def _failure(error: BaseException | None) -> dict[str, Any]:
    """Say that a run failed: only what the author means to be read is told, never an exception's own text."""
    shown = str(error) if isinstance(error, RunFailed) else "The agent failed."
    return {"type": RUN_ERROR, "message": shown[:1000], "code": type(error).__name__}


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
