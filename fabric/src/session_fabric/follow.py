"""Following a session without a seam: what is stored, then what happens, by the rules of `rules.splice`.

One follower is one subscription at the broker and no consumer. The gateway has one a session, whatever the number
of its viewers; `Session.follow` has one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from session_fabric.history import History, gone_since
from session_fabric.pace import Pace, Refusals
from session_fabric.ports import Broker, Listening, Stretch, Wanted
from session_fabric.records import Directory, SessionRecord, is_gone
from session_fabric.rules.splice import DELIVER, DUPLICATE, LATE, Splice
from session_fabric.words.closing import Closed
from session_fabric.words.errors import BrokerRefused, FabricError, SessionNotFound, Unavailable
from session_fabric.words.events import Deltas
from session_fabric.words.logs import log
from session_fabric.words.positions import After, Offset
from session_fabric.words.subjects import Kind
from session_fabric.words.wire import Record

# What arrives while a stored read is under way waits here; when it is full the read is made again instead.
MOST_WAITING = 10_000
# A busy session is checked about every second; an idle one ever more seldom, up to this.
BUSY_CHECK_S = 1.0
IDLE_CHECK_S = 30.0
# The leader may name an event that its republished copy has not brought yet: it comes within this.
IN_FLIGHT_S = 0.1
_BLOB = b"\r\nSf-Blob:"


class FollowSink(Protocol):
    """What a follower tells. All calls are made on the event loop and must neither block nor raise."""

    def records(self, batch: Sequence[Record]) -> None:
        """Take new events, in order."""

    def rewind(self, to: Offset) -> None:
        """A hole was found: what follows repeats everything after `to`, in order and without holes."""

    def mark(self, offset: Offset) -> None:
        """Everything up to here has been delivered."""

    def live(self) -> None:
        """What was stored is through; what follows happens now."""

    def connected(self, connected: bool) -> None:
        """The broker connection was lost or is back."""

    def ended(self, error: FabricError) -> None:
        """The session was deleted, or the offset cannot be followed from; nothing comes any more."""


class RecordsOnly:
    """A `FollowSink` for who wants records and knows again those that come twice; the rest is heard and left."""

    def records(self, batch: Sequence[Record]) -> None:
        raise NotImplementedError

    def rewind(self, to: Offset) -> None: ...
    def mark(self, offset: Offset) -> None: ...
    def live(self) -> None: ...
    def connected(self, connected: bool) -> None: ...
    def ended(self, error: FabricError) -> None: ...


class _Nobody(RecordsOnly):
    def records(self, batch: Sequence[Record]) -> None: ...


class Follower:
    """Follows one session from an offset; `run` is its whole life and wants an owner."""

    def __init__(
        self,
        broker: Broker,
        directory: Directory,
        history: History,
        pace: Pace,
        sink: FollowSink,
        *,
        after: After = "tail",
        deltas: Deltas = "all",
        kinds: Sequence[Kind] = (),
    ) -> None:
        self._broker = broker
        self._log = broker.log
        self._directory = directory
        self._history = history
        self._pace = pace
        self._sink: FollowSink = sink
        self._after = after
        self._deltas = deltas
        self._kinds = tuple(kinds)
        self._splice = Splice()
        self._stretch: Stretch | None = None
        self._live = False
        self._waiting: list[Record] = []
        self._overflowed = False
        self._least_head = 0
        self._tick: list[Record] = []
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._error: FabricError | None = None
        self._dirty = False
        self._pause_s = BUSY_CHECK_S
        self._marked = -1
        self._refusals = Refusals()

    @property
    def delivered(self) -> Offset:
        return Offset(self._stretch.segment if self._stretch else 0, self._splice.delivered)

    @property
    def verified(self) -> Offset:
        return Offset(self._stretch.segment if self._stretch else 0, self._splice.verified)

    async def ready(self) -> None:
        """Wait until it is caught up and live. Raises what ended it."""
        await self._ready.wait()
        if self._error is not None:
            raise self._error

    def expect(self, offset: Offset) -> None:
        """Look now, instead of at the next check, for an event that the leader has named and that has not come."""
        stretch = self._stretch
        here = stretch is not None and offset.segment == stretch.segment
        if self._live and here and offset.sequence > self._splice.delivered:
            self._interrupt(offset.sequence)

    # --- what arrives -----------------------------------------------------------------------------

    def _arrived(self, record: Record) -> None:
        if not self._live:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(record)
            else:
                self._overflowed = True
            return
        splice = self._splice
        if record.head.find(_BLOB, 0, record.own) >= 0 and not splice.had(record.subject, record.sequence):
            self._interrupt(record.sequence)  # its body has to be fetched: a stored read brings it in its place
            return
        verdict = splice.live(record.subject, record.sequence, record.previous)
        if verdict is DELIVER:
            if not self._tick:
                self._pace.due(self)
            self._tick.append(record)
            if not self._dirty:
                self._dirty = True
                self._wake.set()
        elif verdict is not DUPLICATE:
            self._interrupt(record.sequence)

    def _interrupt(self, sequence: int) -> None:
        """Go back to reading what is stored, this event included."""
        self._least_head = max(self._least_head, sequence)
        self._live = False
        self._wake.set()

    def flush(self) -> None:
        """Hand on what one tick brought."""
        if self._tick:
            batch, self._tick = self._tick, []
            self._sink.records(batch)

    def _connection_changed(self, connected: bool) -> None:
        self._sink.connected(connected)
        if connected or self._broker.closed:
            self._live = False
            self._wake.set()

    def _record_changed(self, record: SessionRecord | None) -> None:
        error = is_gone(record)
        if error is not None and self._error is None:
            self._error = error
            self._wake.set()

    # --- its life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow until cancelled, or until `sink.ended`; survives every loss of the broker."""
        try:
            await self._run()
        finally:
            # They hold each other: all that a session's readers share would be left to the garbage collector.
            self._sink = _Nobody()

    async def _run(self) -> None:
        self._pace.followers += 1
        unhook = self._broker.on_connection(self._connection_changed)
        unwatch = self._directory.watch(self._history.place, self._record_changed)
        listening: Listening | None = None
        try:
            listening = await self._begin()
            if self._after == "tail" and not self._wake.is_set():
                # The head was asked for when it was listening, over one connection: there is nothing to be read.
                self._come_live()
            while self._error is None:
                if self._live:
                    await self._idle()
                else:
                    await self._persist(self._fill)
        except SessionNotFound:
            self._error = is_gone(None)  # it was there when following began
        except FabricError as error:
            self._error = error
        finally:
            self._pace.followers -= 1
            unhook()
            unwatch()
            if listening is not None:
                await listening.close()
        self.flush()
        self._ready.set()
        if self._error is not None:
            self._sink.ended(self._error)

    async def _begin(self) -> Listening:
        """Listen, read up to the head as it is then, and leave the rest to `_fill`."""
        while True:
            try:
                record = await self._directory.load(self._history.place)
                self._stretch = record.stretch
                listening = await self._log.listen(self._stretch, self._arrived, kinds=self._kinds)
                break
            except Unavailable:
                await self._wait_for_broker()
        try:
            while True:
                try:
                    head = await self._log.head(self._stretch, kinds=self._kinds)
                    end = Offset(self._stretch.segment, max(head, record.begin))
                    if self._after != "tail" and not self._kinds:
                        await self._catch_up(end)
                    elif isinstance(self._after, Offset):
                        end = self._after
                    break
                except Unavailable:
                    await self._wait_for_broker()
        except BaseException:
            await listening.close()
            raise
        self._splice = Splice(end.sequence)
        return listening

    async def _catch_up(self, end: Offset) -> None:
        async with aclosing(self._history.read(self._after, upto=end, deltas=self._deltas)) as batches:
            async for records in batches:
                self._sink.records(records)
                self._after = records[-1].offset  # a broken read goes on from here

    async def _fill(self) -> None:
        """Read `(verified, head]` from the log, deliver what is new, then go live with what waited."""
        stretch = self._stretch
        assert stretch is not None
        self.flush()
        splice = self._splice
        # After a lost connection: that the session was deleted meanwhile, nobody has told us.
        found = await self._directory.find(self._history.place)
        if (gone := is_gone(found[0] if found else None)) is not None:
            raise gone
        begun = splice.verified
        head = await self._head_of_at_least(self._least_head)
        wanted = tuple(Wanted(kind) for kind in self._kinds)
        async with aclosing(self._log.read(stretch, after=splice.verified, upto=head, wanted=wanted)) as batches:
            async for records in batches:
                self._fill_with(records)
        await self._check_floor(begun)
        # Not above what the leader named: what one of before has left out is found by the next check.
        splice.filled(head)
        self._least_head = 0
        self._come_live()

    def _come_live(self) -> None:
        """Deliver what waited, and be live; unless there was more of it than could wait: that is to be read."""
        waiting, self._waiting = self._waiting, []
        if self._overflowed:
            self._overflowed = False
            return
        self._live = True
        for record in waiting:
            self._arrived(record)
        self.flush()
        if self._live:
            self._mark()
            if not self._ready.is_set():
                self._ready.set()
                self._sink.live()

    async def _check_floor(self, begun: int) -> None:
        """Raise `OffsetGone` when something above what was verified then may have been removed before it was read."""
        assert self._stretch is not None
        found = await self._directory.find(self._history.place, fresh=True)
        begun_at = Offset(self._stretch.segment, begun)
        if found is not None and begun_at < found[0].floor_offset:
            raise gone_since(begun_at, found[0])

    def _fill_with(self, records: Sequence[Record]) -> None:
        new: list[Record] = []
        for record in records:
            verdict = self._splice.stored(record.subject, record.sequence)
            if verdict is LATE:
                if new:
                    self._sink.records(new)
                    new = []
                self._sink.rewind(Offset(record.segment, self._splice.rewound()))
                verdict = self._splice.stored(record.subject, record.sequence)
            if verdict is DELIVER:
                new.append(record)
        if new:
            self._sink.records(new)

    async def _head_of_at_least(self, least: int) -> int:
        """Return the head; one that is below what was seen is a stale answer, or the event was purged since."""
        assert self._stretch is not None
        head = 0
        for pause_s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
            head = await self._log.head(self._stretch, kinds=self._kinds)
            if head >= least:
                break
            await asyncio.sleep(pause_s)
        return head

    async def _idle(self) -> None:
        """Wait for trouble, or until a check is due; an idle session is checked ever more seldom."""
        self._wake.clear()
        if not self._live or self._error is not None:
            return
        try:
            async with asyncio.timeout(self._pace.due_s(BUSY_CHECK_S if self._dirty else self._pause_s)):
                await self._wake.wait()
            return
        except TimeoutError:
            pass
        self._pause_s = BUSY_CHECK_S if self._dirty else min(self._pause_s * 2, IDLE_CHECK_S)
        self._dirty = False
        await self._persist(self._check)

    async def _check(self) -> None:
        """Ask the leader whether anything is missing, the last event of any subject included."""
        stretch, splice = self._stretch, self._splice
        assert stretch is not None
        head = await self._log.head(stretch, kinds=self._kinds)
        found = await self._directory.find(self._history.place)
        if found is not None and self.verified < found[0].floor_offset:
            self._live = False  # what cannot be verified any more: the fill says so
            return
        if head > splice.verified:
            lasts = await self._log.lasts(stretch, splice.verified, head, kinds=self._kinds)
            if not splice.check(lasts, head):
                await asyncio.sleep(IN_FLIGHT_S)
                if not splice.check(lasts, head):
                    log.warning("live_event_missed", head=head, verified=splice.verified)
                    self._live = False
                    return
        self._mark()

    def _mark(self) -> None:
        if self._splice.verified > self._marked and self._stretch is not None:
            self.flush()
            self._marked = self._splice.verified
            self._sink.mark(Offset(self._stretch.segment, self._marked))

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step; when the broker is away, wait for it, and let the loop take it again."""
        try:
            await step()
        except (Unavailable, BrokerRefused) as error:
            self._live = False
            if isinstance(error, BrokerRefused) and self._error is None:
                await self._refusals.wait(error, self._wake)
            await self._wait_for_broker()
        else:
            self._refusals.over()

    async def _wait_for_broker(self) -> None:
        """Wait until there is a connection again, and a moment for a leader."""
        await asyncio.sleep(0.1)
        while not self._broker.connected and self._error is None:
            if self._broker.closed:
                raise Closed
            self._wake.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._wake.wait()
            except TimeoutError:
                continue
