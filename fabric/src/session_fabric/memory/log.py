"""The log, as one connection sees it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from session_fabric.memory.link import Link
from session_fabric.memory.server import Server
from session_fabric.memory.store import STREAM, Arrival, Row
from session_fabric.ports import Ack, Guard, Home, Listening, Stretch, Wanted
from session_fabric.rules.newest import Newest
from session_fabric.words.events import BlobRef, Draft
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import Record, stored_headers

# Larger bodies are stored apart (docs/protocol.md, section 5).
INLINE_BYTES: Final = 256 * 1024
BATCH: Final = 256


class MemoryLog:
    def __init__(self, server: Server, link: Link) -> None:
        self._server = server
        self._link = link

    async def home(self, place: Place) -> Home:
        await self._turn()
        return Home(STREAM, self._server.epoch)

    def home_at_hand(self, place: Place) -> Home | None:
        return None

    async def publish(
        self,
        to: Stretch,
        draft: Draft,
        *,
        guard: Guard | None = None,
        timeout_s: float = 5.0,
        ttl_s: int | None = None,
    ) -> Ack:
        await self._link.wait(timeout_s)
        now = await self._turn()
        draft = self._check_in(to.place, draft)
        arrival = Arrival(
            place=to.place,
            segment=to.segment,
            kind=draft.kind,
            name=draft.name,
            subject=to.place.stored(draft.kind, draft.name, draft.writer),
            headers=stored_headers(draft, to.place, to.segment),
            payload=draft.body,
            guard=guard,
            ttl_s=ttl_s,
        )
        sequence, row = self._server.store.put(arrival, now)
        if row is not None:
            self._server.stored(row)
        return Ack(sequence, row is None)

    async def head(self, to: Stretch, *, kinds: Sequence[Kind] = ()) -> int:
        await self._turn()
        rows = reversed(self._server.store.session(to.place))
        return next((row.sequence for row in rows if not kinds or row.kind in kinds), 0)

    async def whole(self, place: Place, record: Record) -> None:
        await self._turn()
        ref = record.blob
        body = self._server.blobs.get(place, {}).get(ref.name) if ref else None
        if body is not None:
            record.payload = body

    async def end(self, to: Stretch) -> int:
        await self._turn()
        return self._server.store.last

    async def newest(self, to: Stretch, wanted: Wanted) -> Record | None:
        await self._turn()
        for row in reversed(self._server.store.session(to.place)):
            if row.wanted((wanted,)):
                return row.stored(to.segment)
        return None

    async def lasts(self, to: Stretch, after: int, upto: int, *, kinds: Sequence[Kind] = ()) -> Mapping[str, int]:
        await self._turn()
        rows = self._server.store.between(to.place, after, upto)
        return {row.subject: row.sequence for row in rows if not kinds or row.kind in kinds}

    async def read(
        self, to: Stretch, *, after: int, upto: int, wanted: Sequence[Wanted] = ()
    ) -> AsyncGenerator[Sequence[Record], None]:
        await self._turn()
        rows = [row for row in self._server.store.between(to.place, after, upto) if row.wanted(wanted)]
        async for batch in self._batches(rows, to):
            yield batch

    async def read_back(
        self,
        to: Stretch,
        *,
        before: int,
        limit: int,
        most_bytes: int | None = None,
        wanted: Sequence[Wanted] = (),
    ) -> AsyncGenerator[Sequence[Record], None]:
        await self._turn()
        rows = [row for row in self._server.store.below(to.place, before) if row.wanted(wanted)]
        newest = Newest(limit, most_bytes)
        for row in rows[-limit:]:
            record = self._whole(row, to)
            newest.take(record, len(record.payload))
        async for batch in self._batches(rows[len(rows) - len(newest.records) :], to):
            yield batch

    async def runs_with_deltas(self, to: Stretch) -> Mapping[str, int]:
        await self._turn()
        runs: dict[str, int] = {}
        for row in self._server.store.session(to.place):
            if row.kind == "tok":
                runs[row.name] = runs.get(row.name, 0) + 1
        return runs

    async def listen(self, to: Stretch, sink: Callable[[Record], None], *, kinds: Sequence[Kind] = ()) -> Listening:
        await self._turn()

        def hand(row: Row) -> None:
            if not kinds or row.kind in kinds:
                sink(row.live(to.segment))

        return self._server.live.add(to.place, self._link, hand)

    async def purge(self, to: Stretch, *, wanted: Wanted | None = None, upto: int | None = None) -> int:
        await self._turn()
        store = self._server.store
        rows = store.session(to.place) if upto is None else store.between(to.place, 0, upto)
        return store.remove([row for row in rows if wanted is None or row.wanted((wanted,))])

    async def subjects(self, to: Stretch, kind: Kind | None = None) -> Mapping[str, int]:
        await self._turn()
        rows = self._server.store.session(to.place)
        return Counter(row.subject for row in rows if kind in (None, row.kind))

    async def erase(self, to: Stretch, sequences: Sequence[int]) -> int:
        await self._turn()
        wanted = set(sequences)
        rows = [row for row in self._server.store.session(to.place) if row.sequence in wanted]
        for row in rows:
            if (blob := row.stored(to.segment).blob) is not None:
                self._server.blobs.get(to.place, {}).pop(blob.name, None)
        return self._server.store.remove(rows)

    async def _turn(self) -> float:
        """Let others have a turn, as a round trip would; then the connection must be up."""
        await asyncio.sleep(0)
        self._link.check()
        return self._server.now()

    async def _batches(self, rows: Sequence[Row], to: Stretch) -> AsyncGenerator[Sequence[Record], None]:
        for start in range(0, len(rows), BATCH):
            if start:
                await self._turn()
            batch = [self._whole(row, to) for row in rows[start : start + BATCH] if not row.gone]
            if batch:
                yield batch

    def _check_in(self, place: Place, draft: Draft) -> Draft:
        """Store a large body apart, under its hash: a retry finds it there."""
        size = len(draft.body)
        if size <= INLINE_BYTES:
            return draft
        digest = sha256(draft.body).hexdigest()
        self._server.blobs.setdefault(place, {})[digest] = draft.body
        return draft._replace(body=b"{}", blob=BlobRef(size, digest, digest))

    def _whole(self, row: Row, to: Stretch) -> Record:
        record = row.stored(to.segment)
        blob = record.blob
        body = None if blob is None else self._server.blobs.get(row.place, {}).get(blob.name)
        return record if body is None else row.stored(to.segment, body)
