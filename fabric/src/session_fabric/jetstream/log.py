"""Sessions' logs on JetStream streams."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

import orjson

from session_fabric.jetstream.api import Api, ApiError, Backoff
from session_fabric.jetstream.blobs import Blobs, whole_size
from session_fabric.jetstream.contents import count_subjects, stored_message
from session_fabric.jetstream.live import Tapped, hear, live_subjects, takes_records
from session_fabric.jetstream.publishing import publish
from session_fabric.jetstream.reading import Batch, Reader, TooManySubjects
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.recent import Recent
from session_fabric.jetstream.removing import Removals
from session_fabric.jetstream.requests import Lost, Requests
from session_fabric.jetstream.topology import Topology, here, spelled
from session_fabric.ports import Ack, Guard, Home, Stretch, Wanted
from session_fabric.rules.layout import Lodged
from session_fabric.rules.newest import Newest
from session_fabric.words.errors import BrokerUnavailable, Conflict
from session_fabric.words.events import BlobRef, Draft
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Kind, Place, parse_stored, plain
from session_fabric.words.wire import MSG_ID, Record, message_id, stored_headers

# A quarter of the default max_payload of 1 MiB: headers, and batches of the largest, still fit.
INLINE_LIMIT: Final = 256 * 1024
_EXPECTED_STREAM: Final = "Nats-Expected-Stream"
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"


class JetStreamLog:
    def __init__(self, connection: Connection, requests: Requests, api: Api, topology: Topology, blobs: Blobs) -> None:
        self._connection = connection
        self._requests = requests
        self._api = api
        self._topology = topology
        self._blobs = blobs
        self._reader = Reader(requests, api)
        self._removals = Removals(api, topology, blobs)
        self._recent = Recent(self._newest_below)

    async def home(self, place: Place) -> Home:
        await self._topology.to_read(place)
        return self._topology.home(place)

    def home_at_hand(self, place: Place) -> Home | None:
        return self._topology.home(place) if self._topology.counts else None

    async def _here(self, to: Stretch) -> Stretch:
        """Return a stretch as the broker has it now: sessions move from stream to stream, and keep their sequences."""
        return here(await self._topology.to_read(to.place), to)

    # --- writing ----------------------------------------------------------------------------------

    async def publish(
        self,
        to: Stretch,
        draft: Draft,
        *,
        guard: Guard | None = None,
        timeout_s: float = 5.0,
        ttl_s: int | None = None,
    ) -> Ack:
        if len(draft.body) > INLINE_LIMIT:
            return await self._publish_apart(to, draft, guard, timeout_s, ttl_s)
        # Where its session is kept; and again, where that was another stream before it was confirmed.
        topology, backoff = self._topology, Backoff(timeout_s)
        at = topology.at_hand(to.place) or await topology.to_write(to.place, backoff)
        while True:
            if at.moves:
                first = await self._recent.sequence(at, to, message_id(to.place, to.segment, draft.id))
                if first is not None:
                    return Ack(first, True)
            ack = await self._publish_at(at, to, draft, guard, backoff, ttl_s)
            # What was known may have become old meanwhile: then the event may stand where nobody looks for it.
            now = topology.at_hand(to.place) or await topology.to_write(to.place, backoff)
            if now.stream == at.stream:
                return ack
            at = now

    async def _publish_apart(
        self, to: Stretch, draft: Draft, guard: Guard | None, timeout_s: float, ttl_s: int | None
    ) -> Ack:
        """Store a large body by itself, and an event that refers to it."""
        draft = await self._claim_check(to, draft)
        try:
            ack = await self.publish(to, draft, guard=guard, timeout_s=timeout_s, ttl_s=ttl_s)
        except Conflict:
            await self._discard(to, draft)
            raise
        if ack.duplicate and not await self._is_stored(to, ack.sequence, draft):
            await self._discard(to, draft)
        return ack

    async def _publish_at(
        self, at: Lodged, to: Stretch, draft: Draft, guard: Guard | None, backoff: Backoff, ttl_s: int | None
    ) -> Ack:
        place = spelled(at, to.place)
        headers = stored_headers(draft, to.place, to.segment)
        if ttl_s is not None:
            headers["Nats-TTL"] = f"{ttl_s}s"
        if guard is not None:
            headers[_EXPECTED] = str(guard.sequence)
            headers[_EXPECTED_SUBJECT] = place.stored_filter(guard.kind, guard.name)
        if at.moves:
            headers[_EXPECTED_STREAM] = at.stream
        subject = place.stored(draft.kind, draft.name, draft.writer)
        try:
            return await publish(self._requests, subject, draft.body, headers, backoff)
        except Conflict as conflict:
            if guard is None:
                raise
            return await self._our_own(to, draft, guard, conflict)

    async def _our_own(self, to: Stretch, draft: Draft, guard: Guard, conflict: Conflict) -> Ack:
        """Find out whether this very event had been stored before the guard failed: by an earlier try, say."""
        wanted = [Wanted(draft.kind, draft.name)]
        message = message_id(to.place, to.segment, draft.id)
        upto = await self.head(to, kinds=(draft.kind,))
        # Stored under this guard it stands behind what the guard names.
        async with aclosing(self.read(to, after=guard.sequence, upto=upto, wanted=wanted)) as batches:
            async for records in batches:
                for record in records:
                    if record.header(MSG_ID) == message:
                        return Ack(record.sequence, True)
        newest = await self.newest(to, Wanted(guard.kind, guard.name))
        raise Conflict(
            f"The newest event of {guard.kind}/{guard.name} is not {guard.sequence}: another writer was first.",
            hint="Read it and decide again.",
            revision=newest.sequence if newest else 0,
        ) from conflict

    async def _claim_check(self, to: Stretch, draft: Draft) -> Draft:
        name = new_id()
        await self._blobs.put(to.place, name, draft.body)
        ref = BlobRef(len(draft.body), hashlib.sha256(draft.body).hexdigest(), name)
        return draft._replace(blob=ref, body=orjson.dumps({"type": draft.type, "blob": name}))

    async def _is_stored(self, to: Stretch, sequence: int, draft: Draft) -> bool:
        """Say whether it is this try's body that an event refers to, and not an earlier one's."""
        to = await self._here(to)
        record = await stored_message(self._api, to.home.stream, {"seq": sequence})
        return record is not None and record.blob == draft.blob

    async def _discard(self, to: Stretch, draft: Draft) -> None:
        """Remove a body that no event refers to; at the latest it goes with its session."""
        if draft.blob is not None:
            with suppress(ApiError, BrokerUnavailable):
                await self._blobs.delete(to.place, draft.blob.name)

    # --- removing ---------------------------------------------------------------------------------

    async def purge(self, to: Stretch, *, wanted: Wanted | None = None, upto: int | None = None) -> int:
        return await self._removals.purge(to, wanted=wanted, upto=upto)

    async def erase(self, to: Stretch, sequences: Sequence[int]) -> int:
        return await self._removals.erase(to, sequences)

    # --- reading ----------------------------------------------------------------------------------

    async def newest(self, to: Stretch, wanted: Wanted) -> Record | None:
        to = await self._here(to)
        return await self._last(to, to.place.stored_filter(wanted.kind, wanted.name))

    async def head(self, to: Stretch, *, kinds: Sequence[Kind] = ()) -> int:
        to = await self._here(to)
        newest = await asyncio.gather(*(self._last(to, wanted) for wanted in _filters(to, kinds)))
        return max((record.sequence for record in newest if record), default=0)

    async def end(self, to: Stretch) -> int:
        to = await self._here(to)
        info = await self._api.call(f"STREAM.INFO.{to.home.stream}")
        return int(info["state"]["last_seq"])

    async def _last(self, to: Stretch, wanted_filter: str) -> Record | None:
        return await stored_message(self._api, to.home.stream, {"last_by_subj": wanted_filter}, to.segment)

    async def lasts(self, to: Stretch, after: int, upto: int, *, kinds: Sequence[Kind] = ()) -> Mapping[str, int]:
        to = await self._here(to)
        backoff = Backoff(5.0, only_node=self._requests.of_only_node)
        while after < upto:
            try:
                records = await self._multi_last(to, after, upto, kinds, backoff)
                if any(r.sequence == upto for r in records):
                    return {r.subject: r.sequence for r in records}
                gone = await self.end(to) >= upto  # else whoever answers is a leader of before
                if gone and await stored_message(self._api, to.home.stream, {"seq": upto}) is None:
                    # Purged or expired since it was named; no replica will ever show it. What is newest now can.
                    upto = await self.head(to, kinds=kinds)
                    continue
                why = "a replica is behind the leader"
            except TooManySubjects:
                return await self._lasts_read(to, after, upto, kinds)
            except Lost as lost:
                why = lost.message
            if not await backoff.wait():
                raise BrokerUnavailable(f"The newest events of a session could not be checked: {why}")
        return {}

    async def _multi_last(
        self, to: Stretch, after: int, upto: int, kinds: Sequence[Kind], backoff: Backoff
    ) -> Sequence[Record]:
        """Return the last record of each subject up to a sequence, as some replica has them."""
        body = {"multi_last": _filters(to, kinds), "seq": after + 1, "up_to_seq": upto, "no_hdr": True}
        batch = Batch(to.segment)
        await self._requests.many(
            f"$JS.API.DIRECT.GET.{to.home.stream}", orjson.dumps(body), batch.take, timeout_s=backoff.replica_s()
        )
        return [r for r in batch.records if r.sequence > after]

    async def _lasts_read(self, to: Stretch, after: int, upto: int, kinds: Sequence[Kind]) -> Mapping[str, int]:
        """Find the last of each subject by reading: a check has few events to look at, whatever was before."""
        wanted = [Wanted(kind) for kind in kinds]
        lasts: dict[str, int] = {}
        targets = await self._targets(to, wanted)
        async with aclosing(self._reader.read(to, after, upto, wanted, targets)) as batches:
            async for records in batches:
                lasts.update((record.subject, record.sequence) for record in records)
        return lasts

    async def read(
        self, to: Stretch, *, after: int, upto: int, wanted: Sequence[Wanted] = ()
    ) -> AsyncGenerator[Sequence[Record], None]:
        to = await self._here(to)
        targets = await self._targets(to, wanted)
        async with aclosing(self._reader.read(to, after, upto, wanted, targets)) as batches:
            async for records in batches:
                async with aclosing(self._blobs.brought(to.place, records)) as parts:
                    async for whole in parts:
                        yield whole

    async def _targets(self, to: Stretch, wanted: Sequence[Wanted]) -> Sequence[int]:
        """Return how far the read of each filter must come at least, so that a replica that is behind is known.

        That is the newest event there is of each, from the leader: a replica that shows it, or anything beyond
        what is to be read, has all before it. With one replica there is nothing to be behind of, unless a stream is
        divided: what copies a part of it answers in its name.
        """
        if not self._topology.replicated and not self._topology.divided:
            return ()
        filters = [to.place.stored_filter(w.kind, w.name) for w in wanted] or [to.place.stored_filter()]
        newest = await asyncio.gather(*(self._last(to, f) for f in filters))
        return [record.sequence if record else 0 for record in newest]

    async def read_back(
        self,
        to: Stretch,
        *,
        before: int,
        limit: int,
        most_bytes: int | None = None,
        wanted: Sequence[Wanted] = (),
    ) -> AsyncGenerator[Sequence[Record], None]:
        kept = await self._newest_below(to, before, limit, most_bytes, wanted)
        async with aclosing(self._blobs.brought(to.place, kept)) as parts:
            async for whole in parts:
                yield whole

    async def _newest_below(
        self,
        to: Stretch,
        before: int,
        limit: int,
        most_bytes: int | None = None,
        wanted: Sequence[Wanted] = (),
    ) -> Sequence[Record]:
        """Return what `read_back` reads, with claim checks in place of the large bodies."""
        to = await self._here(to)
        # JetStream reads forwards only: look through windows that grow, and keep what is newest.
        kept: list[Record] = []
        width, upto = max(64, 4 * limit), before - 1
        targets = await self._targets(to, wanted)
        window = Newest(limit, most_bytes)
        while upto > 0 and not window.full:
            after = max(0, upto - width)
            window = Newest(limit - len(kept), window.left_bytes)
            async with aclosing(self._reader.read(to, after, upto, wanted, targets)) as batches:
                async for records in batches:
                    for record in records:
                        window.take(record, whole_size(record))
            kept = [*window.records, *kept]
            upto, width = after, width * 8
        return kept

    async def whole(self, place: Place, record: Record) -> None:
        await self._blobs.bring(place, record)

    async def runs_with_deltas(self, to: Stretch) -> Mapping[str, int]:
        runs: dict[str, int] = {}
        for subject, messages in (await self.subjects(to, "tok")).items():
            run = parse_stored(subject).name
            runs[run] = runs.get(run, 0) + messages
        return runs

    async def subjects(self, to: Stretch, kind: Kind | None = None) -> Mapping[str, int]:
        to = await self._here(to)
        found = await count_subjects(self._api, to.home.stream, to.place.stored_filter(kind))
        return {plain(subject): count for subject, count in found.items()}

    # --- live -------------------------------------------------------------------------------------

    async def listen(self, to: Stretch, sink: Callable[[Record], None], *, kinds: Sequence[Kind] = ()) -> Tapped:
        def arrived(record: Record) -> None:
            if not self._topology.divided or not self._late(to.place, record):
                sink(record)

        return await hear(self._connection, live_subjects(to, kinds), takes_records(to, arrived))

    def _late(self, place: Place, record: Record) -> bool:
        """Say whether an event was stored where its session is no more: nobody was told that it is stored."""
        return self._topology.lodged(place).too_late(record.header("Nats-Stream") or "", record.sequence)


def _filters(to: Stretch, kinds: Sequence[Kind]) -> list[str]:
    return [to.place.stored_filter(kind) for kind in kinds] or [to.place.stored_filter()]
