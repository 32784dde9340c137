"""A run: one piece of an agent's work, claimed, streamed, ended; its writer is fenced by the broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Protocol, Self

import orjson

from session_fabric.ports import Log, Stretch
from session_fabric.rules.batching import WINDOW_S
from session_fabric.rules.requests import Answer, Approval
from session_fabric.rules.routing import authorize, destination
from session_fabric.runlog import Recovered, RunLog
from session_fabric.words.errors import FabricError, InvalidEvent, RunClosed
from session_fabric.words.events import (
    DELTA_KEYS,
    REASONING_CONTENT,
    RUN_ENDS,
    RUN_ERROR,
    RUN_FINISHED,
    RUN_ORPHANED,
    RUN_RESUMED,
    RUN_STARTED,
    RUN_SUSPENDED,
    RUN_TAKEN_OVER,
    STEP_STARTED,
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


Status = Literal["thinking", "tool", "waiting", "idle"]
# More at a time are rejected.
MOST_STEERS: Final = 100


class Steer(NamedTuple):
    """What somebody adds to a run that works. `private`: a supervisor's whisper, which users do not see."""

    text: str
    body: Mapping[str, Any]
    actor: str
    private: bool = False


class Takeover(NamedTuple):
    """How to go on with a run whose agent is gone: over its newest event, at sequence `after`.

    `goes_on`: its open message is written on; else what it said is hidden, and it begins anew.
    """

    after: int
    generation: int
    goes_on: bool


class Asker(Protocol):
    """Asks participants in a run's name, and waits for what they answer."""

    async def client_tool(
        self, name: str, args: Mapping[str, Any], *, to: Any, deadline_s: float | None, id: str | None
    ) -> Any: ...
    async def ask(
        self,
        title: str,
        *,
        text: str | None,
        options: Sequence[Any] | None,
        schema: Mapping[str, Any] | None,
        to: Any,
        deadline_s: float | None,
        default: Any,
        id: str | None,
    ) -> Answer: ...
    async def approve(
        self, title: str, *, text: str | None, to: Any, deadline_s: float | None, default: bool | None, id: str | None
    ) -> Approval: ...
    def begin_again(self) -> None:
        """The handler is run again: what it asks then it has asked already."""

    async def close(self) -> None:
        """Close what nobody has answered, the run having ended."""


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
        claim: Mapping[str, Any],
        takeover: Takeover | None = None,
        recover: Callable[[int], Awaitable[list[Recovered]]] | None = None,
        controls: Callable[[Run], Coroutine[Any, Any, None]] | None = None,
        for_others: bool = False,
    ) -> None:
        self.id = check_id(new_id("run-") if id is None else id, "run")
        self.cancelled = False
        self.ended: int | None = None  # the sequence of its end, once that is in the log
        self.result: Any = None
        self.takeover = takeover
        self.steerable = False
        self.failure: Mapping[str, Any] = {}  # what a failing end says beside its message
        self.orphaned = False  # left for others to go on with
        self._for_others = for_others
        self.asker: Asker | None = None
        self.on_status: Callable[[Status], None] | None = None
        self._identity = identity
        self._claim_body = claim
        self._recover = recover
        self._writes = RunLog(log_, identity, to, self.id, window_s)
        self._leaving = False
        self._stopping = False
        self._forced = False
        self._cancelling = 0
        self._controls = controls
        self._control: asyncio.Task[None] | None = None
        # Held while a control is being answered, so that a run does not end between the two.
        self.answering = asyncio.Lock()
        self._left = asyncio.Event()
        self._steers: asyncio.Queue[Steer] = asyncio.Queue(MOST_STEERS)
        self._suspended: list[str] = []
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

    @property
    def session_name(self) -> str:
        return self._writes.to.place.session

    @property
    def identity(self) -> Identity:
        """In whose name the run writes."""
        return self._identity

    @property
    def said(self) -> str:
        """The text so far of the message that is being written; after a takeover, what to go on from."""
        return "" if self._current is None else self._writes.text_of(self._current.id)

    async def steering(self) -> AsyncGenerator[Steer, None]:
        """Yield what participants add while the run works (`steer`), and supervisors' whispers, as they come.

        From the first call on the run accepts `steer`; one that never asks rejects it. Ends with the run.
        """
        self.steerable = True
        while not self._leaving:
            waiting = asyncio.ensure_future(self._steers.get())
            leaving = asyncio.ensure_future(self._left.wait())
            try:
                await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    return
                yield waiting.result()
            finally:
                waiting.cancel()
                leaving.cancel()

    def steers(self) -> list[Steer]:
        """Take what has been added since the last look; like `steering`, it makes the run accept `steer`."""
        self.steerable = True
        return [self._steers.get_nowait() for _ in range(self._steers.qsize())]

    async def suspend(self, request: str) -> None:
        """Say that the run waits for the answer to a request; what it said so far is kept in a snapshot."""
        self._suspended.append(request)
        self._tell("waiting")
        if len(self._suspended) == 1:
            await self._writes.move({"type": RUN_SUSPENDED, "request": request, **self._whose()})

    async def resume(self, request: str) -> None:
        """Say that the run goes on; of several requests at a time, when the last one is answered."""
        self._suspended.remove(request)
        if not self._suspended:
            self._tell("thinking")
            await self._writes.move({"type": RUN_RESUMED, "request": request, **self._whose()})

    async def begin_again(self, attempt: int) -> None:
        """Begin anew within the run: the messages so far are hidden from now on (`supersedes`)."""
        await self._writes.close_messages(False)
        self._current = None
        self._args.clear()
        if self.asker is not None:
            self.asker.begin_again()
        gone, self._writes.begun = self._writes.begun, []
        body = {"type": STEP_STARTED, "stepName": "attempt", "attempt": attempt, "supersedes": gone}
        await self._writes.event(body)

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
        message = await self._implicit()
        await message._begin()
        start = {"type": "TOOL_CALL_START", "toolCallId": call.id, "toolCallName": name}
        await self._writes.event({**start, "parentMessageId": message.id})
        # Whole arguments are a milestone: there is nothing to stream, and nothing else would keep them.
        args_text = orjson.dumps(args).decode()
        await self._writes.event({"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": args_text})
        await self._writes.event({"type": "TOOL_CALL_END", "toolCallId": call.id})
        self._tell("tool")
        return call

    async def client_tool(
        self,
        name: str,
        args: Mapping[str, Any],
        *,
        to: Any = None,
        deadline_s: float | None = None,
        id: str | None = None,
    ) -> Any:
        """Have a participant's device call one of its tools (read a selection, fill in a form); return the result.

        `to`: None (anybody), a participant, `"role:operator"`, or `{"participant":…,"device":…}`. The run is suspended
        meanwhile, and goes on from here with whoever takes it over: what was asked is not asked again (its `id` is
        `<run>.tool.<n>` where none is given). Raises `ToolFailed` with the client's `error`, `RequestExpired` when
        nobody answers within `deadline_s` (None: for as long as the run lasts).
        """
        return await self._asks().client_tool(name, args, to=to, deadline_s=deadline_s, id=id)

    async def ask(
        self,
        title: str,
        *,
        text: str | None = None,
        options: Sequence[Any] | None = None,
        schema: Mapping[str, Any] | None = None,
        to: Any = None,
        deadline_s: float | None = None,
        default: Any = None,
        id: str | None = None,
    ) -> Answer:
        """Ask for text, for one of `options` (texts, or objects with an `id`), or for what fits a JSON `schema`.

        The first good answer counts. At the deadline the `default` does, or `RequestExpired` is raised where there is
        none. `to`, `id` and waiting are as in `client_tool`.
        """
        asks = self._asks()
        return await asks.ask(
            title, text=text, options=options, schema=schema, to=to, deadline_s=deadline_s, default=default, id=id
        )

    async def approve(
        self,
        title: str,
        *,
        text: str | None = None,
        to: Any = None,
        deadline_s: float | None = None,
        default: bool | None = None,
        id: str | None = None,
    ) -> Approval:
        """Ask whether something may be done. At the deadline the `default` counts, or `RequestExpired` is raised."""
        return await self._asks().approve(title, text=text, to=to, deadline_s=deadline_s, default=default, id=id)

    def _asks(self) -> Asker:
        if self.asker is None:
            raise RunClosed(f"Run {self.id!r} cannot ask.", hint="Open it with session.run().", run=self.id)
        return self.asker

    async def stored(self) -> None:
        """Wait until everything that was written so far is stored."""
        await self._writes.stored()

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
        if self.takeover is None:
            body = {"type": RUN_STARTED, "threadId": session, "runId": self.id, "generation": 1}
            await self._writes.claim({**body, "agent": self._identity.participant, **self._claim_body})
        else:
            await self._writes.take_over({"type": RUN_TAKEN_OVER, **self._whose()}, self.takeover.after)
        self._author = asyncio.current_task()
        self._cancelling = self._author.cancelling() if self._author else 0
        await self._group.__aenter__()
        self._group.create_task(self._writes.pump(), name=f"run {self.id}")
        if self._controls is not None:
            self._control = self._group.create_task(self._controls(self), name=f"controls of run {self.id}")
        self._tell("thinking")
        if self.takeover is not None:
            try:
                await self._go_on(self.takeover)
            except BaseException as error:
                await self.__aexit__(type(error), error, error.__traceback__)
                raise
        return self

    async def _go_on(self, takeover: Takeover) -> None:
        """Read back what the run has said under its writers before, and go on from there, or begin anew."""
        assert self._recover is not None
        messages = await self._recover(self.claim.sequence)
        await self._writes.restore(messages)
        if not takeover.goes_on:
            await self.begin_again(takeover.generation)
        else:
            still_open = [m for m in messages if m.open and m.role != "reasoning"]
            if still_open:
                self._current = Message(self, still_open[-1].id, still_open[-1].role, begun=True)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._leaving = True
        stopped = self._stopping and kind is asyncio.CancelledError
        if stopped and self._author is not None:
            # Somebody else may have cancelled the task too: that is not ours to swallow.
            stopped = self._author.uncancel() <= self._cancelling
        self._left.set()
        if self._control is not None:
            async with self.answering:
                self._control.cancel()
        self._tell("idle")
        if self._forced:
            if self._stopping and kind is not asyncio.CancelledError and self._author is not None:
                self._author.uncancel()  # he had swallowed it
            with contextlib.suppress(asyncio.CancelledError):
                await self._group.__aexit__(None, None, None)
            return stopped or isinstance(error, RunClosed)
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
        await self._end({**_failure(error), **self.failure})
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
                    if self._for_others:
                        await self._writes.end({"type": RUN_ORPHANED, **self._whose(), "reason": "stopped"})
                        self.orphaned = True
                    else:
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

    def _whose(self) -> dict[str, Any]:
        """Return what each event of its life says, so that the newest alone tells all."""
        who = {"run": self.id, "agent": self._identity.participant, "generation": self.generation}
        return who | {"holder": self._claim_body.get("holder")}

    @property
    def generation(self) -> int:
        """1, and one more with each process that has taken the run over."""
        return 1 if self.takeover is None else self.takeover.generation

    @property
    def leaving(self) -> bool:
        return self._leaving or self._author is None

    def disagree(self) -> None:
        """Take back that the run is to stop: the request had expired."""
        self.cancelled = False

    def stop(self) -> None:
        """Cancel the author's block, as agreed; what was written is kept."""
        if self._author is not None and not self._leaving:
            self._stopping = True
            self._author.cancel()

    def steer(self, steer: Steer) -> bool:
        """Hand something to the author; False when he does not take it."""
        if not self.steerable or self._leaving or self._steers.full():
            return False
        self._steers.put_nowait(steer)
        return True

    async def left(self, within_s: float) -> bool:
        """Wait until the author has left the block; False when he has not in this time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._left.wait()
        return self._left.is_set()

    async def force_end(self, overdue: Mapping[str, Any]) -> None:
        """End the run in the log over the head of an author who does not leave; what he writes then is refused."""
        async with self.answering:
            if self._leaving:
                return
            self._forced = True
            await self._writes.event(overdue)
            await self._writes.close_messages(False)
            self._writes.finish()
            await self._writes.stored()
            await self._end(self._finished("cancelled"))

    def _tell(self, status: Status) -> None:
        if self.on_status is not None:
            self.on_status(status)

    async def _implicit(self) -> Message:
        if self._current is None:
            self._current = self.message()
        return self._current


class Message:
    """A message of a run, written piece by piece. Leaving its block completes it."""

    def __init__(self, run: Run, id: str, role: str, *, begun: bool = False) -> None:
        self.id = id
        self.role = role
        self._run = run
        self._begun = begun

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

    def __init__(self, run: Run, id: str) -> None:
        self.id = id
        self._run = run

    async def result(self, content: Any) -> None:
        """Say what came of it: text, or anything that is JSON."""
        text = content if isinstance(content, str) else orjson.dumps(content).decode()
        body = {"type": "TOOL_CALL_RESULT", "messageId": f"{self.id}-result", "toolCallId": self.id}
        self._run._tell("thinking")
        await self._run._writes.event({**body, "role": "tool", "content": text})


def _failure(error: BaseException | None) -> dict[str, Any]:
    """Say that a run failed: only what the author means to be read is told, never an exception's own text."""
    shown = str(error) if isinstance(error, RunFailed) else "The agent failed."
    return {"type": RUN_ERROR, "message": shown[:1000], "code": type(error).__name__}


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
