"""Who is there, and what a device shows of itself."""

from __future__ import annotations

from typing import Final, Literal

from session_fabric.presence import Shown, Who
from session_fabric.rules.presence import check_data, check_status

from session_fabric_gateway.capabilities.form import Answer, Ask, Capability
from session_fabric_gateway.codes import NotOpen
from session_fabric_gateway.operations import Asked, Object


class ShowPresence(Asked):
    """What is left out stays as it is, and a status of null is none; `leave` takes the device away."""

    op: Literal["presence"]
    data: Object | None = None
    status: str | None = None
    leave: bool = False


async def _presence(ask: Ask, operation: ShowPresence) -> Answer:
    connection, session = ask.connection, ask.session.name
    assert connection is not None
    data = None if operation.data is None else check_data(operation.data)
    status = check_status(operation.status)
    opened = connection.opened(session)
    if opened is not None:
        await opened.done.wait()  # asked for in one go with `open`
    if opened is None or opened is not connection.opened(session):
        raise NotOpen(f"This connection does not have session {session!r} open.", hint="Open it first.")
    presence = ask.gateway.presence
    if operation.leave:
        if opened.shown is not None:
            presence.leave(opened.shown, at_once=True)
            leaver, opened.shown = opened.shown, None
            await presence.settled(leaver)
        return Answer("ok", {})
    if opened.shown is None:
        opened.shown = Who(ask.session.place, ask.grant.participant, connection.device)
        presence.join(opened.shown, Shown(data or {}, status))
    else:
        was = presence.shows(opened.shown) or Shown({})
        kept = status if "status" in operation.model_fields_set else was.status
        presence.update(opened.shown, Shown(was.data if data is None else data, kept))
    await presence.settled(opened.shown)
    return Answer("ok", {})


CAPABILITIES: Final = (Capability(ShowPresence, _presence, "presence"),)
