"""Taking what a message says out of a session, which goes on: first its log says so, then what was said is removed.

In this order nothing is removed in silence, and whoever follows drops what it has at the event. Before both the
session's record says what is to be removed (`redacting`), so that what is cut off in between is finished by the
trimmer, or by who asks again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict

from session_fabric import audit
from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.parts import Parts
from session_fabric.ports import Broker, Stretch, Wanted
from session_fabric.records import Directory, SessionRecord, stretch_of
from session_fabric.rules import holds as legal
from session_fabric.rules import redactions as rules
from session_fabric.rules.fold import Fold
from session_fabric.rules.redactions import MOST_LISTED, PENDING_MS, Redacting, Sought
from session_fabric.rules.segments import Segment
from session_fabric.tenants import Tenants
from session_fabric.words.errors import Forbidden, IdConflict, InvalidRequest, MessageOpen, SessionNotFound
from session_fabric.words.events import (
    EVENT_REDACTED,
    MESSAGE_REDACTED,
    MESSAGE_USER,
    REDACTIONS,
    REQUESTS,
    RUN_OVER,
    request_outcome,
)
from session_fabric.words.logs import log
from session_fabric.words.measures import PURGED
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

# The relay of native participants takes so many at once, and more.
_AT_ONCE: Final = 500
_ROUNDS: Final = 5


class Redaction(BaseModel):
    """What a redaction has found and what it has left: `remains` is 0 when nothing of what was said is there.

    `offset` is where the log says it; `events` and `large_bodies` were there and are not; `forks` share the past and
    say it too. `again`: it had been said before. `at` is milliseconds since 1970. `hash` is SHA-256 of the rest as JSON
    with sorted keys and without spaces.
    """

    model_config = ConfigDict(frozen=True)

    tenant: str
    session: str
    target: str
    offset: str
    at: int
    by: str
    reason: str
    events: int
    large_bodies: int
    remains: int
    forks: tuple[str, ...] = ()
    again: bool = False
    hash: str = ""

    @property
    def complete(self) -> bool:
        return not self.remains

    def hashed(self) -> Redaction:
        plain = orjson.dumps(self.model_dump(exclude={"hash"}), option=orjson.OPT_SORT_KEYS)
        return self.model_copy(update={"hash": hashlib.sha256(plain).hexdigest()})


@dataclass(slots=True)
class Redactable:
    """What would go, and what would be said of it. `types`: its events by type. `said`: where that is said already.

    `open_run`: the run that writes the message, or that answers it, and has not ended.
    """

    target: str
    types: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    large_bodies: int = 0
    forks: tuple[str, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    said: Offset | None = None
    open_run: str | None = None
    milestones: dict[int, list[int]] = field(default_factory=dict, repr=False)
    deltas: dict[int, list[int]] = field(default_factory=dict, repr=False)
    runs: dict[str, None] = field(default_factory=dict, repr=False)

    @property
    def events(self) -> int:
        return sum(self.types.values())

    def take(self, record: Record) -> None:
        self.types[record.type] = self.types.get(record.type, 0) + 1
        blob = record.blob
        self.bytes += len(record.payload) if blob is None else blob.size
        self.large_bodies += blob is not None
        kept = self.deltas if record.parts.kind == "tok" else self.milestones
        kept.setdefault(record.segment, []).append(record.sequence)
        if record.run is not None and record.type != MESSAGE_USER:
            self.runs[record.run] = None


async def look(parts: Parts, message: str | None, event: Offset | str | None) -> Redactable:
    """Find what a redaction would remove; see `Session.redactable`."""
    if parts.identity.role == "user":
        raise Forbidden("A user cannot redact.", hint="Operators, supervisors, agents and services can.")
    if (message is None) == (event is None):
        raise InvalidRequest("A redaction is of a message or of an event.", hint="Name one of them.")
    record = await parts.directory.load(parts.place, fresh=True)
    found = await (_of_event(parts, event) if event is not None else _of_message(parts, check_id(message, "message")))
    await _own(parts, record, found)
    for run in found.runs:
        newest = await parts.newest_own(record, run)
        if newest is not None and newest.type not in RUN_OVER:
            found.open_run = run
    found.forks = tuple([name for name in record.forks if await _shares(parts, record, name, found)])
    return found


async def _of_message(parts: Parts, message: str) -> Redactable:
    sought, fold, found = Sought(message), Fold(), Redactable(message)
    inputs = set[str]()
    async with aclosing(parts.history.read("start", deltas="all")) as batches:
        async for records in batches:
            for record in records:
                event = record.event()
                fold.add(event)
                body = event.body
                if sought.learn(event.type, body) and record.parts.kind == "in":
                    inputs.add(str(event.offset))
                if event.type == MESSAGE_REDACTED and body.get("message") == message and found.said is None:
                    found.said, found.body = event.offset, body
                    sought.remember(body.get("calls"), body.get("requests"))
    async with aclosing(parts.history.read("start", deltas="all")) as batches:
        async for records in batches:
            for record in records:
                if sought.has(record.parts, record.type, record.event().body):
                    found.take(record)
    if found.said is None:
        left = fold.without_content(message)
        if left is None:
            raise InvalidRequest(
                f"There is no message {message!r:.80} in session {parts.place.session!r}.",
                hint="See `session.messages()` for the ids of those there are.",
            )
        found.runs |= {run.id: None for run in fold.runs.values() if run.message == message or str(run.input) in inputs}
        found.body = {"type": MESSAGE_REDACTED, "message": message, "calls": list(sought.calls)}
        found.body |= {"requests": sought.requests, "events": found.events, "left": left}
    return found


async def _of_event(parts: Parts, event: Offset | str) -> Redactable:
    """Find one event by its offset or its id; with a request to participants goes what was answered to it."""
    found, wanted, outcomes = Redactable(str(event)), str(event), set[str]()
    async with aclosing(parts.history.read("start", deltas="all")) as batches:
        async for records in batches:
            for record in records:
                if record.type == EVENT_REDACTED and wanted in _named(record.event().body):
                    found.said, found.body = record.offset, record.event().body
                    return found
                if record.parts.kind == "own" and record.parts.name in outcomes:
                    found.take(record)
                elif wanted == str(record.offset) or (record.delta is None and wanted == record.id):
                    _check_event(record)
                    found.take(record)
                    found.body = {
                        "type": EVENT_REDACTED,
                        "event": record.id,
                        "at": str(record.offset),
                        "of": record.type,
                    }
                    found.body |= {"author": record.actor, "run": record.run}
                    if record.parts.name == REQUESTS:
                        outcomes.add(request_outcome(record.id))
                        found.body |= {"requests": [record.id]}
    if not found.types:
        raise InvalidRequest(
            f"There is no event {wanted!r:.80} in session {parts.place.session!r}.", hint="Use its offset, or its id."
        )
    found.target = str(found.body["at"])
    return found


def _named(body: Mapping[str, Any]) -> tuple[object, object]:
    return body.get("at"), body.get("event")


def _check_event(record: Record) -> None:
    body = record.event().body
    message = body.get("message")
    id = message.get("id") if isinstance(message, dict) else body.get("messageId") or body.get("toolCallId")
    if id is not None:
        raise InvalidRequest(
            f"The event {record.offset} ({record.type}) is one of a message's.",
            hint=f"Redact the message: {id!r:.80}, or the one that it belongs to.",
        )
    if not rules.may_go(record.parts, record.type):
        raise InvalidRequest(
            f"The event {record.offset} ({record.type}) cannot go by itself: what comes after it relies on it.",
            hint="Redact a message or another event; or delete the session.",
        )


async def _own(parts: Parts, record: SessionRecord, found: Redactable) -> None:
    """Raise `InvalidRequest` for what stands in the past that the session shares with a living source."""
    for segment in record.segments:
        place = Place(segment.tenant, segment.session)
        if place == record.place or segment.id not in {*found.milestones, *found.deltas}:
            continue
        source = await parts.directory.find(place, fresh=True)
        if source is not None and source[0].state != "deleted":
            raise InvalidRequest(
                f"What {found.target!r:.80} says is of session {place.session!r}, of which this one is a fork.",
                hint=f"Redact it there: the forks are told. `fabricctl session redact {place.session} …`",
                session=place.session,
            )


async def _shares(parts: Parts, record: SessionRecord, fork: str, found: Redactable) -> bool:
    """Say whether a fork's past has any of what is to go."""
    other = await parts.directory.find(Place(record.tenant, fork), fresh=True)
    if other is None or other[0].state == "deleted":
        return False
    ends = {segment.id: segment.upto for segment in other[0].segments}
    left = found.body.get("left")
    first = left.get("first") if isinstance(left, dict) else found.body.get("at")
    places = [(id, min(sequences)) for id, sequences in found.milestones.items()]
    if first is not None:  # again, when nothing else is there
        places.append((Offset.parse(str(first)).segment, Offset.parse(str(first)).sequence))
    return any(id in ends and sequence <= (ends[id] or 0) for id, sequence in places)


# --- doing it -------------------------------------------------------------------------------------------


async def redact(parts: Parts, message: str | None, event: Offset | str | None, reason: str) -> Redaction:
    """Remove what a message says; see `Session.redact`."""
    rules.check_reason(reason)
    found = await look(parts, message, event)
    record = await parts.directory.load(parts.place)
    tenants = (await Tenants(parts.broker).rules(record.tenant)).holds
    for held in (record, *[await parts.directory.load(parts.beside(fork).place) for fork in found.forks]):
        legal.check(held.session, held.holds, tenants)
    if found.open_run is not None and found.said is None:
        raise MessageOpen(
            f"Run {found.open_run!r} is under way: it writes {found.target!r:.80}, or answers it.",
            hint="Interrupt it first: `session.control('interrupt', run=…)`.",
            run=found.open_run,
        )
    again = found.said is not None
    if not again or found.types:
        who, what = parts.identity.participant, "message" if event is None else "event"
        facts = {what: found.target, "reason": reason, "events": found.events, "large_bodies": found.large_bodies}
        await audit.note(parts.broker, record.tenant, record.session, who, "session.redacted", **facts)
    said = found.said or await _say(parts, record, found, reason)
    remains = await _remove(parts, record, found, message)
    parts.common.metrics.count(PURGED, "redacted", max(0, found.events - remains))
    if not remains:
        await _finished(parts.directory, parts.place, found.target)
    log.info("redacted", session=record.session, events=found.events, remains=remains)
    return Redaction(
        tenant=record.tenant,
        session=record.session,
        target=found.target,
        offset=str(said),
        at=time.time_ns() // 1_000_000,
        by=parts.identity.participant,
        reason=str(found.body.get("reason", reason)),
        events=found.events,
        large_bodies=found.large_bodies,
        remains=remains,
        forks=found.forks,
        again=again,
    ).hashed()


async def _say(parts: Parts, record: SessionRecord, found: Redactable, reason: str) -> Offset:
    """Write down what is to be removed, then say it in the log: of forks first, so that they are told when it goes."""
    own = {segment.id for segment in _own_segments(record)}
    new = Redacting(
        target=found.target,
        event=new_id("redacted-"),
        since=time.time_ns() // 1_000_000,
        milestones=tuple(
            (id, tuple(sequences[:MOST_LISTED])) for id, sequences in found.milestones.items() if id in own
        ),
        runs=tuple(found.runs) if found.deltas else (),
    )

    def begin(record: SessionRecord) -> SessionRecord:
        legal.check(record.session, record.holds)
        return record.model_copy(update={"redacting": rules.begun(record.redacting, new)})

    record = await parts.directory.change(parts.place, begin)
    event = next(one.event for one in record.redacting if one.target == found.target)
    body = {**found.body, "reason": reason}
    for fork in found.forks:
        await _append(parts.beside(fork), body, event)
    return await _append(parts, body, event)


async def _append(parts: Parts, body: Mapping[str, Any], id: str) -> Offset:
    """Say it once, in a closed session too."""
    record = await parts.directory.load(parts.place)
    try:
        return (await parts.writer.append(record.stretch, body, id=id, since=None, own=True)).offset
    except IdConflict as told:  # by somebody who asked at the same time, for a reason of their own
        return Offset.parse(str(told.facts["offset"]))


async def _remove(parts: Parts, record: SessionRecord, found: Redactable, message: str | None) -> int:
    """Remove what was found, and what came of it meanwhile; return how many events are left, as the leader has it."""
    erased: set[tuple[int, int]] = set()
    left = 0
    for _ in range(_ROUNDS):
        for sequences in (found.milestones, found.deltas):
            await erase(parts.broker, record, sequences)
        # Asked for again, the leader finds none of them: they are gone.
        left = await erase(parts.broker, record, found.milestones) + await erase(parts.broker, record, found.deltas)
        if message is None:
            return left
        erased |= _places(found)
        found = await _of_message(parts, message)
        if not left and _places(found) <= erased:  # a replica that is behind may show them a little longer
            return 0
    return left + len(_places(found) - erased)


def _places(found: Redactable) -> set[tuple[int, int]]:
    both = [*found.milestones.items(), *found.deltas.items()]
    return {(id, sequence) for id, sequences in both for sequence in sequences}


async def erase(broker: Broker, record: SessionRecord, sequences: Mapping[int, Sequence[int]]) -> int:
    """Remove events by segment and sequence; return how many were there."""
    removed = 0
    for segment in record.segments:
        of_it = sequences.get(segment.id, ())
        for at in range(0, len(of_it), _AT_ONCE):
            removed += await broker.log.erase(stretch_of(segment), of_it[at : at + _AT_ONCE])
    return removed


# --- finishing what was cut off -------------------------------------------------------------------------


async def finish(
    broker: Broker, directory: Directory, record: SessionRecord, now_ms: int, metrics: Metrics = NOT_COUNTED
) -> int | None:
    """Finish redactions whose process is gone; return when to look again (milliseconds since 1970), None: never.

    One whose event was not stored has not begun: it is forgotten. `broker` may be the one below the seals.
    """
    due: list[int] = []
    for one in record.redacting:
        if now_ms < one.since + PENDING_MS:
            due.append(one.since + PENDING_MS)
            continue
        if await _was_said(broker, record.stretch, one.event):
            own = {segment.id: segment for segment in _own_segments(record)}
            listed = {id: sequences for id, sequences in one.milestones if id in own}
            gone = await erase(broker, record, listed)
            for segment in own.values():
                for run in one.runs:
                    gone += await broker.log.purge(stretch_of(segment), wanted=Wanted("tok", run))
            metrics.count(PURGED, "redacted", gone)
            log.info("redaction_finished", session=record.session)
        await _finished(directory, record.place, one.target)
    return min(due, default=None)


async def _was_said(broker: Broker, to: Stretch, id: str) -> bool:
    head = await broker.log.head(to, kinds=("ev",))
    async with aclosing(broker.log.read(to, after=0, upto=head, wanted=[Wanted("ev", REDACTIONS)])) as batches:
        async for records in batches:
            if any(record.id == id for record in records):
                return True
    return False


async def _finished(directory: Directory, place: Place, target: str) -> None:
    def without(record: SessionRecord) -> SessionRecord:
        left = tuple(one for one in record.redacting if one.target != target)
        return record.model_copy(update={"redacting": left})

    try:
        await directory.change(place, without)
    except SessionNotFound:
        return  # deleted meanwhile


def _own_segments(record: SessionRecord) -> list[Segment]:
    return [segment for segment in record.segments if Place(segment.tenant, segment.session) == record.place]
