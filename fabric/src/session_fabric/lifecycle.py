"""The life of a session beyond its events: forks of it, and its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from session_fabric import audit
from session_fabric.erasure import BUCKETS, CLAIMS, Erasure, claims_on, survey
from session_fabric.parts import Parts
from session_fabric.ports import Broker, Entry, Home
from session_fabric.records import SessionRecord, gone, not_found, stretch_of
from session_fabric.rules import holds
from session_fabric.rules import segments as rules
from session_fabric.rules.bounds import check_shares
from session_fabric.sealed import as_stored
from session_fabric.tenants import Tenants
from session_fabric.words.errors import (
    Conflict,
    Forbidden,
    IdConflict,
    OffsetForeign,
    OffsetGone,
    SessionExists,
    SessionGone,
    SessionNotFound,
)
from session_fabric.words.events import SESSION_CLOSED, SESSION_FORKED
from session_fabric.words.measures import PURGED
from session_fabric.words.names import new_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place


async def fork(parts: Parts, at: Offset, name: str | None) -> Parts:
    """Make a session that shares the past up to and including `at`; see `Session.fork`."""
    source = await parts.directory.load(parts.place)
    if at < source.floor_offset:
        raise OffsetGone(f"What is before {at} is gone.", hint="Fork at a later offset.", offset=str(at))
    if at > await parts.history.head():
        raise OffsetForeign(f"Offset {at} is beyond the session's end.", hint="Fork at an event.", offset=str(at))
    new = parts.beside(new_id("fork-") if name is None else name)
    past = tuple(rules.fork(source.segments, at))
    check_shares(0, len(past) + 1)
    if await parts.directory.find(new.place, fresh=True) is not None:
        raise SessionExists(f"There is a session {new.place.session!r} already.", hint="Choose another name.")
    # First the sources learn of it, then it exists: a source is never removed under a fork.
    sources = {Place(segment.tenant, segment.session) for segment in past}

    async def tell() -> Offset:
        """Return up to where the past is gone by now."""
        for place in sources:
            await parts.directory.change(place, lambda record: _with_fork(record, new.place.session))
        floor = (await parts.directory.load(parts.place, fresh=True)).floor_offset
        if at < floor:
            raise OffsetGone(f"What is before {at} is gone.", hint="Fork at a later offset.", offset=str(at))
        return floor

    floor = await tell()
    now_us = time.time_ns() // 1000
    home = await parts.broker.log.home(new.place)
    id = rules.next_segment_id(now_us, past[-1].id)
    below = await parts.broker.log.head(stretch_of(_segment(id, home, new.place, 0)))
    record = SessionRecord(
        tenant=new.place.tenant,
        session=new.place.session,
        created=now_us // 1000,
        labels=source.labels,
        segments=(*past, _segment(id, home, new.place, below)),
        source=parts.place.session,
        floor=(floor.segment, floor.sequence),
        participants=tuple(parts.maker()) or source.participants,
    )
    record, made = await parts.directory.add(record)
    if not made:
        raise SessionExists(f"There is a session {new.place.session!r} already.", hint="Choose another name.")
    try:
        # Again: a deletion in between took us for a fork that had gone, and retention did not know what we need.
        floor = await tell()
    except (SessionNotFound, SessionGone, OffsetGone):
        await parts.directory.remove(new.place)
        raise
    if floor > record.floor_offset:
        await parts.directory.change(
            new.place, lambda r: r.model_copy(update={"floor": tuple(max(floor, r.floor_offset))})
        )
    body = {"type": SESSION_FORKED, "source": parts.place.session, "at": str(at)}
    await new.writer.append(record.stretch, body, id=f"forked-{id}", since=None, own=True)
    return new


async def close(parts: Parts) -> SessionRecord:
    """End the session; see `Session.close`."""
    if parts.identity.role == "user":
        raise Forbidden("A user cannot close a session.", hint="Operators, supervisors, agents and services can.")
    record = await parts.directory.load(parts.place)
    if record.state == "closed":
        return record
    # Said before it is so: whoever reads that it is closed finds the event that says so.
    body, id = {"type": SESSION_CLOSED}, f"closed-{record.segments[-1].id}"
    try:
        await parts.writer.append(record.stretch, body, id=id, since=None, own=True)
    except IdConflict:  # somebody has used that id for something else, so as to keep the session open
        await parts.writer.append(record.stretch, body, id=new_id(), since=None, own=True)
    return await parts.directory.change(
        parts.place, lambda r: r.model_copy(update={"state": "closed"}) if r.state == "open" else r
    )


async def delete(parts: Parts, reason: str = "") -> Erasure:
    """Remove the session with all that it holds; see `Session.delete`."""
    was = await _deletable(parts)
    before = await survey(parts, was)
    record = await _end(parts, was, reason, before)
    return Erasure(
        tenant=was.tenant,
        session=was.session,
        at=time.time_ns() // 1_000_000,
        by=parts.identity.participant,
        before=before,
        remains=await survey(parts, record),
        forks=record.forks,
    ).hashed()


async def delete_counted(parts: Parts, reason: str, had: Mapping[str, int]) -> None:
    """As `delete`, for whom has counted what the session has, and looks himself for what is left afterwards."""
    await _end(parts, await _deletable(parts), reason, had)


async def _deletable(parts: Parts) -> SessionRecord:
    found = await parts.directory.find(parts.place, fresh=True)
    if found is None:
        raise not_found(parts.place)
    tenants = (await Tenants(parts.broker).rules(parts.place.tenant)).holds
    holds.check(found[0].session, found[0].holds, tenants)
    return found[0]


async def _end(parts: Parts, was: SessionRecord, reason: str, before: Mapping[str, int]) -> SessionRecord:
    """Write down that it is deleted, then do it; return its record as it was last."""
    dead = [name for name in was.forks if not await _forked(parts, name)]
    facts = {"reason": reason, "had": before, "kept_for": [name for name in was.forks if name not in dead]}
    await audit.note(parts.broker, was.tenant, was.session, parts.identity.participant, "session.deleted", **facts)

    def deleted(record: SessionRecord) -> SessionRecord:
        holds.check(record.session, record.holds)
        forks = tuple(name for name in record.forks if name not in dead)
        return record.model_copy(update={"state": "deleted", "forks": forks})

    record = await parts.directory.change(parts.place, deleted)
    if not record.forks:
        await _erase(parts, record)  # also what an earlier deletion that was cut off has left
    elif was.state == "deleted":
        raise gone(was)
    return record


async def _forked(parts: Parts, name: str) -> bool:
    found = await parts.directory.find(Place(parts.place.tenant, name), fresh=True)
    return found is not None and any(Place(s.tenant, s.session) == parts.place for s in found[0].segments)


async def _erase(parts: Parts, record: SessionRecord) -> None:
    """Remove what a deleted session has left. Another process may be at it, and be done, and the next life of the name
    may begin at any moment: whatever goes was seen before it was seen that the record is still this life's."""
    own, log, metrics = record.stretch, parts.broker.log, parts.common.metrics
    last = await log.head(own)
    if await _revision(parts, record) is None:
        return
    metrics.count(PURGED, "erased", await log.purge(own, upto=last))
    await parts.broker.delete_blobs(record.place)
    await parts.broker.delete_durables(record.place)
    revision = await _forget(parts, record)
    while revision is not None:
        try:
            await parts.directory.remove(record.place, revision=revision)
            break
        except Conflict:
            revision = await _revision(parts, record)
    # A writer that had not heard of it yet may have stored something meanwhile; a next life may have begun, too.
    last = await log.head(own)
    again = await parts.directory.find(record.place, fresh=True)
    late = await log.purge(own, upto=last if again is None else min(last, again[0].segments[-1].after))
    metrics.count(PURGED, "erased", late)
    for place in {Place(s.tenant, s.session) for s in record.segments[:-1]} - {record.place}:
        await _release(parts, place, record.session)


async def _revision(parts: Parts, record: SessionRecord) -> int | None:
    """Return the revision of a deleted session's record; None where it is gone, or a next life's."""
    found = await parts.directory.find(record.place, fresh=True)
    if found is None or found[0].state != "deleted" or not found[0].has(record.segments[-1].id):
        return None
    return found[1]


async def _forget(parts: Parts, record: SessionRecord) -> int | None:
    """Remove what buckets hold of a deleted session; return its record's revision, None where it is not its own."""
    stored = as_stored(parts.broker)
    while True:
        found = [(stored.bucket(name), one) for name in BUCKETS for one in await _entries(stored, name, record.place)]
        found += [(parts.broker.bucket(CLAIMS), one) for one in await claims_on(parts, record.place)]
        revision = await _revision(parts, record)
        if revision is None or not found:
            return revision
        for bucket, one in found:
            with suppress(Conflict):  # somebody who had not heard of it has changed it: found again
                await bucket.delete(one.key, revision=one.revision)


async def _entries(stored: Broker, bucket: str, place: Place) -> Sequence[Entry]:
    return await stored.bucket(bucket).entries(place.key())


async def _release(parts: Parts, place: Place, fork: str) -> None:
    """Tell a source that a fork is gone; the last one takes a deleted source with it."""
    try:
        source = await parts.directory.change(place, lambda r: _without_fork(r, fork))
    except SessionNotFound:
        return
    if source.state == "deleted" and not source.forks:
        await _erase(parts, source)


def _segment(id: int, home: Home, place: Place, after: int) -> rules.Segment:
    return rules.Segment(id, home.stream, home.epoch, place.tenant, place.session, after)


def _with_fork(record: SessionRecord, fork: str) -> SessionRecord:
    if fork in record.forks:
        return record
    if record.state == "deleted" and not record.forks:
        raise gone(record)  # it is being erased
    check_shares(len(record.forks) + 1, 0)
    return record.model_copy(update={"forks": (*record.forks, fork)})


def _without_fork(record: SessionRecord, fork: str) -> SessionRecord:
    return record.model_copy(update={"forks": tuple(name for name in record.forks if name != fork)})
