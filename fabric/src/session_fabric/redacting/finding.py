"""What a redaction would remove: the events of a message in the log, and what hangs on them. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from session_fabric.parts import Parts
from session_fabric.records import SessionRecord
from session_fabric.redacting.forgetting import documents, saved
from session_fabric.rules import redactions as rules
from session_fabric.rules.fold import Fold
from session_fabric.rules.redactions import Sought
from session_fabric.under_way import runs_under_way
from session_fabric.words.errors import EventNotFound, Forbidden, InvalidRequest, MessageNotFound
from session_fabric.words.events import (
    EVENT_REDACTED,
    MESSAGE_REDACTED,
    MESSAGE_USER,
    REQUESTS,
    RUN_OVER,
    request_outcome,
)
from session_fabric.words.names import check_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record


@dataclass(slots=True)
class Redactable:
    """What would go, and what would be said of it. `types`: its events by type. `said`: where that is said already.

    `open_run`: the run that writes the message, or that answers it, and has not ended. `checkpoints`: parts of what
    agents have saved of the session and of these forks, all of which goes; `waits_for`: by session the runs under way,
    before whose end it stays. `documents`: shared documents there, at which nobody looks.
    """

    target: str
    types: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    large_bodies: int = 0
    forks: tuple[str, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    said: Offset | None = None
    open_run: str | None = None
    checkpoints: int = 0
    waits_for: dict[str, tuple[str, ...]] = field(default_factory=dict)
    documents: int = 0
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
    found = await (_of_event(parts, event) if event is not None else of_message(parts, check_id(message, "message")))
    await _own(parts, record, found)
    for run in found.runs:
        newest = await parts.newest_own(record, run)
        if newest is not None and newest.type not in RUN_OVER:
            found.open_run = run
    found.forks = tuple([name for name in record.forks if await _shares(parts, record, name, found)])
    for one in (record, *[await parts.directory.load(parts.beside(fork).place) for fork in found.forks]):
        found.checkpoints += len(await saved(parts.broker, one.place))
        found.documents += await documents(parts.broker, one.place)
        if running := await runs_under_way(parts.broker, one):
            found.waits_for[one.session] = running
    return found


async def of_message(parts: Parts, message: str) -> Redactable:
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
            raise MessageNotFound(
                f"There is no message {message!r:.80} in session {parts.place.session!r}.",
                hint="The ids of those that there are stand in the session's messages.",
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
        raise EventNotFound(
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
