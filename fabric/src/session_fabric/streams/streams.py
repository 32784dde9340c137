"""Durable streams of all tenants at one broker: made, appended to, read, ended and removed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from session_fabric.keyring import Keyring
from session_fabric.ports import Broker
from session_fabric.records import Directory, stretch_of
from session_fabric.rules.appends import Asked, Known, Standing, Stored, decide
from session_fabric.rules.segments import Leg, plan
from session_fabric.streams import entries
from session_fabric.streams.expiry import Expiries
from session_fabric.streams.ledger import Ledger, Page
from session_fabric.streams.making import Makers
from session_fabric.streams.recent import Entry, Recent
from session_fabric.streams.records import StreamDirectory, StreamRecord
from session_fabric.streams.removing import Removers
from session_fabric.streams.wishes import Wish
from session_fabric.words.errors import (
    BrokerUnavailable,
    Conflict,
    FabricError,
    InvalidOffset,
    OffsetForeign,
    StreamGone,
    StreamNotFound,
)
from session_fabric.words.positions import ZERO, Offset
from session_fabric.words.subjects import Place

_TRIES: Final = 50
# Of a sliding time to live so much may pass before it is written that somebody was here.
_RENEWED: Final = 0.1
# A read ends at the entry with which it has this much.
CHUNK_BYTES: Final = 2 * 1024 * 1024


class Appended(NamedTuple):
    """`stored` False: it was stored before. `last`: the producer's last append."""

    standing: Standing
    stored: bool
    last: Known | None


class Chunk(NamedTuple):
    """What a read has found, in order; `end`: nothing is behind it for now; `next`: where to go on."""

    entries: Sequence[Entry]
    next: Offset
    end: bool


class Streams:
    """Use `open` and `close`; one of it a process."""

    def __init__(self, broker: Broker, keys: Keyring | None = None, sessions: Directory | None = None) -> None:
        self._log = broker.log
        self.broker = broker
        self.directory = StreamDirectory(broker, keys, sessions)
        self.ledger = Ledger(broker.log, self.directory)
        self.expiries = Expiries()
        self._removers = Removers(broker, self.directory, self.ledger)
        self._recent = Recent()
        self._keys = keys
        self._makers = Makers(broker, self.directory, self.ledger, self._removers, self._kept)

    async def open(self) -> None:
        await self.directory.open()

    async def close(self) -> None:
        await self.directory.close()

    # --- as it stands --------------------------------------------------------------------------------

    async def look(self, place: Place, *, touch: bool = False) -> Page:
        """Return a stream as it stands. `touch`: it is read, which puts off its end.

        Raises `StreamNotFound`, `StreamGone`, `BrokerUnavailable`.
        """
        page = await self.ledger.look(place)
        await self._in_time(page)
        if touch:
            await self.touch(page.record)
        return page

    async def _in_time(self, page: Page) -> None:
        """Raise `StreamNotFound` or `StreamGone` for a stream whose time has passed, and remove it."""
        now_ms = time.time_ns() // 1_000_000
        if not page.record.over(now_ms):
            self.expiries.note(page.record)
            return
        page.record = await self.directory.stream(page.record.place, fresh=True)  # another process may have read it
        if page.record.over(now_ms):
            await self.remove(page.record.place, None)
            await self.directory.stream(page.record.place, fresh=True)  # gone for its own readers, kept for its forks
            raise self.directory.not_found(page.record.place)

    async def note_all(self) -> None:
        """Look through all streams, of every tenant, for those with an end, and for what deletions that were cut off
        have left. Raises `BrokerUnavailable`."""
        for record in await self.directory.all():
            if isinstance(record, StreamRecord) and record.state == "open":
                self.expiries.note(record)
            elif isinstance(record, StreamRecord):
                await self._removers.cleared(record)

    async def settle(self, place: Place) -> None:
        """Remove a stream if its time has passed. Raises `BrokerUnavailable`."""
        try:
            await self.look(place)
        except (StreamNotFound, StreamGone):
            return

    async def touch(self, record: StreamRecord) -> None:
        """Put off the end of a stream with a sliding time to live."""
        if record.ttl_s is None or record.ends_ms is None:
            return
        now_ms, ttl_ms = time.time_ns() // 1_000_000, record.ttl_s * 1000
        if record.ends_ms - now_ms < ttl_ms * (1 - _RENEWED):
            await self.directory.change(
                record.place, lambda r: r.model_copy(update={"ends_ms": now_ms + ttl_ms}) if r.state == "open" else r
            )

    # --- writing -------------------------------------------------------------------------------------

    async def make(self, place: Place, wish: Wish, actor: str) -> tuple[Page, bool]:
        """Make a stream, or find it as it is wished for; the second is whether it was made now.

        Raises `StreamExists` (there is another one), `StreamNotFound` (its source), `StreamGone`, `OffsetForeign`,
        `InvalidRequest`, `ContentMismatch`, `BrokerUnavailable`.
        """
        try:
            found = await self.ledger.look(place)
            await self._in_time(found)
        except (StreamNotFound, StreamGone):
            pass
        if wish.fork is not None:
            try:
                source = await self.ledger.look(wish.fork.source)
                await self._in_time(source)
            except (StreamNotFound, StreamGone):
                pass
        return await self._makers.make(place, wish, actor)

    async def append(self, place: Place, asked: Asked, actor: str) -> Appended:
        """Append to a stream, or end it; returns when a quorum has it.

        Appends of one process to one stream are stored in the order of the calls. Raises what `rules.appends.decide`
        does, `StreamNotFound`, `StreamGone`, `LimitExceeded`, `BrokerUnavailable`. Cancelled: may or may not be stored.
        """
        async with self.ledger.line(place):
            page, fresh = self.ledger.at_hand(place), False
            for _ in range(_TRIES):
                if page is None:
                    page, fresh = await self.ledger.look(place), True
                await self._in_time(page)
                try:
                    known = None if asked.producer is None else await self.ledger.known(page, asked.producer)
                    verdict = decide(asked, page.standing, known, page.record.content_type)
                except FabricError:
                    if fresh:
                        raise
                    page = None  # what was at hand is old
                    continue
                if isinstance(verdict, Stored):
                    if not fresh:
                        page = None  # what was at hand is old
                        continue
                    await self.touch(page.record)
                    return Appended(page.standing, False, verdict.last)
                try:
                    return await self._store(page, asked, actor)
                except Conflict:
                    page = None  # what was at hand is old
            raise BrokerUnavailable(
                f"{_TRIES} times somebody else was first to append to this stream.", hint="Try again."
            )

    async def _store(self, page: Page, asked: Asked, actor: str) -> Appended:
        to, standing = page.record.stretch, page.standing
        try:
            ack = await self._log.publish(
                to, entries.draft(page.record, standing, asked, actor), guard=entries.guard(standing)
            )
        except BaseException:
            self.ledger.forget(page.record.place)  # it may be stored
            raise
        self._kept(to.place, standing.guard, Offset(to.segment, ack.sequence), asked.body)
        page.standing = entries.stood(standing, asked, to.segment, ack.sequence)
        last = None
        if asked.producer is not None:
            last = page.known[asked.producer.id] = Known(asked.producer.epoch, asked.producer.seq)
        self.ledger.keep(page)
        await self.touch(page.record)
        return Appended(page.standing, True, last)

    async def delete(self, place: Place, actor: str) -> None:
        """Remove a stream; what forks of it read stays until the last of them is gone. Raises `StreamNotFound`,
        `StreamGone`, `BrokerUnavailable`."""
        try:
            await self.look(place)
        except StreamNotFound:
            found = await self.directory.find(place)
            if found is None or not (isinstance(found[0], StreamRecord) and found[0].arriving):
                raise
        await self.remove(place, actor)

    async def remove(self, place: Place, actor: str | None, reason: str = "") -> None:
        """As `delete`, of a stream whose time may have passed; one that is not there is no error. `reason` is for the
        audit."""
        try:
            await self._removers.remove(place, actor, reason)
        except StreamNotFound:
            return

    # --- reading -------------------------------------------------------------------------------------

    async def read(self, page: Page, after: Offset, *, most_bytes: int = CHUNK_BYTES) -> Chunk:
        """Read what is behind an offset, up to how the stream stands on its page. Raises `InvalidOffset`,
        `OffsetGone`, `BrokerUnavailable`."""
        record, standing = page.record, page.standing
        found: list[Entry] = []
        if after == standing.tail:
            return Chunk(found, after, True)
        for leg in self._legs(record, after, standing):
            upto = standing.guard if leg.upto is None else leg.upto
            if upto <= leg.after:
                continue
            here = self._recent.find(record.place, leg.segment.id, leg.after, upto)
            behind = leg.after
            if here is not None:
                found += here[0]
                behind = here[1]
            if behind < upto and not _enough(found, most_bytes):
                await self._read(record, leg, behind, upto, found, most_bytes)
            if _enough(found, most_bytes):
                found = _first(found, most_bytes)
                last = found[-1].offset
                return Chunk(found, last, last == standing.tail)
        return Chunk(found, standing.tail, True)

    async def _read(
        self, record: StreamRecord, leg: Leg, after: int, upto: int, found: list[Entry], most_bytes: int
    ) -> None:
        """Add what the log holds of a leg to what was found, until that is enough."""
        size, before = sum([len(one.payload) for one in found]), len(found)
        reading = self._log.read(stretch_of(leg.segment), after=after, upto=upto, wanted=(entries.ENTRIES,))
        async with aclosing(reading) as batches:
            async for records in batches:
                data = [Entry(one.offset, one.payload) for one in records if entries.is_data(one)]
                found += data
                size += sum([len(one.payload) for one in data])
                if size >= most_bytes:
                    return
        if leg.segment == record.segments[-1] and self._may_keep(record.place):
            self._recent.learn(record.place, leg.segment.id, after, upto, found[before:])

    def _kept(self, place: Place, guard: int, offset: Offset, body: bytes | None) -> None:
        """Keep in memory what was just stored."""
        if self._may_keep(place):
            self._recent.appended(place, guard, offset, body)

    def _may_keep(self, place: Place) -> bool:
        # Who throws a tenant's key away wants nothing readable to be left.
        return self._keys is None or self._keys.current(place.tenant) is None

    def _legs(self, record: StreamRecord, after: Offset, standing: Standing) -> list[Leg]:
        try:
            legs = plan(record.segments, "start" if after == ZERO else after, record.floor_offset)
        except OffsetForeign as error:
            raise InvalidOffset(error.message, hint="Use an offset that this stream gave you, or -1.") from error
        if after > standing.tail:
            raise InvalidOffset(f"Offset {after} is beyond the stream's end.", hint="Use an offset that it gave you.")
        return legs


def _enough(found: Sequence[Entry], most_bytes: int) -> bool:
    return sum([len(one.payload) for one in found]) >= most_bytes


def _first(found: Sequence[Entry], most_bytes: int) -> list[Entry]:
    """Return the first entries, up to the one with which they have this much."""
    size = 0
    for number, one in enumerate(found, 1):
        size += len(one.payload)
        if size >= most_bytes:
            return list(found[:number])
    return list(found)
