"""The end of a tenant: all that it has is deleted, and the broker is looked over for anything that is left.

Sessions and durable streams go as each goes by itself (`lifecycle.delete`, `Streams.remove`). What stays: what people
did (`sf-audit`, 400 days); what is revoked, for without it revoked tokens would count again; leases of processes that
are connected, which expire; streams of the tenant's own, which are empty then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict

from session_fabric import audit
from session_fabric.fabric import Fabric
from session_fabric.facets.oversight import check_all
from session_fabric.jetstream.tenanted import Found, Tenanted
from session_fabric.records import BUCKET as SESSIONS
from session_fabric.records import Directory, SessionRecord, parse, spelled
from session_fabric.redacting.proof import proof_hash
from session_fabric.rules import holds
from session_fabric.streams.records import BUCKET as STREAMS
from session_fabric.streams.records import StreamRecord, fork_name, is_stream
from session_fabric.streams.subscribed import BUCKET as WAKES
from session_fabric.streams.wishes import DEFAULT_TYPE
from session_fabric.tenants import BUCKET as RULES
from session_fabric.tenants import Tenants
from session_fabric.tenants import parse as parse_rules
from session_fabric.words.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    SessionGone,
    SessionHeld,
    SessionNotFound,
    StreamNotFound,
)
from session_fabric.words.names import escape
from session_fabric.words.subjects import Place

# What is made meanwhile by who has not heard of it is found by looking again; who goes on making is told as left.
_ROUNDS: Final = 3
_MOST_NAMED: Final = 20
# As many as keep one broker busy.
_AT_ONCE: Final = 32

T = TypeVar("T")
R = TypeVar("R", bound=SessionRecord)


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
    fabric: Fabric,
    reason: str = "",
    *,
    force: bool = False,
    of: Callable[[int], None] = lambda _: None,
    done: Callable[[str], None] = lambda _: None,
) -> Offboarding:
    """Delete all that the tenant of `fabric` has; `done` is called with each session's name and each stream's path,
    `of` with how many these are by now.

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
            await _check_runs(fabric, tenanted, records)
        who, facts = fabric.participant, {"reason": reason, "had": dict(found.counts)}
        await audit.note(fabric.broker, fabric.tenant, None, who, "tenant.deleted", **facts)
    before, deleting = found.counts, _Deleting(fabric, tenanted, reason, of, done)
    for _ in range(_ROUNDS):
        if not found.counts:
            break
        await deleting.round(found)
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


class _Deleting:
    """Deletes, a few at once, forks before what they are of, with what all have in common read once."""

    def __init__(
        self, fabric: Fabric, tenanted: Tenanted, reason: str, of: Callable[[int], None], done: Callable[[str], None]
    ) -> None:
        self._fabric = fabric
        self._tenanted = tenanted
        self._reason = reason
        self._of = of
        self._done = done
        self._total = 0

    async def round(self, found: Found) -> None:
        """Delete what there is; what is stored meanwhile may be left."""
        fabric = self._fabric
        await _empty(fabric, WAKES)
        sessions, _ = await _sessions(fabric)
        streams = await _streams(fabric)
        self._total += len(sessions) + len(streams)
        self._of(self._total)

        async def delete_session(record: SessionRecord) -> None:
            had = {**found.places.get(record.place, {}), "records": 1, "sealed_keys": int(record.sealed is not None)}
            await self._delete_session(record.session, had)
            self._done(record.session)

        for wave in waves(sessions, lambda record: record.session):
            await _each(wave, delete_session)
        durable = await fabric.durable_streams()

        async def delete_stream(record: StreamRecord) -> None:
            with suppress(StreamNotFound):  # it went with its last fork
                await durable.remove(record.place, fabric.participant, self._reason)
            self._done(record.path)

        for of_streams in waves(streams, fork_name):
            await _each(of_streams, delete_stream)
        await self._tenanted.delete_subscriptions()
        left = (await self._tenanted.look()).places
        sessions, _ = await _sessions(fabric)
        known = {record.place for record in (*sessions, *await _streams(fabric))}
        await _each(left.keys() - known, lambda place: self._delete_leavings(place, left[place]))
        await _forget_rules(fabric)

    async def _delete_session(self, name: str, had: Mapping[str, int]) -> None:
        with suppress(SessionNotFound, SessionGone):  # it went with its last fork, or will
            await self._fabric.delete_counted(name, {what: count for what, count in had.items() if count}, self._reason)

    async def _delete_leavings(self, place: Place, had: Mapping[str, int]) -> None:
        """Delete what somebody who had not heard of it stored as its session or stream went: as one that is gone
        already, which nobody uses meanwhile. Any other would need a key where the tenant's are sealed."""
        fabric = self._fabric
        segment = await Directory(fabric.broker).first_segment(place)
        gone = SessionRecord(
            tenant=place.tenant, session=place.session, created=segment.id // 1000, state="deleted", segments=(segment,)
        )
        if is_stream(place):
            await _put_new(fabric, STREAMS, StreamRecord(**dict(gone), content_type=DEFAULT_TYPE))
            await (await fabric.durable_streams()).remove(place, fabric.participant, self._reason)
        else:
            await _put_new(fabric, SESSIONS, gone)
            await self._delete_session(place.session, had)


async def _each(things: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
    """Do it to each, a few at a time. Raises what the first one raises, once those under way have been cut off."""
    left = iter(things)

    async def work() -> None:
        for thing in left:
            await act(thing)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None


def waves(records: Iterable[R], name: Callable[[R], str]) -> Sequence[Sequence[R]]:
    """Sort records into waves, in which forks come before what they are of. They have to come in that order; `name`:
    by which a fork is known."""
    wave_of, found = dict[str, int](), list[list[R]]()
    for record in records:
        wave = 1 + max((wave_of[fork] for fork in record.forks if fork in wave_of), default=-1)
        wave_of[name(record)] = wave
        if wave == len(found):
            found.append([])
        found[wave].append(record)
    return found


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


async def _check_runs(fabric: Fabric, tenanted: Tenanted, records: Sequence[SessionRecord]) -> None:
    begins = {record.place: max(record.begin, 0) for record in records if record.state != "deleted"}
    found = await tenanted.runs(begins)
    runs = [(run, place.session, actor) for place, unended in found.items() for run, actor in unended.runs]
    if runs:
        named = _named([f"{run} in session {session} ({actor})" for run, session, actor in sorted(runs)])
        raise InvalidRequest(
            f"Nothing of tenant {fabric.tenant!r} is deleted, for runs are under way: {named}.",
            hint="End them and stop its agents first, or say --force (`force=True`): they are told that it is gone.",
            runs=[run for run, _, _ in sorted(runs)],
        )


def _named(what: list[str]) -> str:
    more = len(what) - _MOST_NAMED
    return ", ".join(what[:_MOST_NAMED]) + (f", and {more} more" if more > 0 else "")
