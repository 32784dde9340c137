"""How durable streams begin: new ones, and forks of others."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Final, NamedTuple

import orjson

from session_fabric.ports import Broker
from session_fabric.records import stretch_of
from session_fabric.rules import segments as rules
from session_fabric.rules.appends import JSON, Asked, Standing, media_type
from session_fabric.rules.segments import Segment
from session_fabric.streams import entries
from session_fabric.streams.ledger import Ledger, Page
from session_fabric.streams.records import StreamDirectory, StreamRecord, path_of
from session_fabric.streams.removing import Removers
from session_fabric.streams.wishes import DEFAULT_TYPE, Fork, Wish, check_same, check_type
from session_fabric.words.errors import (
    Conflict,
    InvalidOffset,
    InvalidRequest,
    OffsetForeign,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from session_fabric.words.positions import ZERO, Offset
from session_fabric.words.subjects import Place

_TRIES: Final = 20

# Hears of each entry: its path, the guard under which it was stored, where it is, and what it holds.
OnStored = Callable[[Place, int, Offset, bytes | None], None]


class _Past(NamedTuple):
    """What a fork has of its source."""

    source: StreamRecord
    at: Offset
    segments: tuple[Segment, ...]
    prefix: bytes | None


class Makers:
    """Makes streams. Any process may, at once with others, and finish what one that died has begun."""

    def __init__(
        self, broker: Broker, directory: StreamDirectory, ledger: Ledger, removers: Removers, stored: OnStored
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._ledger = ledger
        self._removers = removers
        self._stored = stored

    async def make(self, place: Place, wish: Wish, actor: str) -> tuple[Page, bool]:
        """See `Streams.make`."""
        for _ in range(_TRIES):
            found = await self._directory.find(place, fresh=True)
            if found is not None:
                record = found[0]
                assert isinstance(record, StreamRecord)
                if record.state == "deleted":
                    if not await self._removers.cleared(record):
                        raise StreamExists(
                            f"Stream {path_of(place)!r:.200} was deleted, and forks of it still read it.",
                            hint="Choose another path.",
                        )
                    continue
                if record.arriving:
                    raise StreamExists(
                        f"Stream {path_of(place)!r:.200} is being restored from a backup.",
                        hint="Try again when that has ended. Was it cut off? Restore again, or delete the stream.",
                    )
                try:
                    page = await self._ledger.look(place)
                except (StreamNotFound, StreamGone):
                    continue
                check_same(page, wish)
                return page, False
            page_made = await self._made(place, wish, actor)
            if page_made is not None:
                return page_made, True
        raise Conflict(f"Stream {path_of(place)!r:.200} was made and removed {_TRIES} times meanwhile.", revision=None)

    async def _made(self, place: Place, wish: Wish, actor: str) -> Page | None:
        """Make a stream where there is none; None where somebody else was first, or it was removed meanwhile."""
        if wish.fork is not None and wish.fork.source == place:
            raise self._directory.not_found(place)
        past = None if wish.fork is None else await self._past(wish.fork)
        record = await self._record(place, wish, past)
        if past is not None:
            await self._tell(record, past)
        try:
            written, made = await self._directory.add(record)
        except (StreamNotFound, StreamGone):
            made = False
        if not made:
            if past is not None:
                await self._untell(record, past)
            return None
        assert isinstance(written, StreamRecord)
        if past is not None:
            try:
                await self._tell(written, past)  # again: a deletion in between took us for a fork that had gone
            except (StreamNotFound, StreamExists):
                with suppress(StreamNotFound):
                    await self._removers.end(written, None)
                raise
        return await self._begin(written, wish, past, actor)

    async def _record(self, place: Place, wish: Wish, past: _Past | None) -> StreamRecord:
        segment = await self._directory.first_segment(place, past.segments[-1].id if past and past.segments else 0)
        now_ms = time.time_ns() // 1_000_000
        source = None if past is None else past.source
        ttl_s, expires = wish.ttl_s, (wish.expires_ms, wish.expires_at)
        if source is not None and ttl_s is None and wish.expires_ms is None:
            ttl_s, expires = source.ttl_s, (source.expires_ms, source.expires_at)
        if source is not None and wish.content_type is not None:
            check_type(wish.content_type, source.content_type)
        return StreamRecord(
            tenant=place.tenant,
            session=place.session,
            created=now_ms,
            segments=(*(past.segments if past else ()), segment),
            source=None if source is None else source.session,
            content_type=wish.content_type or (DEFAULT_TYPE if source is None else source.content_type),
            ttl_s=ttl_s,
            expires_ms=expires[0],
            expires_at=expires[1],
            ends_ms=None if ttl_s is None else now_ms + ttl_s * 1000,
            forked_at=None if past is None else str(past.at),
            forked_sub=0 if wish.fork is None else wish.fork.sub,
        )

    async def _begin(self, record: StreamRecord, wish: Wish, past: _Past | None, actor: str) -> Page | None:
        """Store a new stream's first entries; None where it was removed meanwhile."""
        standing = Standing(await self._ledger.below(record), record.beginning)
        firsts = [body for body in (past.prefix if past else None, wish.body) if body]
        asks = [Asked(body, close=wish.closed and body is firsts[-1]) for body in firsts] or [
            Asked(None, close=wish.closed)
        ]
        for asked in asks:
            type = entries.OPENED if asked.body is None and not asked.close else None
            for tried in range(_TRIES):
                draft = entries.draft(record, standing, asked, actor, type)
                try:
                    ack = await self._broker.log.publish(record.stretch, draft, guard=entries.guard(standing))
                except Conflict:
                    if tried == _TRIES - 1:
                        raise
                    # Of an earlier life something was stored late, or taken away; or of this one: it was removed.
                    newest = await self._ledger.newest(record)
                    if newest is not None and newest.life == record.life:
                        if newest.deleted or newest.standing.closed:
                            return None
                        standing = newest.standing
                    else:
                        standing = Standing(await self._ledger.below(record), standing.tail)
                        if not await self._is_there(record):
                            return None
                else:
                    at = Offset(record.stretch.segment, ack.sequence)
                    self._stored(record.place, standing.guard, at, asked.body)
                    standing = entries.stood(standing, asked, record.stretch.segment, ack.sequence)
                    break
        page = Page(record, standing)
        self._ledger.keep(page)
        return page

    async def _is_there(self, record: StreamRecord) -> bool:
        found = await self._directory.find(record.place, fresh=True)
        return found is not None and found[0].state == "open" and found[0].has(record.life)

    # --- forks ---------------------------------------------------------------------------------------

    async def _past(self, fork: Fork) -> _Past:
        try:
            page = await self._ledger.look(fork.source)
        except StreamGone as error:
            raise _deleted(fork.source) from error
        source, tail = page.record, page.standing.tail
        at = tail if fork.at is None else fork.at
        if at == ZERO:
            first = source.segments[0]
            at = Offset(first.id, first.after)
            past: tuple[Segment, ...] = ()
        else:
            if at > tail:
                raise InvalidOffset(f"Offset {at} is beyond the source's end, {tail}.", hint="Fork at an earlier one.")
            try:
                past = tuple(rules.fork(source.segments, at))
            except OffsetForeign as error:
                raise InvalidOffset(error.message, hint="Use an offset that the source gave you.") from error
        prefix = await self._prefix(page, at, fork.sub) if fork.sub else None
        return _Past(source, at, past, prefix)

    async def _prefix(self, page: Page, at: Offset, sub: int) -> bytes:
        """Return the first `sub` messages (JSON) or bytes of the entry behind an offset. Raises `InvalidRequest`."""
        body = b""
        for segment in page.record.segments:
            if segment.id < at.segment:
                continue
            after = max(segment.after, at.sequence if segment.id == at.segment else 0)
            upto = page.standing.guard if segment.upto is None else segment.upto
            if upto <= after:
                continue
            reading = self._broker.log.read(stretch_of(segment), after=after, upto=upto, wanted=(entries.ENTRIES,))
            async with aclosing(reading) as batches:
                async for records in batches:
                    body = next((r.payload for r in records if entries.is_data(r)), b"")
                    if body:
                        break
            if body:
                break
        if media_type(page.record.content_type) != JSON:
            if sub > len(body):
                raise _overshot(sub, len(body), "bytes")
            return body[:sub]
        values = orjson.loads(b"[%b]" % body)
        if sub > len(values):
            raise _overshot(sub, len(values), "messages")
        return b",".join(orjson.dumps(value) for value in values[:sub])

    async def _tell(self, record: StreamRecord, past: _Past) -> None:
        """Have the sources know their fork, so that none is removed under it."""
        for place, segments in _sources(past).items():
            try:
                await self._removers.hold(place, segments, record)
            except StreamGone as error:
                raise _deleted(place) from error

    async def _untell(self, record: StreamRecord, past: _Past) -> None:
        for place in _sources(past):
            free = await self._removers.release(place, record)
            if free is not None:
                await self._removers.cleared(free)


def _sources(past: _Past) -> dict[Place, set[int]]:
    """Return whose past it is, and which segments of theirs."""
    sources = {past.source.place: {past.source.life}}
    for segment in past.segments:
        sources.setdefault(Place(segment.tenant, segment.session), set()).add(segment.id)
    return sources


def _deleted(source: Place) -> StreamExists:
    return StreamExists(f"Stream {path_of(source)!r:.200} was deleted: it cannot be forked.", hint="Fork another one.")


def _overshot(sub: int, most: int, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"Stream-Fork-Sub-Offset is {sub}; the next append has {most} {what}.",
        hint="Fork at a later offset instead.",
    )
