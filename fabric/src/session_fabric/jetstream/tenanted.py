"""What a broker has of one tenant, whatever it is and wherever: found by subjects and keys, not by what records say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from session_fabric.jetstream.api import Api
from session_fabric.jetstream.contents import count_subjects
from session_fabric.jetstream.durable import consumers_of, delete_consumers
from session_fabric.jetstream.streams import BLOB_STREAM
from session_fabric.jetstream.topology import Topology
from session_fabric.ports import Bucket
from session_fabric.words.names import escape
from session_fabric.words.subjects import (
    Place,
    blobs_of,
    is_cut,
    parse_stored,
    place_of_blob,
    place_of_key,
    plain,
    stored_of,
)

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


class Found(NamedTuple):
    """`counts`: what there is, by what it is; `kept`: what is there and outlives the tenant. `places`: the sessions
    and streams of which there is something, be there a record of them or not."""

    counts: Mapping[str, int]
    kept: Mapping[str, int]
    places: frozenset[Place]


class Tenanted:
    def __init__(self, api: Api, topology: Topology, buckets: Mapping[str, Bucket], tenant: str) -> None:
        self._api = api
        self._topology = topology
        self._buckets = buckets
        self._tenant = tenant

    async def look(self) -> Found:
        """Count all of it, from the leaders. Raises `BrokerUnavailable`."""
        counts, kept, places = Counter[str](), Counter[str](), set[Place]()
        for stream in await self._streams():
            for wanted in stored_of(self._tenant):
                for subject, events in (await count_subjects(self._api, stream, wanted)).items():
                    if is_cut(subject):  # of no session: where what is its own now left a stream, or came to one
                        kept["marks_of_moves"] += events
                        continue
                    stored = parse_stored(plain(subject))
                    counts[f"events_{stored.kind}"] += events
                    places.add(Place(stored.tenant, stored.session))
            counts["subscriptions"] += len(await consumers_of(self._api, stream, {"tenant": self._tenant}))
        for subject in await count_subjects(self._api, BLOB_STREAM, blobs_of(self._tenant)):
            counts["large_bodies"] += 1
            places.add(place_of_blob(subject))
        for bucket, what in {**_GOES, **_STAYS}.items():
            keys = await self._keys(bucket)
            (counts if bucket in _GOES else kept)[what] += len(keys)
            if bucket in _OF_SESSIONS:
                places.update(place_of_key(key) for key in keys)
        for entry in await self._buckets[_CLAIMS].entries():
            _, tenant, session, *_ = entry.key.split(".")
            if tenant == escape(self._tenant):
                counts["claims"] += 1
                places.add(place_of_key(f"{tenant}.{session}"))
        kept["own_streams"] = len(self._topology.layout.of(self._tenant))
        return Found(dict(+counts), dict(+kept), frozenset(places))

    async def delete_subscriptions(self) -> None:
        """Remove the durable subscriptions on all of the tenant's sessions, and on single ones."""
        for stream in await self._streams():
            await delete_consumers(self._api, stream, {"tenant": self._tenant})

    async def _streams(self) -> Sequence[str]:
        await self._topology.refresh()
        return [info["config"]["name"] for info in await self._topology.infos()]

    async def _keys(self, bucket: str) -> Sequence[str]:
        """Return the keys under the tenant's name, and that name where it is one itself."""
        whole = await self._buckets[bucket].get(escape(self._tenant))
        entries = await self._buckets[bucket].entries(escape(self._tenant))
        return [entry.key for entry in (whole, *entries) if entry is not None and entry.value is not None]
