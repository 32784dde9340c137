"""Read stored messages: batches by Direct Get, merged over filters; long stretches through a borrowed consumer."""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import lru_cache
from operator import attrgetter

import orjson

from session_fabric.jetstream.api import Api, ApiError, Backoff
from session_fabric.jetstream.requests import Lost, Reply, Requests
from session_fabric.ports import Stretch, Wanted
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.subjects import plain
from session_fabric.words.wire import Record

BATCH = 256
# A batch ends at this many bytes too: a reader holds one batch a filter.
BATCH_BYTES = 1024 * 1024
# From here on a pull consumer reads twice as fast as batches do, which outweighs making and removing it.
BULK = 1000
# What comes live waits in the connection behind what was asked for, five microseconds a message: so many at a time, of
# one reader at a time. With fewer it is the way to the broker and back that takes the time.
_PAGE = 512
_PAGES_AT_ONCE = 1
_ASK_PAGE = orjson.dumps({"batch": _PAGE, "no_wait": True, "max_bytes": BATCH_BYTES})
_TIMEOUT_S = 5.0
# How long to wait for a replica: it is behind by milliseconds, or, after an election, by a second or two.
_BEHIND_S = 3.0


def stored_record(segment: int, head: bytes, payload: bytes) -> Record:
    """Make a record of a Direct Get answer or of a republished message.

    The broker appends its headers behind the publisher's, in this order: Nats-Stream, Nats-Subject, Nats-Sequence,
    Nats-Time-Stamp, (Nats-Num-Pending,) Nats-Last-Sequence (server/stream.go).
    """
    lines = head[head.rindex(b"\r\nNats-Stream: ") + 2 :].split(b"\r\n")
    # Of a batch, Nats-Last-Sequence is what the batch sent before, not the subject's last: not told.
    republished = lines[4].startswith(b"Nats-Last-Sequence")
    return Record(
        segment,
        int(lines[2][15:]),
        int(lines[4][20:]) if republished else 0,
        plain(lines[1][14:].decode()),
        head,
        payload,
    )


class TooManySubjects(Lost):
    """More subjects match than nats-server answers for at once (1,024: server/stream.go, maxAllowedResponses)."""


class Batch:
    """One Direct Get batch: records in order, and how many more match."""

    def __init__(self, segment: int) -> None:
        self.records: list[Record] = []
        self.pending = 0
        self._segment = segment

    def take(self, reply: Reply) -> bool:
        status = reply.status
        if status == 204:
            head = reply.head
            at = head.find(b"\r\nNats-Num-Pending:")
            self.pending = int(head[at + 19 : head.find(b"\r\n", at + 2)]) if at >= 0 else 0
            return True
        if status == 404:
            return True
        if status == 413:
            raise TooManySubjects("The broker does not answer for so many subjects at once.")
        if status >= 400:
            raise Lost(f"The broker answered {reply.head[9:60].decode('latin-1').strip()!r} to a read.")
        self.records.append(stored_record(self._segment, reply.head, reply.payload))
        return False


class Reader:
    """The reads of one connection."""

    def __init__(self, requests: Requests, api: Api) -> None:
        self._requests = requests
        self._api = api
        self._pages = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def batch(self, to: Stretch, wanted_filter: str, first: int, limit: int) -> Batch:
        """Read up to `limit` messages from sequence `first` on; retried until a deadline."""
        body = orjson.dumps({"seq": first, "next_by_subj": wanted_filter, "batch": limit, "max_bytes": BATCH_BYTES})
        backoff = Backoff(_TIMEOUT_S)
        while True:
            batch = Batch(to.segment)
            try:
                await self._requests.many(
                    f"$JS.API.DIRECT.GET.{to.home.stream}", body, batch.take, timeout_s=backoff.replica_s()
                )
                return batch
            except Lost as lost:
                if not await backoff.wait():
                    raise BrokerUnavailable(
                        f"The broker did not answer a read of {to.home.stream}: {lost.message}"
                    ) from lost

    async def read(
        self, to: Stretch, after: int, upto: int, wanted: Sequence[Wanted], targets: Sequence[int] = ()
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read `(after, upto]` in order over all filters.

        `targets`: a sequence that each filter's read must reach; a replica that ends before is asked again.
        """
        place = to.place
        filters = [(place.stored_filter(w.kind, w.name), max(after, w.after)) for w in wanted]
        filters = filters or [(place.stored_filter(), after)]
        feeds = [
            _Feed(self, to, name, start, upto, target)
            for (name, start), target in zip(filters, targets or [0] * len(filters), strict=True)
            if start < upto
        ]
        await asyncio.gather(*(feed.more() for feed in feeds))
        if any(feed.pending > BULK for feed in feeds):
            last = after
            if len(feeds) == 1:
                last = feeds[0].records[-1].sequence
                yield feeds[0].records
            filters = [(name, max(start, last)) for name, start in filters]
            async with aclosing(self._bulk(to, filters, upto)) as pages:
                async for records in pages:
                    last = records[-1].sequence
                    yield records
            # What the consumer has left out (its replica was behind, or it went away) is read like anything else.
            feeds = [feed.again(last) for feed in feeds]
            await asyncio.gather(*(feed.more() for feed in feeds))
        async for records in _merge(feeds):
            yield records

    async def _bulk(
        self, to: Stretch, filters: Sequence[tuple[str, int]], upto: int
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Borrow an ephemeral pull consumer over all filters, a page of messages a request.

        May end early: the consumer lives on one node, and goes when its reader is away for long.
        """
        name = f"sf-read-{new_id()}"
        stream = to.home.stream
        starts = {start for _, start in filters}
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": min(starts) + 1,
            "ack_policy": "none",
            "filter_subjects": [f for f, _ in filters],
            "inactive_threshold": 30_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }
        made = await self._api.call(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})
        skip = {f: s for f, s in filters if s > min(starts)}
        pending, last = int(made.get("num_pending", 0)), min(starts)
        try:
            # One request at a time: the broker serves several in turn, a message each, out of their order.
            while pending > 0 and last < upto:
                page = _Page(to.segment)
                try:
                    async with self._pages:
                        await self._requests.pull(
                            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", _ASK_PAGE, page.take, timeout_s=_TIMEOUT_S
                        )
                except Lost as lost:
                    log.info("bulk_read_lost", stream=stream, detail=lost.message)
                    return
                if not page.records:
                    return
                pending, last = page.pending, page.records[-1].sequence
                records = page.records
                if skip or last > upto:
                    records = [
                        r
                        for r in records
                        if r.sequence <= upto
                        and not any(r.sequence <= s and matches(f, r.subject) for f, s in skip.items())
                    ]
                if records:
                    yield records
        finally:
            with suppress(ApiError, BrokerUnavailable):  # it goes by itself after 30 s without use
                await self._api.call(f"CONSUMER.DELETE.{stream}.{name}", timeout_s=1.0)


def matches(wanted_filter: str, subject: str) -> bool:
    """Say whether one of our filters (a `*` for the kind, an open end) takes in a stored subject of its session."""
    wanted_filter, subject = plain(wanted_filter), plain(subject)
    if wanted_filter.startswith("sf.*."):
        return True
    return subject.startswith(wanted_filter.rstrip("*>"))


class _Page:
    """One answer to a pull request: stored messages as a consumer delivers them, until there are no more."""

    def __init__(self, segment: int) -> None:
        self.records: list[Record] = []
        self._segment = segment
        self._pending = b"0"

    @property
    def pending(self) -> int:
        """How many more match."""
        return int(self._pending)

    def take(self, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> bool:
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<ns>.<pending>
        _, sequence, _, ns, self._pending = reply.rsplit(b".", 4)
        records = self.records
        records.append(Record(self._segment, int(sequence), 0, _text_of(subject), head, payload, ns))
        return self._pending == b"0" or len(records) >= _PAGE


@lru_cache(maxsize=4096)
def _text_of(subject: bytes) -> str:
    return plain(subject.decode())


class _Feed:
    """One filter's records in `(after, upto]`, a batch in hand."""

    def __init__(self, reader: Reader, to: Stretch, wanted_filter: str, after: int, upto: int, target: int) -> None:
        self._reader = reader
        self._to = to
        self._filter = wanted_filter
        self._after = self._start = after
        self._upto = upto
        self.target = target
        self.records: list[Record] = []
        self.pending = 1

    def again(self, after: int) -> _Feed:
        """Return a feed of the same from a later sequence on."""
        return _Feed(self._reader, self._to, self._filter, max(after, self._start), self._upto, self.target)

    async def more(self) -> bool:
        """Take the next batch in hand; False at the end."""
        behind = Backoff(_BEHIND_S)
        while self.pending and self._after < self._upto:
            batch = await self._reader.batch(self._to, self._filter, self._after + 1, BATCH)
            self.pending = batch.pending
            if batch.records:
                self._after = batch.records[-1].sequence
                self.records = [r for r in batch.records if r.sequence <= self._upto]
                if self._after < self.target:
                    self.pending = max(self.pending, 1)
                return bool(self.records)
            # Purged and expired events never come: the wait for a replica has an end.
            self.pending = int(self._after < self.target and await behind.wait())
        return False


async def _merge(feeds: Sequence[_Feed]) -> AsyncGenerator[Sequence[Record], None]:
    """Merge ordered feeds; what leaves is below the end of every batch in hand, so nothing can come before it."""
    live = [feed for feed in feeds if feed.records]
    while live:
        if len(live) == 1:
            yield live[0].records
            live[0].records = []
        else:
            bound = min(feed.records[-1].sequence for feed in live)
            parts = []
            for feed in live:
                cut = bisect_right(feed.records, bound, key=attrgetter("sequence"))
                parts.append(feed.records[:cut])
                feed.records = feed.records[cut:]
            yield list(heapq.merge(*parts, key=attrgetter("sequence")))
        live = [feed for feed in live if feed.records or await feed.more()]
