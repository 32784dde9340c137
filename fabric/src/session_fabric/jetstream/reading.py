"""Read stored messages: batches by Direct Get, merged over filters; long stretches through a borrowed consumer."""

from __future__ import annotations

import asyncio
import heapq
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import cached_property, lru_cache
from operator import attrgetter

import orjson

from session_fabric.jetstream.api import Api, ApiError, Backoff
from session_fabric.jetstream.contents import stored_message
from session_fabric.jetstream.requests import Lost, Reply, Requests
from session_fabric.ports import Stretch, Wanted
from session_fabric.rules.helpings import FEW, Helpings
from session_fabric.words.delivered import Delivered, Gathering, Message
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.subjects import plain
from session_fabric.words.wire import Record

# A batch ends at this many bytes too: a reader holds one batch a filter.
BATCH_BYTES = 1024 * 1024
# From here on a pull consumer is borrowed: it reads twice as fast as batches do. Making and removing it outweighs that
# from 1,000 on for the reader, and holds up what others publish to the same stream: beside floods of catch-up on 3,000
# a tenth of their tokens was stored 4 ms late.
BULK = 5000
# What comes live waits in the connection behind what was asked for, two microseconds a message: so many at a time, of
# one reader at a time. With fewer it is the way to the broker and back that takes the time.
_PAGE = 1024
_PAGES_AT_ONCE = 1
_ASK_PAGE = orjson.dumps({"batch": _PAGE, "no_wait": True, "max_bytes": BATCH_BYTES})
_TIMEOUT_S = 5.0
# How long to wait for a replica: it is behind by milliseconds, or, after an election, by a second or two.
_BEHIND_S = 3.0


@lru_cache(maxsize=16_384)
def _subject(line: bytes) -> str:
    """Read the header Nats-Subject. One text for all events under it: what is found by it is found sooner."""
    return plain(line[14:].decode())


def stored_record(segment: int, head: bytes, payload: bytes) -> Record:
    """Make a record of a Direct Get answer or of a republished message.

    The broker appends its headers behind the publisher's, in this order: Nats-Stream, Nats-Subject, Nats-Sequence,
    Nats-Time-Stamp, (Nats-Num-Pending,) Nats-Last-Sequence (server/stream.go).
    """
    own = head.rindex(b"\r\nNats-Stream: ")
    lines = head[own + 2 :].split(b"\r\n")
    # Of a batch, Nats-Last-Sequence is what the batch sent before, not the subject's last: not told.
    republished = lines[4].startswith(b"Nats-Last-Sequence")
    return Record(
        segment,
        int(lines[2][15:]),
        int(lines[4][20:]) if republished else 0,
        _subject(lines[1]),
        head,
        payload,
        lines[3][17:],
        own + 2,
    )


class TooManySubjects(Lost):
    """More subjects match than nats-server answers for at once (1,024: server/stream.go, maxAllowedResponses)."""


class Batch:
    """One Direct Get batch: records in order, and how many more match.

    They are made when they are asked for: what is live waits in the same stream of bytes behind those that come.
    """

    def __init__(self, segment: int) -> None:
        self.pending = 0
        self._segment = segment
        self._replies: list[Reply] = []

    @cached_property
    def records(self) -> list[Record]:
        """What has come; to be asked for when all has."""
        return [stored_record(self._segment, reply.head, reply.payload) for reply in self._replies]

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
        self._replies.append(reply)
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
        backoff = Backoff(_TIMEOUT_S, only_node=self._requests.of_only_node)
        while True:
            batch = Batch(to.segment)
            try:
                await self._requests.many(
                    f"$JS.API.DIRECT.GET.{to.home.stream}", body, batch.take, timeout_s=backoff.replica_s()
                )
                if len(batch.records) >= FEW:  # half a millisecond of work, and what is made of them is as much again
                    await asyncio.sleep(0)
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
        helpings = Helpings()
        feeds = [
            _Feed(self, to, name, start, upto, target, helpings)
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
            given = time.monotonic()
            yield records
            helpings.eaten(time.monotonic() - given)

    async def check_gone(self, to: Stretch, sequence: int) -> None:
        """Raise `BrokerUnavailable` for a message that the leader has and no replica has shown: what is behind it may
        have been left out too. What was purged or has expired never comes."""
        if await stored_message(self._api, to.home.stream, {"seq": sequence}) is not None:
            raise BrokerUnavailable(f"A replica of {to.home.stream} has been behind the leader for {_BEHIND_S:g} s.")

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
        ahead: asyncio.Task[Gathering | None] | None = None
        if int(made.get("num_pending", 0)) and min(starts) < upto:
            ahead = asyncio.create_task(self._page(to, name))
        try:
            while ahead is not None:
                page, ahead = await ahead, None
                if page is None or not page.rows:
                    return
                records: Sequence[Record] = Delivered(to.segment, page.rows)
                # One request at a time: the broker serves several in turn, a message each, out of their order. The
                # next is on its way while what is here is dealt with: a reader holds two pages.
                if page.pending and records[-1].sequence < upto:
                    ahead = asyncio.create_task(self._page(to, name))
                if skip or records[-1].sequence > upto:
                    records = [
                        r
                        for r in records
                        if r.sequence <= upto
                        and not any(r.sequence <= s and matches(f, r.subject) for f, s in skip.items())
                    ]
                if records:
                    yield records
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            with suppress(ApiError, BrokerUnavailable):  # it goes by itself after 30 s without use
                await self._api.call(f"CONSUMER.DELETE.{stream}.{name}", timeout_s=1.0)

    async def _page(self, to: Stretch, consumer: str) -> Gathering | None:
        """Take a page from a consumer; None where it does not come."""
        page, stream = Gathering(), to.home.stream

        def take(messages: Sequence[Message]) -> bool:
            page.take(messages)
            return not page.pending or len(page.rows) >= _PAGE

        try:
            async with self._pages:
                await self._requests.pull(
                    f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", _ASK_PAGE, take, timeout_s=_TIMEOUT_S
                )
        except Lost as lost:
            log.info("bulk_read_lost", stream=stream, detail=lost.message)
            return None
        return page


def matches(wanted_filter: str, subject: str) -> bool:
    """Say whether one of our filters (a `*` for the kind, an open end) takes in a stored subject of its session."""
    wanted_filter, subject = plain(wanted_filter), plain(subject)
    if wanted_filter.startswith("sf.*."):
        return True
    return subject.startswith(wanted_filter.rstrip("*>"))


class _Feed:
    """One filter's records in `(after, upto]`, a batch in hand."""

    def __init__(
        self,
        reader: Reader,
        to: Stretch,
        wanted_filter: str,
        after: int,
        upto: int,
        target: int,
        helpings: Helpings,
    ) -> None:
        self._reader = reader
        self._to = to
        self._filter = wanted_filter
        self._after = self._start = after
        self._upto = upto
        self._helpings = helpings
        self.target = target
        self.records: list[Record] = []
        self.pending = 1

    def again(self, after: int) -> _Feed:
        """Return a feed of the same from a later sequence on."""
        after = max(after, self._start)
        return _Feed(self._reader, self._to, self._filter, after, self._upto, self.target, self._helpings)

    async def more(self) -> bool:
        """Take the next batch in hand; False at the end."""
        behind = Backoff(_BEHIND_S)
        while self.pending and self._after < self._upto:
            most = min(self._helpings.most, self._upto - self._after)  # there are no more sequences than that
            batch = await self._reader.batch(self._to, self._filter, self._after + 1, most)
            self.pending = batch.pending
            if batch.records:
                self._after = batch.records[-1].sequence
                self.records = [r for r in batch.records if r.sequence <= self._upto]
                if self._after < self.target:
                    self.pending = max(self.pending, 1)
                return bool(self.records)
            self.pending = int(self._after < self.target)
            if self.pending and not await behind.wait():
                await self._reader.check_gone(self._to, self.target)
                self.pending = 0
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
