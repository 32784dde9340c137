"""A run: one piece of an agent's work, claimed, streamed, ended; its writer is fenced by the broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel

from session_fabric.authoring import Authoring, Message
from session_fabric.open_message import Recovered
from session_fabric.ports import Log, Stretch
from session_fabric.rules.batching import WINDOW_S
from session_fabric.steps import Step, Steps
from session_fabric.words.arguments import check_json
from session_fabric.words.errors import FabricError, InvalidEvent, InvalidInput, RunClosed
from session_fabric.words.events import (
    RUN_ERROR,
    RUN_FINISHED,
    RUN_ORPHANED,
    RUN_STARTED,
    RUN_TAKEN_OVER,
)
from session_fabric.words.parsing import read_json
from session_fabric.writer import Identity


class Takeover(NamedTuple):
    """How to go on with a run whose agent is gone: over its newest event, at sequence `after`.

    `goes_on`: its open message is written on; else what it said is hidden, and it begins anew.
    """

    after: int
    generation: int
    goes_on: bool


CutOff = Literal["failed", "orphaned", "handoff"]
End = Literal["success", "cancelled", "failed"]


class RunFailed(Exception):
    """Raise inside a run, or in a task of a `TaskGroup` there, to end it as failed; the message is shown to the
    session's participants."""


class Run(Authoring):
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
        super().__init__(log_, identity, to, id, window_s)
        self.cancelled = False
        self.ended: int | None = None  # the sequence of its end, once that is in the log
        self.end: End | None = None  # and what it said
        self.takeover = takeover
        self.failure: Mapping[str, Any] = {}  # what a failing end says beside its message
        self._usage = b"[]"
        self.orphaned = False  # left for others to go on with
        # What a run that is cut off says: that it failed, that others may go on with it, or that it was handed over.
        self.when_cut_off: CutOff = "orphaned" if for_others else "failed"
        self._claim_body = claim
        self._recover = recover
        self._stopping = False
        self._forced = False
        self._cancelling = 0
        self._controls = controls
        self._control: asyncio.Task[None] | None = None
        # Held while a control is being answered, so that a run does not end between the two.
        self.answering = asyncio.Lock()
        self._group = asyncio.TaskGroup()
        self._steps = Steps(self._writes, self._turn_to, lambda message: message.id)
        self._author: asyncio.Task[Any] | None = None

    @property
    def usage(self) -> Sequence[Mapping[str, Any]]:
        """What its models have used: AG-UI's TokenUsage, one for each provider and model. Its end says it, as it was
        when it was set."""
        entries: list[dict[str, Any]] = read_json(self._usage)
        return entries

    @usage.setter
    def usage(self, entries: Iterable[Mapping[str, Any] | BaseModel] | None) -> None:
        try:
            plain = [_plain(entry) for entry in entries or ()]
        except (TypeError, ValueError) as error:
            raise InvalidEvent(
                f"usage is {entries!r:.60}.", hint="Use a list of objects, one for each model."
            ) from error
        self._usage = check_json(plain, "The run's usage")

    def step(self, name: str) -> Step[Message]:
        """`async with run.step("search") as step:` says that a step begins and ends; `step.attempt` counts from 1.

        What `run.text` writes within is a message of its own. A step that was left by an exception, a cancellation too
        (`asyncio.timeout`), has failed: made again under its name it is the next attempt, and the messages that the
        failed ones had begun are hidden. Steps that go on side by side write with `run.message()`. Raises
        `InvalidRequest` for a name that is none.
        """
        return self._steps.step(name)

    def _turn_to(self, message: Message | None) -> Message | None:
        before, self._current = self._current, message
        return before

    # --- entering and leaving ---------------------------------------------------------------------

    async def take_hold(self) -> None:
        """Write the claim. Made again after `BrokerUnavailable` it is the same claim, stored or not by then."""
        if self.takeover is None:
            body = {"type": RUN_STARTED, "threadId": self._writes.to.place.session, "runId": self.id, "generation": 1}
            await self._writes.claim({**body, "agent": self._identity.participant, **self._claim_body})
        else:
            await self._writes.take_over({"type": RUN_TAKEN_OVER, **self._whose()}, self.takeover.after)

    async def __aenter__(self) -> Self:
        if self._writes.fence is None:
            await self.take_hold()
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
            said = [m for m in messages if m.role != "reasoning"]
            still_open = [m for m in said if m.open]
            if still_open:
                self._current = Message(self, still_open[-1].id, still_open[-1].role, begun=True)
            elif said:
                self._said_before = said[-1].text

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return await self._leave(kind, error, trace)
        finally:
            self._writes.leave()

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._leaving = True
        stopped = self._stopping and kind is asyncio.CancelledError
        if stopped and self._author is not None:
            # Somebody else may have cancelled the task too: that is not ours to swallow.
            stopped = self._author.uncancel() <= self._cancelling
        self._left.set()
        self._steered.set()
        if self._control is not None:
            try:
                async with self.answering:
                    self._control.cancel()
            except asyncio.CancelledError as cut:
                return await self._cut_off(cut, cut.__traceback__)
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
        unsaid: InvalidInput | None = None
        try:
            try:
                await self._writes.close_messages(whole)
            except InvalidInput as lost:
                unsaid = lost
                self._writes.let_go()
            self._writes.finish()
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            raise _first(group) from error
        except asyncio.CancelledError as cut:
            return await self._cut_off(cut, cut.__traceback__)
        if kind is None or stopped:
            if unsaid is not None:
                await self._end({**_failure(unsaid), **self._used()})
                raise unsaid
            await self._end(self._finished("success" if whole else "cancelled"))
            return stopped
        await self._end({**_failure(error), **self._used(), **self.failure})
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
                    await self._say_cut_off()
            raise
        return False

    async def _say_cut_off(self) -> None:
        match self.when_cut_off:
            case "orphaned":
                await self._writes.end({"type": RUN_ORPHANED, **self._whose(), "reason": "stopped"})
                self.orphaned = True
            case "handoff":
                await self._end({**self._finished("cancelled"), "reason": "handoff"})
            case "failed":
                body = {"type": RUN_ERROR, "message": "The agent was stopped.", "code": "agent_stopped"}
                await self._end(body | self._used())

    async def _rest(self) -> None:
        """Store what is queued, the author being gone."""
        await self._writes.close_messages(False)
        self._writes.finish()
        await self._writes.pump()

    def _finished(self, outcome: str) -> dict[str, Any]:
        body: dict[str, Any] = {"type": RUN_FINISHED, "threadId": self._writes.to.place.session, "runId": self.id}
        body["outcome"] = {"type": outcome}
        if self.result is not None:
            body["result"] = read_json(self._said_result)
        return body | self._used()

    def _used(self) -> dict[str, Any]:
        return {"usage": usage} if (usage := self.usage) else {}

    async def _end(self, body: Mapping[str, Any]) -> None:
        self.ended = await self._writes.end(body)
        outcome = body.get("outcome")
        self.end = outcome["type"] if isinstance(outcome, dict) else "failed"

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
    def first_text_after_s(self) -> float | None:
        """How long after its claim its first text was stored; None as long as there is none."""
        return self._writes.first_text_after_s

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


def meant(error: BaseException | None) -> RunFailed | None:
    """Return what an author means to be read, by itself or among what tasks of his have raised together."""
    if isinstance(error, BaseExceptionGroup):
        told = error.subgroup(RunFailed)
        error = None if told is None else _first(told)
    return error if isinstance(error, RunFailed) else None


def _failure(error: BaseException | None) -> dict[str, Any]:
    """Say that a run failed: only what the author means to be read is told, never an exception's own text."""
    told = meant(error)
    shown = "The agent failed." if told is None else str(told)
    shown = shown[:1000].encode("utf-8", "replace").decode()
    return {"type": RUN_ERROR, "message": shown, "code": type(told or error).__name__}


def _plain(entry: Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    return entry.model_dump(by_alias=True, exclude_none=True) if isinstance(entry, BaseModel) else dict(entry)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
