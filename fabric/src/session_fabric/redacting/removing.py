"""Removing what a redaction has found, and finishing what was cut off while it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Final

from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.parts import Parts
from session_fabric.ports import Broker, Stretch, Wanted
from session_fabric.records import Directory, SessionRecord, stretch_of
from session_fabric.redacting.finding import Redactable, of_message
from session_fabric.redacting.forgetting import forget
from session_fabric.rules.redactions import PENDING_MS
from session_fabric.rules.segments import Segment
from session_fabric.words.errors import SessionNotFound
from session_fabric.words.events import REDACTIONS
from session_fabric.words.logs import log
from session_fabric.words.measures import PURGED
from session_fabric.words.subjects import Place

# The relay of native participants takes so many at once, and more.
_AT_ONCE: Final = 500
_ROUNDS: Final = 5


async def remove(parts: Parts, record: SessionRecord, found: Redactable, message: str | None) -> int:
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
        found = await of_message(parts, message)
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
            own = {segment.id: segment for segment in own_segments(record)}
            listed = {id: sequences for id, sequences in one.milestones if id in own}
            gone = await erase(broker, record, listed)
            for segment in own.values():
                for run in one.runs:
                    gone += await broker.log.purge(stretch_of(segment), wanted=Wanted("tok", run))
            metrics.count(PURGED, "redacted", gone)
            for session in (record.session, *record.forks):
                await _forget(broker, directory, Place(record.tenant, session), one.event)
            log.info("redaction_finished", session=record.session)
        await finished(directory, record.place, one.target)
    return min(due, default=None)


async def _forget(broker: Broker, directory: Directory, place: Place, event: str) -> None:
    """Have agents forget a session if that says the redaction: the forks that share what was redacted do."""
    found = await directory.find(place, fresh=True)
    if found is not None and found[0].state != "deleted" and await _was_said(broker, found[0].stretch, event):
        await forget(broker, directory, place)


async def _was_said(broker: Broker, to: Stretch, id: str) -> bool:
    head = await broker.log.head(to, kinds=("ev",))
    async with aclosing(broker.log.read(to, after=0, upto=head, wanted=[Wanted("ev", REDACTIONS)])) as batches:
        async for records in batches:
            if any(record.id == id for record in records):
                return True
    return False


async def finished(directory: Directory, place: Place, target: str) -> None:
    def without(record: SessionRecord) -> SessionRecord:
        left = tuple(one for one in record.redacting if one.target != target)
        return record.model_copy(update={"redacting": left})

    try:
        await directory.change(place, without)
    except SessionNotFound:
        return  # deleted meanwhile


def own_segments(record: SessionRecord) -> list[Segment]:
    return [segment for segment in record.segments if Place(segment.tenant, segment.session) == record.place]
