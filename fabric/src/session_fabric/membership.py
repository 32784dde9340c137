"""Who takes part in a session for good, present or not."""

from __future__ import annotations

from collections.abc import Callable

from session_fabric.parts import Parts
from session_fabric.records import SessionRecord
from session_fabric.rules.bounds import check_participants
from session_fabric.words.errors import Forbidden
from session_fabric.words.events import SESSION_PARTICIPANTS
from session_fabric.words.names import check_participant, new_id


async def add(parts: Parts, participant: str) -> SessionRecord:
    """Have somebody take part; see `Session.add_participant`."""
    check_participant(participant)

    def added(record: SessionRecord) -> tuple[str, ...]:
        own = parts.identity.participant
        if parts.identity.role == "user" and own not in record.participants:
            raise Forbidden(f"{own} does not take part in the session.", hint="Who does may add others.")
        return check_participants((*record.participants, participant))

    return await _change(parts, added)


async def remove(parts: Parts, participant: str) -> SessionRecord:
    """Have somebody take part no more; see `Session.remove_participant`."""
    check_participant(participant)
    if parts.identity.role == "user" and participant != parts.identity.participant:
        raise Forbidden("A user cannot remove others.", hint="Operators, supervisors, agents and services can.")
    return await _change(parts, lambda record: tuple(p for p in record.participants if p != participant))


async def _change(parts: Parts, edit: Callable[[SessionRecord], tuple[str, ...]]) -> SessionRecord:
    before = await parts.open_existing()
    record = await parts.directory.change(parts.place, lambda r: r.model_copy(update={"participants": edit(r)}))
    if record.participants != before.participants:
        event = {"type": SESSION_PARTICIPANTS, "participants": list(record.participants)}
        await parts.writer.append(record.stretch, event, id=new_id(), since=None, own=True)
    return record
