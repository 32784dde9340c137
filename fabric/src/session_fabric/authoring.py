"""What an author writes in a run: messages piece by piece, tools, questions; and what he hears meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from session_fabric.asker import Asker
from session_fabric.ports import Log, Stretch
from session_fabric.rules.presence import Status
from session_fabric.rules.requests import Answer, Approval
from session_fabric.rules.routing import authorize, destination
from session_fabric.runlog import RunLog
from session_fabric.tracing import PASSED_ON, Attributes, Traces
from session_fabric.words.arguments import check_json, check_mapping, check_text, check_whole
from session_fabric.words.errors import InvalidEvent, InvalidRequest, RunClosed
from session_fabric.words.events import (
    DELTA_KEYS,
    REASONING_CONTENT,
    RUN_ENDS,
    RUN_RESUMED,
    RUN_STARTED,
    RUN_SUSPENDED,
    STEP_STARTED,
    TEXT_CONTENT,
    TOOL_ARGS,
)
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.writer import Identity, Parsed, check_size, parse_body

# AG-UI's events that begin and end a message; a beginning without a role has this one.
_BEGINNINGS: Final = {"TEXT_MESSAGE_START": "assistant", "REASONING_MESSAGE_START": "reasoning"}
_ENDINGS: Final = frozenset({"TEXT_MESSAGE_END", "REASONING_MESSAGE_END"})
_NAMED_BY: Final = dict.fromkeys((*_BEGINNINGS, *_ENDINGS), "messageId") | {"TOOL_CALL_END": "toolCallId"}


# More at a time are rejected.
MOST_STEERS: Final = 100


class Steer(NamedTuple):
    """What somebody adds to a run that works. `whispered`: users do not see it, and should not hear it quoted."""

    text: str
    body: Mapping[str, Any]
    actor: str
    whispered: bool = False


class Authoring:
    """The half of a `Run` that its author calls."""

    def __init__(self, log_: Log, identity: Identity, to: Stretch, id: str | None, window_s: float) -> None:
        self.id = check_id(new_id("run-") if id is None else id, "run")
        self._result: Any = None
        self._said_result = b"null"  # as it was when it was set: what is changed later could not be told any more
        self.steerable = False
        self.asker: Asker | None = None
        self.traces: Traces = PASSED_ON
        self.on_status: Callable[[Status], None] | None = None
        self._identity = identity
        self._writes = RunLog(log_, identity, to, self.id, window_s)
        self._leaving = False
        self._left = asyncio.Event()
        self._steers: asyncio.Queue[Steer] = asyncio.Queue(MOST_STEERS)
        self._steered = asyncio.Event()  # or left
        self._suspended: list[str] = []
        self._current: Message | None = None
        self._said_before = ""  # by a process that was lost behind the end of its last message
        # Arguments that are streamed: the call's end carries them whole, since the deltas go.
        self._args: dict[str, list[str]] = {}

    @property
    def claim(self) -> Offset:
        """Where the run was claimed: everything that it writes comes after."""
        fence = self._writes.fence
        return Offset(self._writes.to.segment, fence.sequence if fence else 0)

    @property
    def result(self) -> Any:
        """What `RUN_FINISHED` carries as `result`. What is no JSON is refused when it is set (`InvalidEvent`)."""
        return self._result

    @result.setter
    def result(self, value: Any) -> None:
        said = check_json(value, "The run's result")
        check_size(said, "result")
        self._result, self._said_result = value, said

    @property
    def session_name(self) -> str:
        return self._writes.to.place.session

    @property
    def identity(self) -> Identity:
        """In whose name the run writes."""
        return self._identity

    @property
    def said(self) -> str:
        """The text so far of the message that is being written; after a takeover, what to go on from: where the
        process before was lost behind the end of its last message, all of that, until another one begins."""
        return self._said_before if self._current is None else self._writes.text_of(self._current.id)

    async def steering(self) -> AsyncGenerator[Steer, None]:
        """Yield what participants add while the run works (`steer`), as they come.

        From the first call on the run accepts `steer`; one that never asks rejects it. What operators and supervisors
        whisper comes here too. Ends with the run.
        """
        self.steerable = True
        while not self._leaving:
            if self._steers.empty():
                self._steered.clear()
                await self._steered.wait()
            else:  # taken as it is handed over: who is cancelled while he waits has taken nothing
                yield self._steers.get_nowait()

    def steers(self) -> list[Steer]:
        """Take what has been added since the last look; like `steering`, it makes the run accept `steer`."""
        self.steerable = True
        return [self._steers.get_nowait() for _ in range(self._steers.qsize())]

    async def suspend(self, request: str) -> None:
        """Say that the run waits for the answer to a request; what it said so far is kept in a snapshot."""
        self._suspended.append(check_id(request, "request"))
        try:
            if len(self._suspended) == 1:
                await self._writes.move({"type": RUN_SUSPENDED, "request": request, **self._whose()})
        except BaseException:
            self._suspended.remove(request)
            raise
        self._tell("waiting")

    async def resume(self, request: str) -> None:
        """Say that the run goes on; of several requests at a time, when the last one is answered."""
        if request not in self._suspended:
            raise InvalidRequest(f"The run does not wait for {request!r:.60}.", hint="Suspend it first.")
        self._suspended.remove(request)
        if not self._suspended:
            self._tell("thinking")
            await self._writes.move({"type": RUN_RESUMED, "request": request, **self._whose()})

    async def begin_again(self, attempt: int) -> None:
        """Begin anew within the run: the messages so far are hidden from now on (`supersedes`)."""
        check_whole(attempt, "attempt", 1, 1_000_000)
        await self._writes.close_messages(False)
        self._current, self._said_before = None, ""
        self._args.clear()
        if self.asker is not None:
            self.asker.begin_again()
        gone = list(self._writes.begun)
        await self._writes.event({"type": STEP_STARTED, "stepName": "attempt", "attempt": attempt, "supersedes": gone})
        del self._writes.begun[: len(gone)]

    def message(self, id: str | None = None, *, role: str = "assistant") -> Message:
        """Begin a message: `async with run.message() as message: await message.text("…")`."""
        return Message(self, check_id(new_id("msg-") if id is None else id, "message"), check_text(role, "role"))

    async def text(self, text: str) -> None:
        """Write text into the current message; the first call begins one."""
        await (await self._implicit()).text(text)

    async def reasoning(self, text: str) -> None:
        """Write what the agent thinks, beside the current message's text."""
        await (await self._implicit()).reasoning(text)

    async def tool(self, name: str, args: Mapping[str, Any], *, id: str | None = None) -> ToolCall:
        """Say that a tool is being called; `await call.result(…)` says what came of it."""
        check_text(name, "The tool's name")
        # Whole arguments are a milestone: there is nothing to stream, and nothing else would keep them.
        args_text = check_json(check_mapping(args, "args"), f"What tool {name!r:.40} is called with").decode()
        call = ToolCall(self, check_id(new_id("call-") if id is None else id, "tool call"))
        message = await self._implicit()
        await message._begin()
        start = {"type": "TOOL_CALL_START", "toolCallId": call.id, "toolCallName": name}
        await self._writes.events(
            {**start, "parentMessageId": message.id},
            {"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": args_text},
            {"type": "TOOL_CALL_END", "toolCallId": call.id},
        )
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
        call: str | None = None,
    ) -> Any:
        """Have a participant's device call one of its tools (read a selection, fill in a form); return the result.

        `to`: None (anybody), a participant, `"role:operator"`, or `{"participant":…,"device":…}`. The run is suspended
        meanwhile, and goes on from here with whoever takes it over: what was asked is not asked again (its `id` is
        `<run>.tool.<n>` where none is given). `call`: the id of a tool call that the run has announced itself
        (`TOOL_CALL_START`); without it one is announced here. Raises `ToolFailed` with the client's `error`,
        `RequestExpired` when nobody answers within `deadline_s` (None: for as long as the run lasts).
        """
        asks = self._asks()
        with self.traces.span(f"execute_tool {name}", "client", tool_attributes(name)):
            return await asks.client_tool(name, args, to=to, deadline_s=deadline_s, id=id, call=call)

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
        if self._leaving:
            raise RunClosed(f"Run {self.id!r} has ended.", hint="Ask inside its block.", run=self.id)
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
            role = check_text(parsed.body.get("role", _BEGINNINGS[parsed.type]), "role")
            await self._writes.begin(id, role, parsed.body)
        elif parsed.type in _ENDINGS:
            await self._writes.complete(id, parsed.body)
        elif parsed.type == "TOOL_CALL_END" and id in self._args:
            await self._writes.event({**parsed.body, "args": "".join(self._args[id])})
            self._args.pop(id, None)
        else:
            await self._writes.event(parsed, *destination(parsed.type, parsed.body, self.id))

    async def _emit_delta(self, parsed: Parsed, id: str) -> None:
        delta = parsed.body.get("delta")
        if not isinstance(delta, str):
            raise InvalidEvent(f"{parsed.type} needs a text `delta`.", hint="Send the piece of text as a string.")
        if parsed.type != TOOL_ARGS:
            await self._writes.begin(id, "reasoning" if parsed.type == REASONING_CONTENT else "assistant")
        await self._writes.delta(parsed.type, id, delta)
        if parsed.type == TOOL_ARGS:
            self._args.setdefault(id, []).append(delta)

    def _whose(self) -> dict[str, Any]:
        """Return what each event of the run's life says, so that the newest alone tells all."""
        raise NotImplementedError

    def steer(self, steer: Steer) -> bool:
        """Hand something to the author; False when he does not take it. What is whispered waits for him to ask."""
        if not (self.steerable or steer.whispered) or self._leaving or self._steers.full():
            return False
        self._steers.put_nowait(steer)
        self._steered.set()
        return True

    def withdraw(self, steer: Steer) -> None:
        """Take back what was handed to the author and expired in that moment, unless he has taken it."""
        for waiting in self.steers():
            if waiting is not steer:
                self._steers.put_nowait(waiting)

    def _tell(self, status: Status) -> None:
        if self.on_status is not None:
            self.on_status(status)

    async def _implicit(self) -> Message:
        if self._current is None:
            self._current, self._said_before = self.message(), ""
        return self._current


class Message:
    """A message of a run, written piece by piece. Leaving its block completes it."""

    def __init__(self, run: Authoring, id: str, role: str, *, begun: bool = False) -> None:
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
            await self._run._writes.begin(self.id, self.role)
            self._begun = True

    async def __aenter__(self) -> Self:
        await self._begin()
        self._run._current, self._run._said_before = self, ""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _: object, __: object) -> None:
        if self._run._current is self:
            self._run._current = None
        if kind is None:
            await self._run._writes.complete(self.id)


class ToolCall:
    """A tool call that was announced."""

    def __init__(self, run: Authoring, id: str) -> None:
        self.id = id
        self._run = run

    async def result(self, content: Any) -> None:
        """Say what came of it: text, or anything that is JSON."""
        text = content if isinstance(content, str) else check_json(content, "The tool's result").decode()
        body = {"type": "TOOL_CALL_RESULT", "messageId": f"{self.id}-result", "toolCallId": self.id}
        self._run._tell("thinking")
        await self._run._writes.event({**body, "role": "tool", "content": text})


def tool_attributes(name: str) -> Attributes:
    """Name a tool as OpenTelemetry does."""
    return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
