"""A session, as a participant uses it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypeVar

from session_fabric.follow import Follower, FollowSink, Pace
from session_fabric.history import History, Messages, Page
from session_fabric.ports import Broker, Guard, Listening, Wanted
from session_fabric.records import Directory, SessionRecord, stretch_of
from session_fabric.rules import segments as rules
from session_fabric.rules.batching import WINDOW_S
from session_fabric.rules.routing import authorize
from session_fabric.run import Run
from session_fabric.words.errors import (
    Conflict,
    FabricError,
    InvalidRequest,
    OffsetForeign,
    OffsetGone,
    RunClosed,
    SessionClosed,
    SessionExists,
    SessionGone,
    SessionNotFound,
    Unavailable,
)
from session_fabric.words.events import (
    CONTROL_ACCEPTED,
    CONTROL_REJECTED,
    CONTROL_REQUESTED,
    MESSAGE_SNAPSHOT,
    RUN_ENDS,
    RUN_ERROR,
    SESSION_CREATED,
    SESSION_FORKED,
    Deltas,
    Event,
    utf16_length,
)
from session_fabric.words.names import check_id, check_session, new_id
from session_fabric.words.positions import ZERO, After, Offset
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import Record
from session_fabric.writer import Appended, Identity, Writer, parse_body

# A follower that does not read is caught up from the log later instead of being buffered without bound.
MOST_QUEUED_EVENTS = 10_000
T = TypeVar("T")
STOPPING_ACTIONS = frozenset({"cancel", "interrupt"})


class Session:
    """One session of a tenant, in the name of one participant. Making it does no I/O; nothing has to be closed."""

    def __init__(
        self,
        broker: Broker,
        directory: Directory,
        pace: Pace,
        identity: Identity,
        name: str,
        ended: Callable[[SessionRecord, str, int], None],
    ) -> None:
        self.name = check_session(name)
        self.place = Place(identity.tenant, self.name)
        self._broker = broker
        self._directory = directory
        self._pace = pace
        self._identity = identity
        self._ended = ended
        self._history = History(broker.log, directory, self.place)
        self._writer = Writer(broker.log, identity)

    # --- the session itself -----------------------------------------------------------------------

    async def record(self, *, create: bool = True) -> SessionRecord:
        """Return the session's record, making the session if asked. Raises `SessionNotFound`, `SessionGone`."""
        return (await self.create())[0] if create else await self._directory.load(self.place)

    async def create(self, labels: Mapping[str, str] | None = None) -> tuple[SessionRecord, bool]:
        """Make the session if it is not there; the second is whether it was made now."""
        record, made = await self._directory.ensure(self.place, labels)
        if made:
            # The id is the segment's, so that a creator who dies and tries again says it once.
            body = {"type": SESSION_CREATED}
            id = f"created-{record.segments[-1].id}"
            await self._writer.append(record.stretch, body, id=id, since=None, own=True)
        return record, made

    async def fork(self, at: Offset, name: str | None = None) -> Session:
        """Make a session that shares this one's past up to and including the event at `at`, and goes its own way.

        Nothing is copied. Of an answer that was not complete then it has what its last snapshot had: the deltas behind
        go when the answer ends. Raises `OffsetForeign`, `OffsetGone`, `SessionExists`.
        """
        source = await self._directory.load(self.place)
        if at < source.floor_offset:
            raise OffsetGone(f"What is before {at} is gone.", hint="Fork at a later offset.", offset=str(at))
        if at > await self.head():
            raise OffsetForeign(f"Offset {at} is beyond the session's end.", hint="Fork at an event.", offset=str(at))
        new = Session(
            self._broker,
            self._directory,
            self._pace,
            self._identity,
            new_id("fork-") if name is None else name,
            self._ended,
        )
        past = tuple(rules.fork(source.segments, at))
        if await self._directory.find(new.place, fresh=True) is not None:
            raise SessionExists(f"There is a session {new.name!r} already.", hint="Choose another name.")
        # First the sources learn of it, then it exists: a source is never removed under a fork.
        sources = {Place(segment.tenant, segment.session) for segment in past}
        for place in sources:
            await self._directory.change(place, lambda record: _with_fork(record, new.name))
        now_us = time.time_ns() // 1000
        home = await self._broker.log.home(new.place)
        id = rules.next_segment_id(now_us, past[-1].id)
        below = await self._broker.log.head(stretch_of(_segment(id, home, new.place, 0)))
        record = SessionRecord(
            tenant=new.place.tenant,
            session=new.name,
            created=now_us // 1000,
            labels=source.labels,
            segments=(*past, _segment(id, home, new.place, below)),
            source=self.name,
            floor=source.floor,
        )
        record, made = await self._directory.add(record)
        if not made:
            raise SessionExists(f"There is a session {new.name!r} already.", hint="Choose another name.")
        body = {"type": SESSION_FORKED, "source": self.name, "at": str(at)}
        await new._writer.append(record.stretch, body, id=f"forked-{id}", since=None, own=True)
        return new

    async def delete(self) -> None:
        """Remove the session with all that it holds; followers end with `SessionGone`.

        While a fork needs its past, the past stays, readable through the fork alone.
        """
        record = await self._directory.load(self.place, fresh=True)
        alive = [name for name in record.forks if await self._forked(name)]
        state = {"state": "deleted", "forks": tuple(alive)}
        record = await self._directory.change(self.place, lambda r: r.model_copy(update=state))
        if not alive:
            await self._erase(record)

    async def _forked(self, name: str) -> bool:
        found = await self._directory.find(Place(self.place.tenant, name), fresh=True)
        return found is not None and any(Place(s.tenant, s.session) == self.place for s in found[0].segments)

    async def _erase(self, record: SessionRecord) -> None:
        own = record.stretch
        await self._broker.log.purge(own)
        await self._broker.delete_blobs(record.place)
        for bucket in ("sf-presence", "sf-cursors", "sf-state"):
            for entry in await self._broker.bucket(bucket).entries(record.place.key()):
                await self._broker.bucket(bucket).delete(entry.key)
        await self._directory.remove(record.place)
        # A writer that had not heard of it yet may have stored something meanwhile.
        await self._broker.log.purge(own)
        for place in {Place(s.tenant, s.session) for s in record.segments[:-1]} - {record.place}:
            await self._release(place, record.session)

    async def _release(self, place: Place, fork: str) -> None:
        """Tell a source that a fork is gone; the last one takes a deleted source with it."""
        try:
            source = await self._directory.change(place, lambda r: _without_fork(r, fork))
        except SessionNotFound:
            return
        if source.state == "deleted" and not source.forks:
            await self._erase(source)

    # --- writing ----------------------------------------------------------------------------------

    async def append(
        self, body: Mapping[str, Any] | bytes, *, id: str | None = None, since: Offset | None = None
    ) -> Appended:
        """Store one event; return when a quorum has it.

        `id`: yours, at most 128 characters; sent again with the same body it answers `duplicate` and the first
        offset. `since`: on a retry after minutes, an offset from before the first try. Raises `InvalidEvent`,
        `TooLarge`, `Forbidden`, `IdConflict`, `SessionGone`, `BrokerUnavailable` (try again with the same id).
        """
        record = await self._open()
        return await self._writer.append(record.stretch, body, id=id, since=since)

    async def append_own(self, body: Mapping[str, Any], *, id: str) -> Appended:
        """Store an event of the fabric's own (presence, control) in the participant's name."""
        record = await self._open()
        return await self._writer.append(record.stretch, body, id=id, since=None, own=True)

    async def _open(self) -> SessionRecord:
        record = await self.record()
        if record.state == "closed":
            raise SessionClosed(f"Session {self.name!r} is closed.", hint="Fork it, or begin another.")
        return record

    def run(self, id: str | None = None, *, window_s: float = WINDOW_S, parent: str | None = None) -> OpenRun:
        """Claim a run: `async with session.run() as run:`; see `Run`."""
        return OpenRun(self, id, window_s, parent)

    async def abandon(self, run: str) -> bool:
        """End a run whose agent is gone, as failed; False when it has ended or was never begun.

        Its writer, should it live, is refused from then on (`RunClosed`). For agents: whoever gets a dead one's work.
        """
        authorize(RUN_ERROR, self._identity.role)
        record = await self._open()
        newest = await self._broker.log.newest(record.stretch, Wanted("own", check_id(run, "run")))
        if newest is None or newest.type in RUN_ENDS:
            return False
        # The deltas of an ended run are nobody's any more: what they said so far has to be kept first.
        said = [m for m in (await self.messages()).messages if m.run == run and m.status == "open"]
        bodies: list[Mapping[str, Any]] = [
            {
                "type": MESSAGE_SNAPSHOT,
                "message": {"id": m.id, "role": m.role, "content": m.content, "reasoning": m.reasoning},
                "at": utf16_length(m.content),
            }
            for m in said
            if isinstance(m.content, str)
        ]
        bodies.append({"type": RUN_ERROR, "message": "The agent was lost.", "code": "agent_lost"})
        guard = Guard("own", run, newest.sequence)
        try:
            for body in bodies:
                kind: Kind = "own" if body["type"] == RUN_ERROR else "ev"
                draft = self._writer.draft(parse_body(body), kind, run, new_id(), run)
                await self._broker.log.publish(record.stretch, draft, guard=guard)
        except Conflict:
            return False  # it ended just now, or somebody else has it
        return True

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
        if action not in STOPPING_ACTIONS:
            raise InvalidRequest(f"{action!r} is not a control action.", hint="Use cancel or interrupt.", action=action)
        check_id(run, "run")
        record = await self._open()
        newest = await self._broker.log.newest(record.stretch, Wanted("own", run))
        if newest is not None and newest.type in RUN_ENDS:
            raise RunClosed(f"Run {run!r} has ended.", run=run)
        event: dict[str, Any] = {"type": CONTROL_REQUESTED, "action": action, "run": run, "body": dict(body or {})}
        event["deadline_ms"] = deadline_ms
        return await self._writer.append(record.stretch, event, id=new_id() if id is None else id, since=None, own=True)

    # --- reading ----------------------------------------------------------------------------------

    async def head(self) -> Offset:
        """Return the newest event's offset."""
        return await self._history.head()

    async def within(self, after: After, head: Offset) -> After:
        """Check an offset against the session's end; `head` when the events behind it have expired."""
        return await self._history.within(after, head)

    def read(
        self, after: After = "start", *, upto: Offset | None = None, deltas: Deltas = "open"
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read what is stored, in batches of records; see `follow` for events and for what happens next."""
        return self._history.read(after, upto=upto, deltas=deltas)

    async def history(self, *, before: Offset | Literal["tail"] = "tail", limit: int = 100) -> Page:
        """Return a page of events, oldest first; `page.previous` is the next `before`."""
        return await self._history.back(before, limit)

    async def messages(self, *, before: Offset | None = None, limit: int = 100) -> Messages:
        """Return messages, oldest first: completed ones, and the text so far of open runs."""
        await self.record()
        return await self._history.messages(before, limit)

    def follower(self, sink: FollowSink, *, after: After = "tail", deltas: Deltas = "all") -> Follower:
        """Return a follower that calls `sink`; the gateway's way, without a queue between."""
        return Follower(self._broker, self._directory, self._history, self._pace, sink, after=after, deltas=deltas)

    async def follow(self, after: After = "start", *, deltas: Deltas = "open") -> AsyncGenerator[Event, None]:
        """Yield every event behind an offset, then each that happens, for ever; survives a lost broker.

        In the session's order; an event that the live path lost is found within about a second and yielded then,
        behind later ones of other writers. `deltas="open"`: those of finished answers are left out, since what
        completes them follows. A caller that reads slowly is caught up from the log. Raises `OffsetGone`,
        `OffsetForeign`, `SessionGone`. Close it (`aclosing`) to end.
        """
        await self._persist(self.record)
        seen: set[Offset] = set()
        mark = ZERO
        while True:
            # What is stored is read as fast as the caller takes it; only what happens meanwhile is queued.
            while after != "tail":
                try:
                    head = await self._history.head()
                    async with aclosing(self._history.read(after, upto=head, deltas=deltas)) as batches:
                        async for records in batches:
                            for record in records:
                                if record.offset not in seen:
                                    yield record.event()
                            after = mark = records[-1].offset
                    # What the read left out stays left out; it is through up to the head.
                    after = mark = max(head, mark)
                    break
                except Unavailable:
                    await self._until_connected()
                except SessionNotFound as error:
                    raise SessionGone("The session was deleted.", session=self.name) from error
            seen = {offset for offset in seen if offset > mark}
            queue = _Queue()
            follower = self.follower(queue, after=after, deltas=deltas)
            # No task group: one must not be left by a generator that is closed between two items.
            task = asyncio.create_task(follower.run(), name=f"follow {self.name}")
            task.add_done_callback(queue.left)
            try:
                async for item in queue.items():
                    if isinstance(item, Offset):
                        mark = max(mark, item)
                        seen = {offset for offset in seen if offset > mark}
                        after = mark
                        continue
                    offset = item.offset
                    if offset <= mark or offset in seen:
                        continue
                    seen.add(offset)
                    yield item.event()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            if queue.error is not None:
                raise queue.error
            # The queue was full: go on from the last mark; what was yielded already is in `seen`.

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, and make it again when the broker is back, for as long as it is away."""
        while True:
            try:
                return await call()
            except Unavailable:
                await self._until_connected()

    async def _until_connected(self) -> None:
        """Wait a moment, and until there is a connection."""
        await asyncio.sleep(0.1)
        found = asyncio.Event()
        unhook = self._broker.on_connection(lambda _: found.set())
        try:
            while not self._broker.connected:
                found.clear()
                await found.wait()
        finally:
            unhook()

    async def signal(self, data: bytes) -> None:
        """Send an ambient message: not stored, at most once."""
        await self._broker.signals.send(self.place, data)

    async def on_signal(self, sink: Callable[[bytes], None]) -> Listening:
        return await self._broker.signals.listen(self.place, sink)


class OpenRun:
    """What `session.run()` returns: enter it to claim the run."""

    def __init__(self, session: Session, id: str | None, window_s: float, parent: str | None) -> None:
        self._session = session
        self._id = id
        self._window_s = window_s
        self._parent = parent
        self._run: Run | None = None
        self._record: SessionRecord | None = None

    async def __aenter__(self) -> Run:
        session = self._session
        self._record = await session._open()
        self._run = Run(
            session._broker.log,
            session._identity,
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
                self._session._ended(self._record, self._run.id, self._run.ended)

    async def _controls(self, run: Run) -> None:
        """Hear what participants ask of the run, in the session's order, and answer each once."""
        session = self._session
        requests: asyncio.Queue[Record] = asyncio.Queue(100)  # more at once are refused by not being answered
        sink = _Controls(requests)
        follower = Follower(
            session._broker, session._directory, session._history, session._pace, sink, after=run.claim, kind="ev"
        )
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
        id = f"{request[:100]}.answer"
        await self._session._persist(lambda: self._session.append_own(answer, id=id))
        if not reason:
            run.stop()


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


class _Queue:
    """A sink between a follower and an async iterator; bounded: when it is full, it ends, to be made anew."""

    def __init__(self) -> None:
        self._items: deque[Record | Offset] = deque()
        self._event = asyncio.Event()
        self._full = False
        self.error: BaseException | None = None
        self._over = False

    async def items(self) -> AsyncGenerator[Record | Offset, None]:
        while True:
            while self._items:
                yield self._items.popleft()
            if self._over or self._full:
                return
            self._event.clear()
            await self._event.wait()

    def _put(self, items: Sequence[Record | Offset]) -> None:
        if self._full:
            return
        if len(self._items) >= MOST_QUEUED_EVENTS:
            self._full = True
        else:
            self._items.extend(items)
        self._event.set()

    def records(self, batch: Sequence[Record]) -> None:
        self._put(batch)

    def rewind(self, to: Offset) -> None:
        """What follows repeats: the iterator leaves out what it has yielded."""

    def mark(self, offset: Offset) -> None:
        self._put([offset])

    def live(self) -> None: ...
    def connected(self, connected: bool) -> None: ...

    def ended(self, error: BaseException) -> None:
        self.error = error
        self._over = True
        self._event.set()

    def left(self, task: asyncio.Task[None]) -> None:
        """Its follower has ended: by a defect, if it has not said why."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ended(error)


def _segment(id: int, home: Any, place: Place, after: int) -> rules.Segment:
    return rules.Segment(id, home.stream, home.epoch, place.tenant, place.session, after)


def _with_fork(record: SessionRecord, fork: str) -> SessionRecord:
    if fork in record.forks:
        return record
    return record.model_copy(update={"forks": (*record.forks, fork)})


def _without_fork(record: SessionRecord, fork: str) -> SessionRecord:
    return record.model_copy(update={"forks": tuple(name for name in record.forks if name != fork)})
