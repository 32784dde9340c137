"""Who takes part in a session for good, and its closing."""

from __future__ import annotations

from typing import Final, Literal

from session_fabric.records import SessionRecord

from session_fabric_gateway.capabilities.form import Answer, Ask, Capability, Http
from session_fabric_gateway.operations import Asked


class AddParticipant(Asked):
    op: Literal["participant.add"]
    participant: str


class RemoveParticipant(Asked):
    op: Literal["participant.remove"]
    participant: str


class CloseSession(Asked):
    op: Literal["session.close"]


def _record(record: SessionRecord) -> Answer:
    return Answer("session", {"session": record.public()})


async def _add(ask: Ask, operation: AddParticipant) -> Answer:
    return _record(await ask.session.add_participant(operation.participant))


async def _remove(ask: Ask, operation: RemoveParticipant) -> Answer:
    return _record(await ask.session.remove_participant(operation.participant))


async def _close(ask: Ask, _: CloseSession) -> Answer:
    return _record(await ask.session.close())


_ONE: Final = "/participants/{participant}"
CAPABILITIES: Final = (
    Capability(AddParticipant, _add, "invite", Http("PUT", _ONE, "Have somebody take part in the session")),
    Capability(RemoveParticipant, _remove, "invite", Http("DELETE", _ONE, "Have somebody take part no more")),
    Capability(CloseSession, _close, "policy", Http("POST", "/close", "Close the session: it takes nothing more")),
)
