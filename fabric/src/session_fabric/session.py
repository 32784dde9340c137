"""A session, as a participant uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal

from session_fabric import controls, following, lifecycle
from session_fabric.controls import OpenRun
from session_fabric.follow import Follower, FollowSink
from session_fabric.history import Messages, Page
from session_fabric.parts import Common, Parts
from session_fabric.ports import Listening
from session_fabric.records import SessionRecord
from session_fabric.rules import segments
from session_fabric.rules.batching import WINDOW_S
from session_fabric.words.events import Deltas, Event
from session_fabric.words.positions import After, Offset
from session_fabric.words.wire import Record
from session_fabric.writer import Appended, Identity


class Session:
    """One session of a tenant, in the name of one participant. Making it does no I/O; nothing has to be closed."""

    def __init__(self, common: Common, identity: Identity, name: str) -> None:
        self._parts = Parts.of(common, identity, name)
        self.name = name
        self.place = self._parts.place

    @classmethod
    def _around(cls, parts: Parts) -> Session:
        return cls(parts.common, parts.identity, parts.place.session)

    # --- the session itself -----------------------------------------------------------------------

    async def record(self, *, create: bool = True) -> SessionRecord:
        """Return the session's record, making the session if asked. Raises `SessionNotFound`, `SessionGone`."""
        return (await self.create())[0] if create else await self._parts.directory.load(self.place)

    async def create(self, labels: Mapping[str, str] | None = None) -> tuple[SessionRecord, bool]:
        """Make the session if it is not there; the second is whether it was made now."""
        return await self._parts.create(labels)

    async def fork(self, at: Offset, name: str | None = None) -> Session:
        """Make a session that shares this one's past up to and including the event at `at`, and goes its own way.

        Nothing is copied. Of an answer that was not complete then it has what its last snapshot had: the deltas behind
        go when the answer ends. Raises `OffsetForeign`, `OffsetGone`, `SessionExists`.
        """
        new = await lifecycle.fork(self._parts, at, name)
        return Session._around(new)

    async def delete(self) -> None:
        """Remove the session with all that it holds; followers end with `SessionGone`.

        While a fork needs its past, the past stays, readable through the fork alone.
        """
        await lifecycle.delete(self._parts)

    # --- writing ----------------------------------------------------------------------------------

    async def append(
        self, body: Mapping[str, Any] | bytes, *, id: str | None = None, since: Offset | None = None
    ) -> Appended:
        """Store one event; return when a quorum has it.

        `id`: yours, at most 128 characters; sent again with the same body it answers `duplicate` and the first
        offset. `since`: on a retry after minutes, an offset from before the first try. Raises `InvalidEvent`,
        `TooLarge`, `Forbidden`, `IdConflict`, `OffsetForeign` (`since` is not of this session), `SessionGone`,
        `BrokerUnavailable` (try again with the same id).
        """
        record = await self._parts.open()
        if since is not None:
            segments.check(record.segments, since, record.floor_offset)
        return await self._parts.writer.append(record.stretch, body, id=id, since=since)

    async def append_own(self, body: Mapping[str, Any], *, id: str) -> Appended:
        """Store an event of the fabric's own (presence, control) in the participant's name."""
        record = await self._parts.open()
        return await self._parts.writer.append(record.stretch, body, id=id, since=None, own=True)

    def run(self, id: str | None = None, *, window_s: float = WINDOW_S, parent: str | None = None) -> OpenRun:
        """Claim a run: `async with session.run() as run:`; see `Run`."""
        return OpenRun(self._parts, id, window_s, parent)

    async def abandon(self, run: str) -> bool:
        """End a run whose agent is gone, as failed; False when it has ended or was never begun.

        Its writer, should it live, is refused from then on (`RunClosed`). For agents: whoever gets a dead one's work.
        """
        return await controls.abandon(self._parts, run)

    async def control(
        self,
        action: str,
        *,
        run: str,
        body: Mapping[str, Any] | None = None,
        deadline_ms: int = 5000,
        id: str | None = None,
    ) -> Appended:
        """Ask a run to `cancel` or `interrupt`; the answer comes as `control.accepted` or `control.rejected`.

        The run rejects it when it hears of it later than `deadline_ms` after it was stored. `id`: sent again under
        one, the request is stored once. Raises `RunClosed` when the run has ended, `InvalidRequest` for another action.
        """
        return await controls.request(self._parts, action, run, body, deadline_ms, id)

    # --- reading ----------------------------------------------------------------------------------

    async def head(self) -> Offset:
        """Return the newest event's offset."""
        return await self._parts.history.head()

    async def check(self, offset: Offset) -> None:
        """Raise `OffsetForeign` for an offset of another session, or of an earlier life of this one."""
        record = await self._parts.directory.load(self.place)
        segments.check(record.segments, offset, record.floor_offset)

    async def within(self, after: After, head: Offset) -> After:
        """Check an offset against the session's end; `head` when the events behind it have expired."""
        return await self._parts.history.within(after, head)

    def read(
        self, after: After = "start", *, upto: Offset | None = None, deltas: Deltas = "open"
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read what is stored, in batches of records; see `follow` for events and for what happens next."""
        return self._parts.history.read(after, upto=upto, deltas=deltas)

    async def history(self, *, before: Offset | Literal["tail"] = "tail", limit: int = 100) -> Page:
        """Return a page of events, oldest first; `page.previous` is the next `before`."""
        return await self._parts.history.back(before, limit)

    async def messages(self, *, before: Offset | None = None, limit: int = 100) -> Messages:
        """Return messages, oldest first: completed ones, and the text so far of open runs."""
        await self.record()
        return await self._parts.history.messages(before, limit)

    def follower(self, sink: FollowSink, *, after: After = "tail", deltas: Deltas = "all") -> Follower:
        """Return a follower that calls `sink`; the gateway's way, without a queue between."""
        return self._parts.follower(sink, after=after, deltas=deltas)

    async def follow(self, after: After = "start", *, deltas: Deltas = "open") -> AsyncGenerator[Event, None]:
        """Yield every event behind an offset, then each that happens, for ever; survives a lost broker.

        In the session's order; an event that the live path lost is found within about a second and yielded then,
        behind later ones of other writers. `deltas="open"`: those of finished answers are left out, since what
        completes them follows. A caller that reads slowly is caught up from the log. Raises `OffsetGone`,
        `OffsetForeign`, `SessionGone`. Close it (`aclosing`) to end.
        """
        async with aclosing(following.follow(self._parts, after, deltas)) as events:
            async for event in events:
                yield event

    async def signal(self, data: bytes) -> None:
        """Send an ambient message: not stored, at most once."""
        await self._parts.broker.signals.send(self.place, data)

    async def on_signal(self, sink: Callable[[bytes], None]) -> Listening:
        return await self._parts.broker.signals.listen(self.place, sink)
