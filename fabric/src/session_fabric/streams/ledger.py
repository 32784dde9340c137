"""How streams stand: read from the newest entry, kept at hand, and found out to be old by the guard of an append."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from session_fabric.ports import Log
from session_fabric.records import stretch_of
from session_fabric.rules.appends import Asked, Known, Producer, Standing
from session_fabric.rules.segments import Segment
from session_fabric.streams import entries
from session_fabric.streams.records import StreamDirectory, StreamRecord
from session_fabric.words.errors import Conflict, LimitExceeded
from session_fabric.words.subjects import Place

_KEPT: Final = 20_000
# What waits for its turn to append to one stream.
MOST_WAITING: Final = 1000
# So long may whoever makes a stream take between its record and its first entry before others take it for dead.
_BORN_S: Final = 1.0
_LOOK_S: Final = 0.02
_TRIES: Final = 20


@dataclass(slots=True)
class Page:
    """One stream at hand. `lasts`: where each producer's last entry is, once asked for."""

    record: StreamRecord
    standing: Standing
    known: dict[str, Known | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Ledger:
    """The streams of one broker as this process knows them."""

    def __init__(self, log: Log, directory: StreamDirectory) -> None:
        self._log = log
        self._directory = directory
        self._pages: OrderedDict[Place, Page] = OrderedDict()
        self._lines: dict[Place, _Line] = {}

    @asynccontextmanager
    async def line(self, place: Place) -> AsyncIterator[None]:
        """Have the turn to append to a stream, among this process's writers. Raises `LimitExceeded`."""
        line = self._lines.setdefault(place, _Line())
        if line.waiting >= MOST_WAITING:
            raise LimitExceeded(
                f"{MOST_WAITING} appends wait for this stream already.", hint="Try again later.", limit=MOST_WAITING
            )
        line.waiting += 1
        try:
            async with line.lock:
                yield
        finally:
            line.waiting -= 1
            if not line.waiting:
                self._lines.pop(place, None)

    def at_hand(self, place: Place) -> Page | None:
        """Return a stream as it was last seen here, where its record has not changed since."""
        page = self._pages.get(place)
        kept = self._directory.at_hand(place)
        if page is None or kept is None:
            return None
        if kept is not page.record:
            if not isinstance(kept, StreamRecord) or kept.segments != page.record.segments or kept.state != "open":
                return None
            page.record = kept
        self._pages.move_to_end(place)
        return page

    async def look(self, place: Place) -> Page:
        """Return a stream as it stands now, as the leader has it. Raises `StreamNotFound`, `StreamGone`."""
        record = await self._directory.stream(place)
        newest = await self.newest(record)
        if newest is None or newest.life != record.life or newest.deleted:
            record, newest = await self._look_again(place)
        page = self._pages.get(place)
        if page is None or page.standing != newest.standing or page.record.life != record.life:
            page = Page(record, newest.standing)
        else:
            page.record = record
        self.keep(page)
        return page

    async def _look_again(self, place: Place) -> tuple[StreamRecord, entries.Newest]:
        """Settle what a record and the newest entry do not agree on: one of them has just changed."""
        record = await self._directory.stream(place, fresh=True)
        newest = await self.newest(record)
        if newest is None or newest.life != record.life:
            return record, await self._born(record)
        if newest.deleted:
            raise self._directory.gone(record)
        return record, newest

    def keep(self, page: Page) -> None:
        place = page.record.place
        self._pages[place] = page
        self._pages.move_to_end(place)
        if len(self._pages) > _KEPT:
            self._pages.popitem(last=False)

    def forget(self, place: Place) -> None:
        self._pages.pop(place, None)

    async def known(self, page: Page, producer: Producer) -> Known | None:
        """Return a producer's last append to a stream."""
        if producer.id not in page.known:
            page.known[producer.id] = await self._last_of(page, producer)
        return page.known[producer.id]

    async def _last_of(self, page: Page, producer: Producer) -> Known | None:
        place = page.record.place
        subject = place.stored("ds", entries.NAME, entries.writer_of(producer))
        for segment in own(page.record):
            stretch = stretch_of(segment)
            newest = await self._log.newest(stretch, entries.ENTRIES)
            if newest is None:
                continue
            lasts = await self._log.lasts(stretch, segment.after, newest.sequence, kinds=("ds",))
            at = lasts.get(subject)
            if at is None:
                continue
            async with aclosing(self._log.read(stretch, after=at - 1, upto=at, wanted=(entries.ENTRIES,))) as batches:
                async for records in batches:
                    return entries.known_of(records[0])
        return None

    async def newest(self, record: StreamRecord) -> entries.Newest | None:
        """Return what the newest entry of a stream says, as the leader has it."""
        for number, segment in enumerate(own(record)):
            newest = await self._log.newest(stretch_of(segment), entries.ENTRIES)
            if newest is not None and newest.sequence > segment.after:
                return entries.newest_of(newest, segment.id, here=number == 0)
        return None

    async def _born(self, record: StreamRecord) -> entries.Newest:
        """Wait for the first entry of a stream that is being made; whoever makes it may have died at that."""
        until = time.monotonic() + _BORN_S
        while time.monotonic() < until:
            newest = await self.newest(record)
            if newest is not None and newest.life == record.life:
                return newest
            await asyncio.sleep(_LOOK_S)
        for _ in range(_TRIES):
            empty = Standing(await self.below(record), record.beginning)
            # Behind what was newest then, and only if the stream is there yet: a next life's entries are further on.
            if (await self._directory.stream(record.place, fresh=True)).life != record.life:
                break
            first = entries.draft(record, empty, Asked(None), entries.SERVICE, entries.OPENED)
            try:
                ack = await self._log.publish(record.stretch, first, guard=entries.guard(empty))
            except Conflict:
                newest = await self.newest(record)
                if newest is not None and newest.life == record.life:
                    return newest
                continue
            return entries.Newest(Standing(ack.sequence, record.beginning), record.life, False)
        raise self._directory.not_found(record.place)

    async def below(self, record: StreamRecord) -> int:
        """Return the guard of a stream's first entry: what an earlier life of its path has left."""
        newest = await self._log.newest(record.stretch, entries.ENTRIES)
        return 0 if newest is None else newest.sequence


def own(record: StreamRecord) -> list[Segment]:
    """Return the segments that a stream's own appends are in, newest first."""
    mine = [s for s in record.segments if (s.tenant, s.session) == record.place]
    return mine[::-1]
