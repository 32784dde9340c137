"""What a broker has of one tenant, whatever it is and wherever: found by subjects and keys, not by what records say."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, NamedTuple

from session_fabric.jetstream.api import Api, Backoff
from session_fabric.jetstream.contents import count_subjects, stored_message
from session_fabric.jetstream.durable import consumers_of, delete_consumers
from session_fabric.jetstream.reading import Reader
from session_fabric.jetstream.streams import BLOB_STREAM
from session_fabric.jetstream.topology import Topology
from session_fabric.ports import Bucket, Home, Stretch
from session_fabric.rules.unended import Unended
from session_fabric.words.names import escape
from session_fabric.words.subjects import (
    Place,
    blobs_of,
    is_cut,
    parse_stored,
    place_of_blob,
    place_of_key,
    plain,
    respelled,
    stored_of,
    tenant_filter,
)
from session_fabric.words.wire import Record

# Buckets whose keys begin with a tenant, by what one of their entries is.
_GOES: Final[Mapping[str, str]] = {
    "sf-sessions": "sessions",
    "sf-streams": "streams",
    "sf-wakes": "wakes",
    "sf-presence": "members",
    "sf-cursors": "read_markers",
    "sf-state": "documents",
    "sf-checkpoints": "checkpoints",
    "sf-dead": "dead_letters",
    "sf-tenants": "rules",
}
_STAYS: Final[Mapping[str, str]] = {"sf-audit": "acts", "sf-revoked": "revocations", "sf-leases": "processes"}
_CLAIMS: Final = "sf-claims"
_OF_SESSIONS: Final = ("sf-presence", "sf-cursors", "sf-state", "sf-checkpoints", "sf-dead")
_BATCH: Final = 1000
# How long to wait for a replica that is behind.
_BEHIND_S: Final = 3.0
_NEVER: Final = math.inf


class Found(NamedTuple):
    """`counts`: what there is, by what it is; `kept`: what is there and outlives the tenant. `places`: what there is
    of each session and stream of which there is something beside a record, be there one or not."""

    counts: Mapping[str, int]
    kept: Mapping[str, int]
    places: Mapping[Place, Mapping[str, int]]


class Tenanted:
    def __init__(
        self, api: Api, reader: Reader, topology: Topology, buckets: Mapping[str, Bucket], tenant: str
    ) -> None:
        self._api = api
        self._reader = reader
        self._topology = topology
        self._buckets = buckets
        self._tenant = tenant
        # Somebody else may have made one under such a name, which carries nothing of ours.
        self._subscribed = ({"tenant": tenant}, f"sf={tenant}=")

    async def look(self) -> Found:
        """Count all of it, from the leaders. Raises `BrokerUnavailable`."""
        counts, kept, places = Counter[str](), Counter[str](), defaultdict[Place, Counter[str]](Counter)
        for stream in await self._streams():
            for wanted in stored_of(self._tenant):
                for subject, events in (await count_subjects(self._api, stream, wanted)).items():
                    if is_cut(subject):  # of no session: where what is its own now left a stream, or came to one
                        kept["marks_of_moves"] += events
                        continue
                    stored = parse_stored(plain(subject))
                    places[Place(stored.tenant, stored.session)][f"events_{stored.kind}"] += events
            counts["subscriptions"] += len(await consumers_of(self._api, stream, *self._subscribed))
        for subject in await count_subjects(self._api, BLOB_STREAM, blobs_of(self._tenant)):
            places[place_of_blob(subject)]["large_bodies"] += 1
        for bucket, what in {**_GOES, **_STAYS}.items():
            keys = await self._keys(bucket)
            if bucket in _OF_SESSIONS:
                for key in keys:
                    places[place_of_key(key)][what] += 1
            else:
                (counts if bucket in _GOES else kept)[what] += len(keys)
        for entry in await self._buckets[_CLAIMS].entries(f"*.{escape(self._tenant)}"):
            places[place_of_key(entry.key.partition(".")[2])]["claims"] += 1
        for of_place in places.values():
            counts.update(of_place)
        kept["own_streams"] = len(self._topology.layout.of(self._tenant))
        return Found(dict(+counts), dict(+kept), places)

    async def runs(self, begins: Mapping[Place, int]) -> Mapping[Place, Unended]:
        """Return what is stored of the runs of these sessions, each in the life that begins behind a sequence. Raises
        `BrokerUnavailable`."""
        found = defaultdict[Place, Unended](Unended)
        seen = defaultdict[Place, int](int)
        for stream in await self._streams():
            for own in (False, True):
                wanted = respelled(tenant_filter(self._tenant, "own"), own=own)
                async for record in self._stored(stream, wanted):
                    place = Place(record.parts.tenant, record.parts.session)
                    # What moves from one stream to another keeps its sequence, and is in both for a while.
                    if record.sequence > max(begins.get(place, _NEVER), seen[place]):
                        seen[place] = record.sequence
                        found[place].take(record.parts.name, record.type, record.actor)
        return found

    async def _stored(self, stream: str, wanted: str) -> AsyncGenerator[Record, None]:
        """Yield what one replica of a stream has under these subjects, up to what the leader has by now."""
        newest = await stored_message(self._api, stream, {"last_by_subj": wanted})
        if newest is None:
            return
        of, first = Stretch(Home(stream, ""), Place("", ""), 0), 1
        behind = Backoff(_BEHIND_S)
        while first <= newest.sequence:
            batch = await self._reader.batch(of, wanted, first, _BATCH)
            for record in batch.records:
                yield record
            if batch.records:
                first = batch.records[-1].sequence + 1
            elif not await behind.wait():
                await self._reader.check_gone(of, newest.sequence)
                return

    async def delete_subscriptions(self) -> None:
        """Remove the durable subscriptions on all of the tenant's sessions, and on single ones."""
        for stream in await self._streams():
            await delete_consumers(self._api, stream, *self._subscribed)

    async def _streams(self) -> Sequence[str]:
        await self._topology.refresh()
        return [info["config"]["name"] for info in await self._topology.infos()]

    async def _keys(self, bucket: str) -> Sequence[str]:
        """Return the keys under the tenant's name, and that name where it is one itself."""
        whole = await self._buckets[bucket].get(escape(self._tenant))
        entries = await self._buckets[bucket].entries(escape(self._tenant))
        return [entry.key for entry in (whole, *entries) if entry is not None and entry.value is not None]
