"""Reading what is stored: catch-up over segments, pages backwards, the projection to messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple

from session_fabric.ports import Log, Stretch, Wanted
from session_fabric.records import Directory, SessionRecord, stretch_of
from session_fabric.rules.audience import for_users
from session_fabric.rules.fold import Fold
from session_fabric.rules.messages import Message, Run
from session_fabric.rules.newest import maybe_cut
from session_fabric.rules.segments import Leg, check, plan
from session_fabric.words.arguments import check_whole
from session_fabric.words.delivered import body_sizes
from session_fabric.words.errors import OffsetForeign, OffsetGone
from session_fabric.words.events import RUN_ENDS, Deltas, Event
from session_fabric.words.positions import After, Offset
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

MOST_EVENTS = 1000
# A page ends here whatever its limit: bodies of 8 MiB are few.
PAGE_BYTES: Final = 8 * 1024 * 1024
# Where a snapshot names it: deltas from here on are still needed (the snapshot covers the rest).
SNAPSHOT_FROM = "Sf-From"
_FOR_EVER = 10**16
# Runs of which the newest is asked for at the same time.
_AT_ONCE = 16
# So long, and no longer, who was cut off takes itself for the leader (10 s: nats-server, raft.go, lostQuorumInterval).
OLD_LEADER_S = 12.0
_LOOK_S = 0.1
_MILESTONES = (Wanted("ev"), Wanted("in"), Wanted("own"))


def gone_since(offset: Offset, record: SessionRecord) -> OffsetGone:
    """Say that what follows an offset was removed while it was being read."""
    return OffsetGone(
        f"What follows offset {offset} was removed meanwhile: everything up to {record.floor_offset} is gone.",
        hint='Go on from "start", which is what is left.',
        offset=str(offset),
        resync="start",
    )


class Page(NamedTuple):
    """Events oldest first; `previous` is the `before` of the page before it, None at the beginning."""

    events: list[Event]
    previous: Offset | None


class StoredPage(NamedTuple):
    """A `Page` as it is stored."""

    records: list[Record]
    previous: Offset | None


class Messages(NamedTuple):
    """Messages oldest first, as of `offset`; `previous` is the `before` of the page before it."""

    messages: list[Message]
    offset: Offset
    previous: Offset | None


class Read(NamedTuple):
    """What has been read from the log: so many events, and the bytes of their bodies."""

    events: int
    bytes: int

    @classmethod
    def of(cls, records: Sequence[Record]) -> Read:
        """Return what a stretch of events is."""
        return cls(len(records), sum(body_sizes(records)))


# Hears what a batch has brought; says for how many seconds no more should be read.
Count = Callable[[Read], float]


class History:
    """The stored part of one session. `sees_all` False: without what users do not see.

    `count` hears what each batch has brought, and says how long the next one waits.
    """

    def __init__(self, log: Log, directory: Directory, place: Place, *, sees_all: bool = True) -> None:
        self._log = log
        self._directory = directory
        self._sees_all = sees_all
        self.place = place
        self.count: Count | None = None
        self._next_at = 0.0

    async def head(self) -> Offset:
        """Return the offset of the newest event, from the leader."""
        record = await self._directory.load(self.place)
        stretch = record.stretch
        sequence = await self._log.head(stretch)
        return Offset(stretch.segment, max(sequence, record.begin))

    async def within(self, after: After, head: Offset) -> After:
        """Bring an offset behind whose events have expired since it was given back to the session's end.

        Raises `OffsetForeign` for one that was never given.
        """
        if not isinstance(after, Offset) or after.segment != head.segment or after <= head:
            return after
        record = await self._directory.load(self.place)
        end = await self._log.end(record.stretch)
        if after.sequence > end:
            raise OffsetForeign(
                f"Offset {after} is beyond the session's end, {head}.",
                hint="Use an offset that this session gave you.",
                offset=str(after),
            )
        return head

    async def read(
        self, after: After, *, upto: Offset | None = None, deltas: Deltas = "open"
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read what is stored behind an offset, in order, over every segment.

        `upto`: a head that `head` returned; now when not given. `deltas`: those of open runs only, or all that are
        left. Raises `OffsetGone`, `OffsetForeign`, `SessionGone`, `BrokerUnavailable`.
        """
        if after == "tail":
            return
        record = await self._directory.load(self.place)
        legs = self._legs(record, after)
        first: Offset | None = None
        for leg in legs:
            stretch = stretch_of(leg.segment)
            end = leg.upto
            if end is None:
                end = upto.sequence if upto and upto.segment == leg.segment.id else await self._log.head(stretch)
            if end <= leg.after:
                continue
            # Of a fork's past the source may purge deltas at any time: they are never a part of it.
            closed = leg.upto is not None
            await self._slow()
            wanted = await self._wanted(stretch, end, closed) if closed or deltas == "open" else ()
            async with aclosing(self._log.read(stretch, after=leg.after, upto=end, wanted=wanted)) as batches:
                async for records in batches:
                    self._count(records)
                    first = first or records[0].offset
                    if shown := self._shown(records):
                        yield shown
                    if records[-1].sequence < end:
                        await self._slow()
        await self.check_kept(after, first)

    async def check_kept(self, after: Offset | Literal["start"], first: Offset | None) -> None:
        """Return if nothing behind an offset was removed up to now; `first`: the first event that was read there.

        Raises `OffsetGone`, `OffsetForeign`, `SessionGone`.
        """
        # Retention moves the floor before it removes: what was read above the floor as it is now is whole. As the
        # leader has it: what is removed is seen by a reader sooner, maybe, than it is told of the floor.
        now = await self._directory.load(self.place, fresh=True)
        self._legs(now, after)
        if after == "start" and first is not None and first <= now.floor_offset:
            raise gone_since(first, now)

    def _count(self, records: Sequence[Record]) -> None:
        if self.count is not None:
            self._next_at = time.monotonic() + self.count(Read.of(records))

    async def _slow(self) -> None:
        """Return when the next batch may be read."""
        if (pause_s := self._next_at - time.monotonic()) > 0:
            await asyncio.sleep(pause_s)

    def _shown(self, records: Sequence[Record]) -> Sequence[Record]:
        return records if self._sees_all else for_users(records)

    def _legs(self, record: SessionRecord, after: Offset | Literal["start"]) -> list[Leg]:
        listed = {segment.id for segment in record.segments}
        if after != "start" and after.segment not in listed and after <= record.floor_offset:
            raise OffsetGone(
                f"What follows offset {after} is gone.", hint='Go on from "start".', offset=str(after), resync="start"
            )
        return plan(record.segments, after, record.floor_offset)

    async def _wanted(self, stretch: Stretch, upto: int, closed: bool) -> Sequence[Wanted]:
        """Choose milestones, and deltas of runs that are open at `upto`, from their newest snapshot on."""
        if closed:
            return _MILESTONES
        runs = await self._log.runs_with_deltas(stretch)
        if not runs:
            return ()
        wanted = [*_MILESTONES]
        async for run, claim, snapshot in self._newest_of(stretch, list(runs)):
            if claim is not None and claim.type in RUN_ENDS and claim.sequence <= upto:
                continue
            first = int(snapshot.header(SNAPSHOT_FROM) or 0) if snapshot and snapshot.sequence <= upto else 0
            wanted.append(Wanted("tok", run, max(0, first - 1)))
        return wanted

    async def _newest_of(
        self, stretch: Stretch, runs: Sequence[str]
    ) -> AsyncGenerator[tuple[str, Record | None, Record | None], None]:
        """Yield of each run the newest that says whose it is, and the newest of what it said; several at once."""
        for first in range(0, len(runs), _AT_ONCE):
            some = runs[first : first + _AT_ONCE]
            found = await asyncio.gather(
                *(self._log.newest(stretch, Wanted("own", run)) for run in some),
                *(self._log.newest(stretch, Wanted("ev", run)) for run in some),
            )
            for run, claim, snapshot in zip(some, found[: len(some)], found[len(some) :], strict=True):
                yield run, claim, snapshot

    async def back(self, before: Offset | Literal["tail"], limit: int) -> StoredPage:
        """Return the page of at most `limit` events, and of 8 MiB, before an offset, oldest first."""
        check_whole(limit, "limit", 1, MOST_EVENTS)
        record = await self._directory.load(self.place)
        kept: list[Record] = []
        room = PAGE_BYTES
        if before != "tail":
            self._legs(record, before)
        for segment in reversed(record.segments):
            if len(kept) == limit or room <= 0:
                break
            if before != "tail" and segment.id > before.segment:
                continue
            stretch = stretch_of(segment)
            end = segment.upto if segment.upto is not None else await self._log.head(stretch)
            if before != "tail" and segment.id == before.segment:
                end = min(end, before.sequence - 1)
            floor = record.floor[1] if segment.id == record.floor[0] else 0
            low = max(segment.after, floor)
            if end <= low:
                continue
            # As of now: what completes an answer is on a later page.
            wanted = await self._wanted(stretch, _FOR_EVER, segment.upto is not None)
            while end > low and len(kept) < limit and room > 0:
                found, end = await self._newest(stretch, end, limit - len(kept), room, wanted)
                shown = [r for r in self._shown(found) if r.sequence > low]
                kept = shown + kept
                room -= sum(body_sizes(shown))
        previous = kept[0].offset if len(kept) == limit or room <= 0 else None
        return StoredPage(kept, previous)

    async def _newest(
        self, to: Stretch, end: int, limit: int, room: int, wanted: Sequence[Wanted]
    ) -> tuple[list[Record], int]:
        """Return the newest events up to `end`, and where those before them end (0: there are none)."""
        await self._slow()
        found: list[Record] = []
        back = self._log.read_back(to, before=end + 1, limit=limit, most_bytes=room, wanted=wanted)
        async with aclosing(back) as batches:
            async for records in batches:
                self._count(records)
                found += records
        return found, found[0].sequence - 1 if maybe_cut(found, limit, room) else 0

    async def at(self, to: Stretch, sequence: int) -> Record | None:
        """Return one event that was stored; None where it was removed. Raises `BrokerUnavailable`."""
        found = await self._at(to, sequence)
        if found is None:
            # A node that was cut off takes itself for the leader until it hears of another, and knows nothing of what
            # was stored since. Who has given the sequence away says whether it was removed.
            await self._given(to, sequence)
            found = await self._at(to, sequence)
        return found

    async def _given(self, to: Stretch, sequence: int) -> None:
        """Wait until the leader has given a sequence away; no longer than one of before may answer in its place."""
        until = time.monotonic() + OLD_LEADER_S
        while time.monotonic() < until:
            if await self._log.end(to) >= sequence:
                return
            await asyncio.sleep(_LOOK_S)

    async def _at(self, to: Stretch, sequence: int) -> Record | None:
        async with aclosing(self._log.read(to, after=sequence - 1, upto=sequence)) as batches:
            async for records in batches:
                return records[0]
        return None

    async def runs(self) -> list[Run]:
        """Return the session's runs in the order of their beginning, each as it is now."""
        record = await self._directory.load(self.place)
        fold = Fold()
        for leg in self._legs(record, "start"):
            stretch = stretch_of(leg.segment)
            end = leg.upto if leg.upto is not None else await self._log.head(stretch)
            async with aclosing(self._log.read(stretch, after=leg.after, upto=end, wanted=[Wanted("own")])) as batches:
                async for records in batches:
                    self._count(records)
                    for stored in records:
                        fold.add(stored.event())
                    if records[-1].sequence < end:
                        await self._slow()
        return list(fold.runs.values())

    async def folded(self, head: Offset | None = None) -> Fold:
        """Fold the session as of `head` (now): completed messages, and the text so far of open runs."""
        for last in (False, False, True):
            fold = Fold()
            try:
                async with aclosing(self.read("start", upto=head)) as batches:
                    async for records in batches:
                        for record in records:
                            fold.add(record.event())
                break
            except OffsetGone:  # its beginning was removed meanwhile
                if last:
                    raise
        return fold

    async def messages(self, before: Offset | None, limit: int, *, visible: bool = False) -> Messages:
        """Return a page of the session's messages; `visible`: those of the branch that is shown."""
        check_whole(limit, "limit", 1, MOST_EVENTS)
        if before is not None:
            record = await self._directory.load(self.place)
            check(record.segments, before, record.floor_offset)
        head = await self.head()
        fold = await self.folded(head)
        folded = fold.path() if visible else fold.messages()
        if before is not None:
            folded = [m for m in folded if m.first < before]
        page = folded[-limit:]
        previous = page[0].first if len(folded) > len(page) else None
        return Messages(page, head, previous)
