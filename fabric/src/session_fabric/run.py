"""A run: one piece of an agent's work, claimed, streamed, ended; its writer is fenced by the broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import orjson

from session_fabric.history import SNAPSHOT_FROM
from session_fabric.ports import Guard, Log, Stretch, Wanted
from session_fabric.rules.batching import WINDOW_S, Batcher, Delta, Milestone, Snapshots
from session_fabric.rules.routing import authorize, destination
from session_fabric.words.errors import (
    BrokerUnavailable,
    Conflict,
    FabricError,
    InvalidEvent,
    RunClosed,
    RunExists,
    RunFenced,
    SessionGone,
)
from session_fabric.words.events import (
    DELTA_KEYS,
    MESSAGE_COMPLETED,
    MESSAGE_SNAPSHOT,
    REASONING_CONTENT,
    RUN_ENDS,
    RUN_ERROR,
    RUN_FINISHED,
    RUN_STARTED,
    TEXT_CONTENT,
    DeltaRef,
    Draft,
)
from session_fabric.words.logs import log
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import NO_NAME, Kind
from session_fabric.writer import Identity, Parsed, parse_body

# Deltas are replaced by what completes them; those of a run that never ends go by themselves.
DELTA_TTL_S: Final = 3600
# Within the broker's dedupe window of 120 s a retry with the same id is known for one.
GIVE_UP_S: Final = 90.0
_TRY_S: Final = 5.0


class RunFailed(Exception):
    """Raise inside a run to end it as failed; the message is shown to the session's participants."""


@dataclass
class _Item:
    """An event between the author and the log."""

    body: Parsed
    kind: Kind
    name: str
    snapshot: bool = False
    last_snapshot: bool = False
    starts: str | None = None  # the message that begins here
    covers: str | None = None  # the message whose text this holds


@dataclass
class _Open:
    """A message that is being written."""

    id: str
    role: str
    text: Snapshots = field(default_factory=Snapshots)
    reasoning: Snapshots = field(default_factory=Snapshots)
    started: bool = False

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"id": self.id, "role": self.role, "content": self.text.text}
        if self.reasoning.length:
            message["reasoning"] = self.reasoning.text
        return message


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
        self._log = log_
        self._identity = identity
        self._to = to
        self._parent_run = parent
        self._nonce = new_id()[:12]
        self._count = 0
        self._batcher: Batcher[_Item] = Batcher(window_s=window_s)
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._ending = False
        self._leaving = False
        self._stopping = False
        self._cancelling = 0
        self._flying: Draft | None = None
        self._starting: str | None = None
        self._began: dict[str, Offset] = {}
        self._controls = controls
        self._control: asyncio.Task[None] | None = None
        # Held while a control is being answered, so that a run does not end between the two.
        self.answering = asyncio.Lock()
        self._open: dict[str, _Open] = {}
        self._current: Message | None = None
        self._fence: Guard | None = None
        self._acked = 0
        self._snapshot_from = 0
        self._group = asyncio.TaskGroup()
        self._author: asyncio.Task[Any] | None = None

    # --- what an author calls ---------------------------------------------------------------------

    @property
    def claim(self) -> Offset:
        """Where the run was claimed: everything that it writes comes after."""
        return Offset(self._to.segment, self._fence.sequence if self._fence else 0)

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
        call = ToolCall(self, check_id(new_id("call-") if id is None else id, "tool call"))
        parent = {"parentMessageId": self._current.id} if self._current else {}
        await self._event({"type": "TOOL_CALL_START", "toolCallId": call.id, "toolCallName": name, **parent})
        # Whole arguments are a milestone: there is nothing to stream, and nothing else would keep them.
        args_text = orjson.dumps(args).decode()
        await self._event({"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": args_text})
        await self._event({"type": "TOOL_CALL_END", "toolCallId": call.id})
        return call

    async def emit(self, body: Mapping[str, Any]) -> None:
        """Write any event of AG-UI 1.0, or one of your own (`CUSTOM`, `app.…`)."""
        parsed = parse_body(body)
        authorize(parsed.type, self._identity.role)
        if parsed.type in RUN_ENDS or parsed.type == RUN_STARTED:
            raise InvalidEvent(
                f"{parsed.type} is written by the run itself.",
                hint="Leave the block to end the run, or raise RunFailed.",
            )
        key = DELTA_KEYS.get(parsed.type)
        if key is not None:
            message, delta = parsed.body.get(key), parsed.body.get("delta")
            if not isinstance(delta, str):
                raise InvalidEvent(f"{parsed.type} needs a text `delta`.", hint="Send the piece of text as a string.")
            await self._delta(parsed.type, check_id(message, key), delta)
            return
        kind, name = destination(parsed.type, parsed.body, self.id)
        await self._put(_Item(parsed, kind, name))

    # --- entering and leaving ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        body: dict[str, Any] = {"type": RUN_STARTED, "threadId": self._to.place.session, "runId": self.id}
        body |= {"agent": self._identity.participant, "generation": 1}
        if self._parent_run is not None:
            body["parentRunId"] = self._parent_run
        draft = self._draft(parse_body(body), "own", self.id, f"{self._nonce}.claim")
        try:
            ack = await self._log.publish(self._to, draft, guard=Guard("own", self.id, 0))
        except Conflict as conflict:
            raise await self._why_fenced(RunExists) from conflict
        self._fence = Guard("own", self.id, ack.sequence)
        self._author = asyncio.current_task()
        self._cancelling = self._author.cancelling() if self._author else 0
        await self._group.__aenter__()
        self._group.create_task(self._pump(), name=f"run {self.id}")
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
            await self._close_messages(whole)
            self._ending = True
            self._more.set()
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
        await self._close_messages(False)
        self._ending = True
        await self._pump()

    def _finished(self, outcome: str) -> dict[str, Any]:
        body: dict[str, Any] = {"type": RUN_FINISHED, "threadId": self._to.place.session, "runId": self.id}
        body["outcome"] = {"type": outcome}
        if self.result is not None:
            body["result"] = self.result
        return body

    async def _end(self, body: Mapping[str, Any]) -> None:
        """Write the run's end over its claim: what anybody writes under the claim from now on is refused."""
        draft = self._draft(parse_body(body), "own", self.id, f"{self._nonce}.end")
        self.ended = await self._store(draft)

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

    # --- the way of an event ----------------------------------------------------------------------

    async def _implicit(self) -> Message:
        if self._current is None:
            self._current = self.message()
        return self._current

    async def _delta(self, type: str, message: str, text: str) -> None:
        if not text:
            return
        while self._batcher.full:
            self._room.clear()
            await self._room.wait()
        stored = self._batcher.add_text(type, message, text)
        open_ = self._open.get(message)
        if open_ is not None:
            part = open_.reasoning if type == REASONING_CONTENT else open_.text
            if part.add(stored):
                self._snapshot_all()
        self._more.set()

    async def _event(self, body: Mapping[str, Any]) -> None:
        await self._put(_Item(parse_body(body), "ev", NO_NAME))

    async def _put(self, item: _Item) -> None:
        while self._batcher.full:
            self._room.clear()
            await self._room.wait()
        self._batcher.add(item, len(item.body.raw))
        self._more.set()

    def _snapshot_all(self) -> None:
        """Queue a snapshot of every open message, so that no delta before the last of them is needed any more."""
        texts = [m for m in self._open.values() if m.text.length or m.reasoning.length]
        for message in texts:
            message.text.taken()
            message.reasoning.taken()
            body = {"type": MESSAGE_SNAPSHOT, "message": message.message(), "at": message.text.length}
            last = message is texts[-1]
            item = _Item(parse_body(body), "ev", self.id, snapshot=True, last_snapshot=last, covers=message.id)
            self._batcher.add(item, len(item.body.raw))

    async def _close_messages(self, whole: bool) -> None:
        if not whole:
            self._snapshot_all()
            self._open.clear()
            self._more.set()
            return
        for message in list(self._open.values()):
            await self._complete(message)

    async def _begin(self, message: _Open) -> None:
        self._open[message.id] = message
        body = {"type": "TEXT_MESSAGE_START", "messageId": message.id, "role": message.role}
        await self._put(_Item(parse_body(body), "tok", self.id, starts=message.id))

    async def _complete(self, message: _Open) -> None:
        self._open.pop(message.id, None)
        for type, part in ((TEXT_CONTENT, message.text), (REASONING_CONTENT, message.reasoning)):
            part.add(self._batcher.end_text(type, message.id))
        await self._put(_Item(parse_body({"type": "TEXT_MESSAGE_END", "messageId": message.id}), "tok", self.id))
        body = parse_body({"type": MESSAGE_COMPLETED, "message": message.message()})
        await self._put(_Item(body, "ev", NO_NAME, covers=message.id))

    async def _pump(self) -> None:
        """Publish one thing at a time; what is written meanwhile gathers and leaves together."""
        clock = asyncio.get_running_loop().time
        while True:
            now = clock()
            if self._flying is None:
                item = self._batcher.next(now)
                self._flying = None if item is None else self._draft_of(item)
            if self._flying is not None:
                await self._store(self._flying)
                self._flying = None
                self._batcher.done()
                self._room.set()
                continue
            if self._ending and self._batcher.idle:
                return
            self._more.clear()
            deadline = self._batcher.deadline(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if deadline is None else max(0.0, deadline - now)):
                    await self._more.wait()

    def _draft_of(self, item: Delta | Milestone[_Item]) -> Draft:
        self._count += 1
        id = f"{self._nonce}.{self._count}"
        if isinstance(item, Delta):
            who = self._identity
            return Draft(
                item.type,
                orjson.dumps(item.text),
                id,
                "tok",
                self.id,
                who.participant,
                who.writer,
                self.id,
                DeltaRef(item.message, item.at),
            )
        it = item.item
        self._starting = it.starts
        body = it.body
        if it.covers in self._began:
            # The message's beginning goes with the deltas: late joiners know its place by this.
            body = body._replace(raw=body.raw[:-1] + f',"began":"{self._began[it.covers]}"}}'.encode())
        headers = {}
        if it.snapshot:
            if it.last_snapshot:
                self._snapshot_from = self._acked + 1
            headers[SNAPSHOT_FROM] = str(self._snapshot_from)
        return self._draft(body, it.kind, it.name, id, headers)

    def _draft(self, body: Parsed, kind: Kind, name: str, id: str, headers: Mapping[str, str] | None = None) -> Draft:
        who = self._identity
        return Draft(
            body.type, body.raw, id, kind, name, who.participant, who.writer, self.id, None, None, headers or {}
        )

    async def _store(self, draft: Draft) -> int:
        """Publish under the claim, with the same id for as long as the broker may be away; return the sequence."""
        ttl_s = DELTA_TTL_S if draft.kind == "tok" else None
        give_up = asyncio.get_running_loop().time() + GIVE_UP_S
        while True:
            try:
                ack = await self._log.publish(self._to, draft, guard=self._fence, timeout_s=_TRY_S, ttl_s=ttl_s)
            except Conflict as conflict:
                raise await self._why_fenced(RunFenced) from conflict
            except BrokerUnavailable:
                if asyncio.get_running_loop().time() > give_up:
                    raise
                log.warning("run_waits_for_broker", run=self.id)
                continue
            if draft.kind == "tok":
                self._acked = ack.sequence
            if self._starting is not None:
                self._began[self._starting] = Offset(self._to.segment, ack.sequence)
                self._starting = None
            return ack.sequence

    async def _why_fenced(self, otherwise: type[RunFenced | RunExists]) -> FabricError:
        newest = await self._log.newest(self._to, Wanted("own", self.id))
        if newest is None:
            return SessionGone(f"Session {self._to.place.session!r} was deleted.", session=self._to.place.session)
        if newest.type in RUN_ENDS:
            return RunClosed(f"Run {self.id!r} has ended.", hint="Begin a new run.", run=self.id)
        return otherwise(f"Run {self.id!r} is {newest.actor}'s.", hint="Begin a run of another id.", run=self.id)


class Message:
    """A message of a run, written piece by piece. Leaving its block completes it."""

    def __init__(self, run: Run, id: str, role: str) -> None:
        self.id = id
        self._run = run
        self._open = _Open(id, role)

    async def text(self, text: str) -> None:
        """Write a piece of text behind the earlier ones."""
        await self._started()
        await self._run._delta(TEXT_CONTENT, self.id, text)

    async def reasoning(self, text: str) -> None:
        await self._started()
        await self._run._delta(REASONING_CONTENT, self.id, text)

    async def _started(self) -> None:
        if not self._open.started:
            self._open.started = True
            await self._run._begin(self._open)

    async def __aenter__(self) -> Self:
        self._run._current = self
        await self._started()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _: object, __: object) -> None:
        if self._run._current is self:
            self._run._current = None
        if kind is None:
            await self._run._complete(self._open)


class ToolCall:
    """A tool call that was announced."""

    def __init__(self, run: Run, id: str) -> None:
        self.id = id
        self._run = run

    async def result(self, content: Any) -> None:
        """Say what came of it: text, or anything that is JSON."""
        text = content if isinstance(content, str) else orjson.dumps(content).decode()
        body = {"type": "TOOL_CALL_RESULT", "messageId": f"{self.id}-result", "toolCallId": self.id}
        await self._run._event({**body, "role": "tool", "content": text})


def _failure(error: BaseException | None) -> dict[str, Any]:
    """Say that a run failed: only what the author means to be read is told, never an exception's own text."""
    shown = str(error) if isinstance(error, RunFailed) else "The agent failed."
    return {"type": RUN_ERROR, "message": shown[:1000], "code": type(error).__name__}


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
