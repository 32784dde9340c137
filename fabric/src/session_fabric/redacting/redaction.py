"""Taking what a message says out of a session, which goes on: first its log says so, then what was said is removed.

In this order nothing is removed in silence, and whoever follows drops what it has at the event. Before both the
session's record says what is to be removed (`redacting`), so that what is cut off in between is finished by the
trimmer, or by who asks again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from session_fabric import audit
from session_fabric.parts import Parts
from session_fabric.records import SessionRecord
from session_fabric.redacting.finding import Redactable, look
from session_fabric.redacting.forgetting import Forgotten, forget
from session_fabric.redacting.proof import Redaction
from session_fabric.redacting.removing import finished, own_segments, remove
from session_fabric.rules import holds as legal
from session_fabric.rules import redactions as rules
from session_fabric.rules.redactions import MOST_LISTED, Redacting
from session_fabric.tenants import Tenants
from session_fabric.words.errors import IdConflict, MessageOpen
from session_fabric.words.logs import log
from session_fabric.words.measures import PURGED
from session_fabric.words.names import new_id
from session_fabric.words.positions import Offset


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
            hint="Interrupt it first, or wait until it has ended.",
            run=found.open_run,
        )
    again = found.said is not None
    if not again or found.types or found.checkpoints:
        who, what = parts.identity.participant, "message" if event is None else "event"
        facts = {what: found.target, "reason": reason, "events": found.events, "large_bodies": found.large_bodies}
        facts |= {"checkpoints": found.checkpoints}
        await audit.note(parts.broker, record.tenant, record.session, who, "session.redacted", **facts)
    said = found.said or await _say(parts, record, found, reason)
    remains = await remove(parts, record, found, message)
    forgotten = {name: await _forget(parts, name) for name in (record.session, *found.forks)}
    parts.common.metrics.count(PURGED, "redacted", max(0, found.events - remains))
    if not remains:
        await finished(parts.directory, parts.place, found.target)
    left = sum(one.left for one in forgotten.values())
    log.info("redacted", session=record.session, events=found.events, remains=remains + left)
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
        remains=remains + left,
        forks=found.forks,
        checkpoints=sum(one.removed for one in forgotten.values()),
        checkpoints_left=left,
        waits_for={name: one.waits_for for name, one in forgotten.items() if one.left},
        documents=found.documents,
        again=again,
    ).hashed()


async def _say(parts: Parts, record: SessionRecord, found: Redactable, reason: str) -> Offset:
    """Write down what is to be removed, then say it in the log: of forks first, so that they are told when it goes."""
    own = {segment.id for segment in own_segments(record)}
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


async def _forget(parts: Parts, session: str) -> Forgotten:
    return await forget(parts.broker, parts.directory, parts.beside(session).place)


async def _append(parts: Parts, body: Mapping[str, Any], id: str) -> Offset:
    """Say it once, in a closed session too."""
    record = await parts.directory.load(parts.place)
    try:
        return (await parts.writer.append(record.stretch, body, id=id, since=None, own=True)).offset
    except IdConflict as told:  # by somebody who asked at the same time, for a reason of their own
        return Offset.parse(str(told.facts["offset"]))
