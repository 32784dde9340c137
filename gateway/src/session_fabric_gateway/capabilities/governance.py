"""How long a session is kept, legal holds on it, and taking out what its messages say."""

from __future__ import annotations

from typing import Any, Final, Literal

from session_fabric import Kept

from session_fabric_gateway.admission import forbidden
from session_fabric_gateway.capabilities.form import Answer, Ask, Capability, Http
from session_fabric_gateway.operations import Asked, Object


class GetRetention(Asked):
    op: Literal["retention"]


class SetRetention(Asked):
    """`retention`: what is said of this session; see `session_fabric.rules.retention`."""

    op: Literal["retention.set"]
    retention: Object


class Hold(Asked):
    op: Literal["hold"]
    hold: str
    reason: str


class Release(Asked):
    op: Literal["release"]
    hold: str


class Redact(Asked):
    """Of a message by its id, or of one other event by its offset or its id."""

    op: Literal["redact"]
    reason: str
    message: str | None = None
    target: str | None = None


def _kept(ask: Ask, kept: Kept) -> Answer:
    fields: dict[str, Any] = {
        "retention": kept.retention.model_dump(),
        "session": dict(kept.own),
        "tenant": dict(kept.tenant),
    }
    if ask.grant.role != "user":  # why somebody's lawyers want it kept is none of theirs
        fields |= {
            "holds": [hold.model_dump() for hold in kept.holds],
            "tenant_holds": [hold.model_dump() for hold in kept.tenant_holds],
        }
    return Answer("retention", fields)


async def _retention(ask: Ask, _: GetRetention) -> Answer:
    return _kept(ask, await ask.session.retention())


async def _set_retention(ask: Ask, operation: SetRetention) -> Answer:
    return _kept(ask, await ask.session.set_retention(**operation.retention))


async def _hold(ask: Ask, operation: Hold) -> Answer:
    placed = await ask.session.hold(operation.reason, operation.hold)
    return Answer("held", {"hold": placed.model_dump()})


async def _release(ask: Ask, operation: Release) -> Answer:
    left = await ask.session.release(operation.hold)
    return Answer("held", {"holds": [hold.model_dump() for hold in left]})


async def _redact(ask: Ask, operation: Redact) -> Answer:
    found = await ask.session.redactable(operation.message, event=operation.target)
    for fork in found.forks:  # it says so in them too
        if not ask.grant.grants.allows(fork, "redact"):
            raise forbidden(ask.grant, fork, "redact")
    proof = await ask.session.redact(operation.message, event=operation.target, reason=operation.reason)
    fields = proof.model_dump(exclude={"tenant"})
    return Answer("redacted", {**fields, "complete": proof.complete}, 200 if proof.again else 201)


_HOLD: Final = "/holds/{hold}"
CAPABILITIES: Final = (
    Capability(GetRetention, _retention, "read", Http("GET", "/retention", "Get how long the session is kept")),
    Capability(SetRetention, _set_retention, "erase", Http("PUT", "/retention", "Set how long the session is kept")),
    Capability(Hold, _hold, "hold", Http("PUT", _HOLD, "Have nothing of the session removed until it is released")),
    Capability(Release, _release, "hold", Http("DELETE", _HOLD, "End a hold on the session")),
    Capability(Redact, _redact, "redact", Http("POST", "/redactions", "Remove what a message says, for good")),
)
