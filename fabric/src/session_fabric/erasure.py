"""Proving that a deleted session is gone: everything that could hold something of it is counted, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from session_fabric.parts import Parts
from session_fabric.ports import Entry
from session_fabric.records import SessionRecord, stretch_of
from session_fabric.redacting.proof import proof_hash
from session_fabric.sealed import as_stored
from session_fabric.words.subjects import KINDS, Place, parse_stored

# Buckets whose keys begin with tenant and session, by what one of their entries is.
BUCKETS: Final[Mapping[str, str]] = {
    "sf-presence": "members",
    "sf-cursors": "read_markers",
    "sf-state": "documents",
    "sf-checkpoints": "checkpoints",
    "sf-dead": "dead_letters",
}
CLAIMS: Final = "sf-claims"


class Erasure(BaseModel):
    """What a deletion has found and what it has left: `remains` is empty when nothing of the session is there.

    `forks` are sessions that need its past: with them it stays, readable through them alone. `at` is milliseconds since
    1970. `hash` is SHA-256 of the rest as JSON with sorted keys and without spaces.
    """

    model_config = ConfigDict(frozen=True)

    tenant: str
    session: str
    at: int
    by: str
    before: Mapping[str, int]
    remains: Mapping[str, int]
    forks: tuple[str, ...] = ()
    hash: str = ""

    @property
    def complete(self) -> bool:
        return not self.remains

    def hashed(self) -> Erasure:
        return self.model_copy(update={"hash": proof_hash(self)})


async def survey(parts: Parts, record: SessionRecord) -> dict[str, int]:
    """Count what the broker has of a session, wherever it may be; what there is none of is left out."""
    counts: dict[str, int] = {f"events_{kind}": 0 for kind in KINDS}
    for segment in record.segments:
        if Place(segment.tenant, segment.session) == record.place:
            for subject, events in (await parts.broker.log.subjects(stretch_of(segment))).items():
                counts[f"events_{parse_stored(subject).kind}"] += events
    counts["large_bodies"] = len(await parts.broker.blobs(record.place))
    stored = as_stored(parts.broker)
    for bucket, what in BUCKETS.items():
        counts[what] = len(await stored.bucket(bucket).entries(record.place.key()))
    counts["claims"] = len(await claims_on(parts, record.place))
    counts["subscriptions"] = len(await parts.broker.durables(record.place))
    found = await parts.directory.find(record.place, fresh=True)
    if found is not None and found[0].created == record.created:
        counts["records"] = 1
        counts["sealed_keys"] = int(found[0].sealed is not None)
    return {what: count for what, count in counts.items() if count}


async def claims_on(parts: Parts, place: Place) -> list[Entry]:
    """Return what processes hold in a session; nothing where one may not see what others hold."""
    if not parts.broker.may_mend:
        return []
    return await parts.broker.bucket(CLAIMS).entries(f"*.{place.key()}")
