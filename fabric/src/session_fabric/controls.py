"""What is asked of a run from outside: to stop, to end for a dead agent; and how it hears and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from session_fabric.history import MOST_EVENTS
from session_fabric.parts import Parts
from session_fabric.ports import Guard, Wanted
from session_fabric.records import SessionRecord
from session_fabric.rules.routing import authorize
from session_fabric.run import Run
from session_fabric.words.errors import Conflict, FabricError, InvalidRequest, RunClosed
from session_fabric.words.events import (
    CONTROL_ACCEPTED,
    CONTROL_REJECTED,
    CONTROL_REQUESTED,
    MESSAGE_SNAPSHOT,
    RUN_ENDS,
    RUN_ERROR,
    utf16_length,
)
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Kind
from session_fabric.words.wire import Record
from session_fabric.writer import Appended, parse_body

STOPPING_ACTIONS = frozenset({"cancel", "interrupt"})


async def request(
    parts: Parts, action: str, run: str, body: Mapping[str, Any] | None, deadline_ms: int, id: str | None
) -> Appended:
    """Ask a run to stop; see `Session.control`."""
    if action not in STOPPING_ACTIONS:
        raise InvalidRequest(f"{action!r} is not a control action.", hint="Use cancel or interrupt.", action=action)
    check_id(run, "run")
    record = await parts.open()
    newest = await parts.broker.log.newest(record.stretch, Wanted("own", run))
    if newest is not None and newest.type in RUN_ENDS:
        raise RunClosed(f"Run {run!r} has ended.", run=run)
    event: dict[str, Any] = {"type": CONTROL_REQUESTED, "action": action, "run": run, "body": dict(body or {})}
    event["deadline_ms"] = deadline_ms
    return await parts.writer.append(record.stretch, event, id=new_id() if id is None else id, since=None, own=True)


async def abandon(parts: Parts, run: str) -> bool:
    """End the run of a dead agent; see `Session.abandon`."""
    authorize(RUN_ERROR, parts.identity.role)
    record = await parts.open()
    newest = await parts.broker.log.newest(record.stretch, Wanted("own", check_id(run, "run")))
    if newest is None or newest.type in RUN_ENDS:
        return False
    # The deltas of an ended run are nobody's any more: what they said so far has to be kept first.
    said = [
        m for m in (await parts.history.messages(None, MOST_EVENTS)).messages if m.run == run and m.status == "open"
    ]
    bodies: list[Mapping[str, Any]] = [
        {
            "type": MESSAGE_SNAPSHOT,
            "message": {"id": m.id, "role": m.role, "content": m.content, "reasoning": m.reasoning},
            "at": utf16_length(m.content),
            "began": str(m.first),
        }
        for m in said
        if isinstance(m.content, str)
    ]
    bodies.append({"type": RUN_ERROR, "message": "The agent was lost.", "code": "agent_lost"})
    guard = Guard("own", run, newest.sequence)
    try:
        for body in bodies:
            kind: Kind = "own" if body["type"] == RUN_ERROR else "ev"
            draft = parts.writer.draft(parse_body(body), kind, run, new_id(), run)
            await parts.broker.log.publish(record.stretch, draft, guard=guard)
    except Conflict:
        return False  # it ended just now, or somebody else has it
    return True


class OpenRun:
    """What `session.run()` returns: enter it to claim the run."""

    def __init__(self, parts: Parts, id: str | None, window_s: float, parent: str | None) -> None:
        self._parts = parts
        self._id = id
        self._window_s = window_s
        self._parent = parent
        self._run: Run | None = None
        self._record: SessionRecord | None = None

    async def __aenter__(self) -> Run:
        parts = self._parts
        self._record = await parts.open()
        self._run = Run(
            parts.broker.log,
            parts.identity,
            self._record.stretch,
            self._id,
            window_s=self._window_s,
            parent=self._parent,
            controls=self._controls,
        )
        return await self._run.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> bool:
        assert self._run is not None
        assert self._record is not None
        try:
            return await self._run.__aexit__(kind, error, trace)
        finally:
            # Without its end in the log it may be somebody else's by now, and its deltas are all there is of it.
            if self._run.ended is not None:
                self._parts.common.ended(self._record, self._run.id, self._run.ended)

    async def _controls(self, run: Run) -> None:
        """Hear what participants ask of the run, in the session's order, and answer each once."""
        requests: asyncio.Queue[Record] = asyncio.Queue(100)  # more at once are refused by not being answered
        follower = self._parts.follower(_Controls(requests), after=run.claim, kind="ev")
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follower.run())
            try:
                while True:
                    record = await requests.get()
                    body = record.event().body
                    if body.get("run") != run.id:
                        continue
                    async with run.answering:
                        await self._answer(run, record, body)
            finally:
                following.cancel()

    async def _answer(self, run: Run, asked: Record, body: Mapping[str, Any]) -> None:
        action, request = str(body.get("action")), asked.id
        deadline_ms = body.get("deadline_ms")
        reason = ""
        if action not in STOPPING_ACTIONS:
            reason = "unsupported"
        elif isinstance(deadline_ms, int) and time.time_ns() // 1_000_000 > asked.ts + deadline_ms:
            reason = "deadline passed"
        elif not run.agree_to_stop():
            reason = "the run is ending"
        answer = {"type": CONTROL_REJECTED if reason else CONTROL_ACCEPTED, "request": request, "action": action}
        answer |= {"run": run.id} | ({"reason": reason} if reason else {})
        # Answered by id, so that a request that is read twice is answered once.
        await self._parts.persist(lambda: self._store(answer, f"{request[:100]}.answer"))
        if not reason:
            run.stop()

    async def _store(self, answer: Mapping[str, Any], id: str) -> None:
        record = await self._parts.open()
        await self._parts.writer.append(record.stretch, answer, id=id, since=None, own=True)


class _Controls:
    """A sink that keeps control requests alone."""

    def __init__(self, requests: asyncio.Queue[Record]) -> None:
        self._requests = requests
        self._seen: set[int] = set()

    def records(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if record.type == CONTROL_REQUESTED and record.sequence not in self._seen and not self._requests.full():
                self._seen.add(record.sequence)
                self._requests.put_nowait(record)

    def rewind(self, to: Offset) -> None:
        """Seen requests are known by their sequence."""

    def mark(self, offset: Offset) -> None: ...
    def live(self) -> None: ...
    def connected(self, connected: bool) -> None: ...
    def ended(self, error: FabricError) -> None: ...
