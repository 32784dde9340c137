"""Whether somebody may do what he asks: by what his token grants, and where it names no sessions, by taking part."""

from __future__ import annotations

from session_fabric import Session, SessionRecord
from session_fabric.rules.controls import actions_of
from session_fabric.words.errors import Forbidden, SessionNotFound

from session_fabric_gateway.auth import Grant


async def admit(grant: Grant, session: Session, operation: str, *, makes: bool = False) -> None:
    """Return if the operation is granted in this session. Raises `Forbidden`, `SessionNotFound`, `SessionGone`.

    `makes`: the operation makes a session that is not there, which needs a grant of its own, and is then his own.
    """
    grants = grant.grants
    if not grants.allows(session.name, operation):
        raise forbidden(grant, session.name, operation)
    creates = grants.allows(session.name, "create")
    if not grants.mine_only and (creates or not makes):
        return
    try:
        record = await session.record(create=False)
    except SessionNotFound:
        if not makes:
            return  # what he asks for says so itself
        if not creates:
            raise
        record, _ = await session.create()  # of two who make it at once one does
    if not takes_part(grant, record):
        raise Forbidden(
            f"{grant.participant} does not take part in session {session.name!r}.",
            hint="Who takes part can add others; or get a token that names the session.",
            session=session.name,
        )


async def admit_event(grant: Grant, session: Session, body: object) -> None:
    """Return if an event may be appended: what acts on a run needs to be granted as that. Raises as `admit`."""
    await admit(grant, session, "append", makes=True)
    for action in actions_of(body):
        if not grant.grants.allows(session.name, f"control:{action}"):
            raise forbidden(grant, session.name, f"control:{action}")


def takes_part(grant: Grant, record: SessionRecord) -> bool:
    """Say whether this session is among those that a grant is for."""
    return not grant.grants.mine_only or grant.participant in record.participants


def listed(grant: Grant, record: SessionRecord) -> bool:
    """Say whether he may know that there is this session."""
    return grant.grants.allows(record.session, "read") and takes_part(grant, record)


def shut_out(grant: Grant, why: str = "does not take part any more") -> Forbidden:
    """Return what ends a subscription that was granted once."""
    return Forbidden(f"{grant.participant} {why}.", hint="Close it, and ask who may let you in.")


def forbidden(grant: Grant, session: str, operation: str) -> Forbidden:
    """Return what says that a token does not grant an operation."""
    return Forbidden(
        f"The token of {grant.participant} does not grant {operation} in session {session!r}.",
        hint="Get a token that does.",
        operation=operation,
        session=session,
    )


def check_same(grant: Grant, new: Grant) -> None:
    """Return if a newer token is the same participant's. Raises `Forbidden`."""
    if new[:2] != grant[:2]:
        raise Forbidden(
            f"The new token is of {new.participant} in {new.tenant}, this connection of {grant.participant} in "
            f"{grant.tenant}.",
            hint="Open another connection.",
        )
