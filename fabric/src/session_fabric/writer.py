"""Appending: who writes, under what name it is stored, and what a repeated id means."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from session_fabric.ports import Ack, Log, Stretch, Wanted
from session_fabric.rules.inputs import check_input
from session_fabric.rules.routing import authorize, destination
from session_fabric.words.arguments import check_json
from session_fabric.words.errors import IdConflict, InvalidEvent, TooLarge
from session_fabric.words.events import Draft
from session_fabric.words.names import check_id, check_participant, new_id
from session_fabric.words.parsing import body_type, read_json
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import GATEWAY_WRITER, Kind
from session_fabric.words.wire import Record

# Eight times the broker's default max_payload: what does not fit a message goes to the stream of large bodies.
MAX_BODY_BYTES = 8 * 1024 * 1024


class Appended(NamedTuple):
    """Where an event is stored; `duplicate`: it was there, and nothing was written."""

    offset: Offset
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """Who appends. A gateway writes under its own token and names the participant in a header."""

    tenant: str
    participant: str
    gateway: bool = False

    def __post_init__(self) -> None:
        check_participant(self.participant)

    @property
    def role(self) -> str:
        return self.participant.partition(":")[0]

    @property
    def writer(self) -> str:
        return GATEWAY_WRITER if self.gateway else self.participant


class Parsed(NamedTuple):
    type: str
    body: Mapping[str, Any]
    raw: bytes


def parse_body(body: Mapping[str, Any] | bytes) -> Parsed:
    """Check a body and return it with its bytes. Raises `InvalidEvent`, `TooLarge`."""
    raw = body if isinstance(body, bytes) else check_json(body, "An event's body")
    try:
        parsed = read_json(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidEvent(f"An event's body must be JSON: {error}.", hint="Send one JSON object.") from error
    check_size(raw, "body")
    return Parsed(body_type(parsed), parsed, raw)


def check_size(raw: bytes, what: str) -> None:
    """Raise `TooLarge` for what does not fit an event."""
    if len(raw) > MAX_BODY_BYTES:
        raise TooLarge(
            f"The {what} has {len(raw)} bytes; {MAX_BODY_BYTES} is the most.",
            hint="Store it elsewhere and append a link.",
            limit=MAX_BODY_BYTES,
        )


class Writer:
    """Appends to one session as one participant."""

    def __init__(self, log: Log, identity: Identity) -> None:
        self._log = log
        self.identity = identity

    def draft(self, body: Parsed, kind: Kind, name: str, id: str, run: str | None = None) -> Draft:
        return Draft(body.type, body.raw, id, kind, name, self.identity.participant, self.identity.writer, run)

    async def append(
        self,
        to: Stretch,
        body: Mapping[str, Any] | bytes,
        *,
        id: str | None,
        since: Offset | None,
        own: bool = False,
        run: str | None = None,
    ) -> Appended:
        """Store one event, once for its id. `own`: the fabric itself writes, on the participant's behalf."""
        parsed = parse_body(body)
        if not own:
            authorize(parsed.type, self.identity.role)
        check_input(parsed.type, parsed.body)
        kind, name = destination(parsed.type, parsed.body, run)
        draft = self.draft(parsed, kind, name, check_id(new_id() if id is None else id, "event id"), run)
        if since is not None and id is not None:
            stored = await self._stored(to, draft, since.sequence if since.segment == to.segment else 0)
            if stored is not None:
                return self._same(to, draft, stored, own)
        ack = await self._log.publish(to, draft)
        if ack.duplicate:
            return await self._duplicate(to, draft, ack, own)
        return Appended(Offset(to.segment, ack.sequence), False)

    async def _stored(self, to: Stretch, draft: Draft, after: int) -> Record | None:
        """Look for an event's id behind a sequence: the broker forgets ids after two minutes."""
        head = await self._log.head(to)
        wanted = (Wanted(draft.kind, draft.name),)
        async with aclosing(self._log.read(to, after=after, upto=head, wanted=wanted)) as batches:
            async for records in batches:
                for record in records:
                    if record.id == draft.id:
                        return record
        return None

    async def _duplicate(self, to: Stretch, draft: Draft, ack: Ack, own: bool) -> Appended:
        """Compare with what the id was first used for."""
        first = ack.sequence
        async with aclosing(self._log.read(to, after=first - 1, upto=first)) as batches:
            async for records in batches:
                for record in records:
                    return self._same(to, draft, record, own)
        return Appended(Offset(to.segment, first), True)  # removed since: nothing to compare with

    def _same(self, to: Stretch, draft: Draft, stored: Record, own: bool) -> Appended:
        offset = Offset(to.segment, stored.sequence)
        # What the fabric says on somebody's behalf is the same whoever had it said.
        if not own and stored.actor != draft.actor:
            raise IdConflict(
                f"The id {draft.id!r} was used by {stored.actor}, at {offset}.",
                hint="An id names one event of one participant: use a new id.",
                id=draft.id,
                offset=str(offset),
            )
        if stored.payload != draft.body and orjson.loads(stored.body) != orjson.loads(draft.body):
            raise IdConflict(
                f"The id {draft.id!r} was used with another body, at {offset}.",
                hint="An id names one event: send the same body again, or use a new id.",
                id=draft.id,
                offset=str(offset),
            )
        return Appended(offset, True)
