"""The end of a tenant: all that it has is deleted, and the broker is looked over for anything that is left.

Sessions and durable streams go as each goes by itself (`lifecycle.delete`, `Streams.remove`). What stays: what people
did (`sf-audit`, 400 days); what is revoked, for without it revoked tokens would count again; leases of processes that
are connected, which expire; streams of the tenant's own, which are empty then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from pydantic import BaseModel, ConfigDict

from session_fabric import audit
from session_fabric.fabric import Fabric
from session_fabric.facets.oversight import check_all
from session_fabric.jetstream.tenanted import Tenanted
from session_fabric.records import BUCKET as SESSIONS
from session_fabric.records import Directory, SessionRecord, parse, spelled
from session_fabric.redacting.proof import proof_hash
from session_fabric.rules import holds
from session_fabric.streams.records import BUCKET as STREAMS
from session_fabric.streams.records import StreamRecord, is_stream
from session_fabric.streams.subscribed import BUCKET as WAKES
from session_fabric.streams.wishes import DEFAULT_TYPE
from session_fabric.tenants import BUCKET as RULES
from session_fabric.tenants import Tenants
from session_fabric.tenants import parse as parse_rules
from session_fabric.words.errors import Conflict, Forbidden, InvalidRequest, SessionGone, SessionHeld, SessionNotFound
from session_fabric.words.names import escape
from session_fabric.words.subjects import Place

# What is made meanwhile by who has not heard of it is found by looking again; who goes on making is told as left.
_ROUNDS: Final = 3
_MOST_NAMED: Final = 20

Done = Callable[[str], None]


class Offboarding(BaseModel):
    """What the deletion of a tenant has found and what it has left: `remains` is empty when nothing of it is there.

    `kept` is there and stays: acts, revocations, leases of connected processes, streams of its own. `nothing`: there
    was nothing to delete. `at` is milliseconds since 1970. `hash` is SHA-256 of the rest as JSON with sorted keys and
    without spaces.
    """

    model_config = ConfigDict(frozen=True)

    tenant: str
    at: int
    by: str
    before: Mapping[str, int]
    remains: Mapping[str, int]
    kept: Mapping[str, int]
    hash: str = ""

    @property
    def complete(self) -> bool:
        return not self.remains

    @property
    def nothing(self) -> bool:
        return not self.before


async def delete_tenant(
    fabric: Fabric, reason: str = "", *, force: bool = False, done: Done = lambda _: None
) -> Offboarding:
    """Delete all that the tenant of `fabric` has; `done` is called with each session's name and each stream's path.

    Cut off, it goes on when it is called again. `force`: also with runs under way, whose agents are told that their
    session is gone, and beside records that cannot be read. Raises `SessionHeld`, which names every hold, and
    `InvalidRequest` for such runs and records, before anything is deleted; `Forbidden` (operators and services may,
    with rights of their own at the broker), `BrokerUnavailable` (some is deleted: again).
    """
    check_all(fabric.identity)
    tenanted = fabric.tenanted()
    if tenanted is None:
        raise Forbidden(
            f"{fabric.participant} cannot look over all that a broker has of tenant {fabric.tenant!r}.",
            hint="Who has an operator's rights at a nats-server can.",
        )
    found = await tenanted.look()
    if found.counts:
        records, unreadable = await _sessions(fabric)
        await _check_holds(fabric, records)
        if not force:
            _check_readable(fabric, unreadable)
            await _check_runs(fabric)
        who, facts = fabric.participant, {"reason": reason, "had": dict(found.counts)}
        await audit.note(fabric.broker, fabric.tenant, None, who, "tenant.deleted", **facts)
    before = found.counts
    for _ in range(_ROUNDS):
        if not found.counts:
            break
        await _delete(fabric, tenanted, reason, done)
        found = await tenanted.look()
    proof = Offboarding(
        tenant=fabric.tenant,
        at=time.time_ns() // 1_000_000,
        by=fabric.participant,
        before=before,
        remains=found.counts,
        kept=found.kept,
    )
    return proof.model_copy(update={"hash": proof_hash(proof)})


async def _delete(fabric: Fabric, tenanted: Tenanted, reason: str, done: Done) -> None:
    await _empty(fabric, WAKES)
    sessions, _ = await _sessions(fabric)
    for record in sessions:
        await _delete_session(fabric, record.session, reason)
        done(record.session)
    streams = await fabric.durable_streams()
    for stream in await _streams(fabric):
        await streams.remove(stream.place, fabric.participant, reason)
        done(stream.path)
    await tenanted.delete_subscriptions()
    sessions, _ = await _sessions(fabric)
    known = {record.place for record in (*sessions, *await _streams(fabric))}
    for place in (await tenanted.look()).places - known:
        await _delete_leavings(fabric, place, reason)
    await _forget_rules(fabric)


async def _delete_session(fabric: Fabric, name: str, reason: str) -> None:
    with suppress(SessionNotFound, SessionGone):  # it went with its last fork, or will
        await fabric.session(name).delete(reason)


async def _delete_leavings(fabric: Fabric, place: Place, reason: str) -> None:
    """Delete what somebody who had not heard of it stored as its session or stream went: as one that is gone already,
    which nobody uses meanwhile. Any other would need a key where the tenant's are sealed."""
    segment = await Directory(fabric.broker).first_segment(place)
    gone = SessionRecord(
        tenant=place.tenant, session=place.session, created=segment.id // 1000, state="deleted", segments=(segment,)
    )
    if is_stream(place):
        await _put_new(fabric, STREAMS, StreamRecord(**dict(gone), content_type=DEFAULT_TYPE))
        await (await fabric.durable_streams()).remove(place, fabric.participant, reason)
    else:
        await _put_new(fabric, SESSIONS, gone)
        await _delete_session(fabric, place.session, reason)


async def _put_new(fabric: Fabric, bucket: str, record: SessionRecord) -> None:
    with suppress(Conflict):  # it has been made meanwhile
        await fabric.broker.bucket(bucket).swap(record.place.key(), spelled(record), revision=0)


async def _sessions(fabric: Fabric) -> tuple[list[SessionRecord], list[str]]:
    """Return the records of all sessions, deleted ones that forks keep too, forks before what they are of; and the keys
    of those that cannot be read."""
    records, unreadable = [], []
    for entry in await fabric.broker.bucket(SESSIONS).entries(escape(fabric.tenant)):
        if entry.value is None:
            continue
        if (record := parse(entry.value)) is None:
            unreadable.append(entry.key)
        else:
            records.append(record)
    return sorted(records, key=lambda r: (r.created, r.segments[-1].id), reverse=True), unreadable


async def _streams(fabric: Fabric) -> list[StreamRecord]:
    entries = await fabric.broker.bucket(STREAMS).entries(escape(fabric.tenant))
    records = [parse(entry.value, StreamRecord) for entry in entries if entry.value is not None]
    return sorted((r for r in records if isinstance(r, StreamRecord)), key=lambda r: (r.created, r.life), reverse=True)


async def _empty(fabric: Fabric, name: str) -> None:
    bucket = fabric.broker.bucket(name)
    for entry in await bucket.entries(escape(fabric.tenant)):
        await bucket.delete(entry.key)


async def _forget_rules(fabric: Fabric) -> None:
    """Remove what is said of the tenant as a whole; a hold that was placed meanwhile stays. Raises `SessionHeld`."""
    bucket = fabric.broker.bucket(RULES)
    entry = await bucket.get(escape(fabric.tenant))
    if entry is not None and entry.value is not None:
        holds.check("", (), parse_rules(entry.value).holds)
        await bucket.delete(entry.key, revision=entry.revision)


async def _check_holds(fabric: Fabric, records: Sequence[SessionRecord]) -> None:
    whole = (await Tenants(fabric.broker).rules(fabric.tenant)).holds
    held = [record for record in records if record.holds]
    if not whole and not held:
        return
    on_tenant = [f"the tenant ({hold.name}, by {hold.by})" for hold in whole]
    on_sessions = [f"session {r.session} ({hold.name}, by {hold.by})" for r in held for hold in r.holds]
    first = whole[0] if whole else held[0].holds[0]
    raise SessionHeld(
        f"Nothing of tenant {fabric.tenant!r} is deleted, for there are holds: {_named([*on_tenant, *on_sessions])}.",
        hint="Who may release them: `fabricctl tenant release --hold NAME`, `fabricctl session release SESSION --hold "
        "NAME`.",
        sessions=[record.session for record in held],
        hold=first.name,
        by=first.by,
        since=first.since,
        tenant=bool(whole),
    )


def _check_readable(fabric: Fabric, unreadable: list[str]) -> None:
    if unreadable:
        raise InvalidRequest(
            f"Nothing of tenant {fabric.tenant!r} is deleted, for records of sessions cannot be read, and may say that "
            f"they are held: {_named(unreadable)}.",
            hint="A later version may have written them: use that one. Else say --force (`force=True`): all others go.",
            records=unreadable,
        )


async def _check_runs(fabric: Fabric) -> None:
    runs = await fabric.live_runs()
    if runs:
        named = _named([f"{run.run} in session {run.session} ({run.agent})" for run in runs])
        raise InvalidRequest(
            f"Nothing of tenant {fabric.tenant!r} is deleted, for runs are under way: {named}.",
            hint="End them and stop its agents first, or say --force (`force=True`): they are told that it is gone.",
            runs=[run.run for run in runs],
        )


def _named(what: list[str]) -> str:
    more = len(what) - _MOST_NAMED
    return ", ".join(what[:_MOST_NAMED]) + (f", and {more} more" if more > 0 else "")
