"""Sessions and places in them, as they are named on the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from session_fabric import Fabric, Offset, Session
from session_fabric.rules.messages import Run
from session_fabric.words.errors import InvalidOffset, SessionNotFound

from session_fabric_cli.naming import NothingSuch, near, nothing_such

# At how many names one looks for those that were perhaps meant: the list of all would take longer than the answer.
_LOOKED = 2000


@asynccontextmanager
async def near_names(fabric: Fabric, name: str) -> AsyncIterator[Session]:
    """Give the session of this name; where the block finds that there is none, tell near names (`NothingSuch`)."""
    try:
        yield fabric.session(name)
    except SessionNotFound as missing:
        raise await _nothing_near(fabric, name) from missing


async def _nothing_near(fabric: Fabric, name: str) -> NothingSuch:
    names: list[str] = []
    cursor: str | None = None
    while len(names) < _LOOKED:
        page = await fabric.sessions(limit=1000, cursor=cursor)
        names += [record.session for record in page.records]
        cursor = page.next
        if cursor is None:
            break
    meant = near(name, names)
    hint = f"Did you mean {' or '.join(meant)}? " if meant else ""
    of = f"the {len(names):,} that changed last" if cursor is not None else f"all {len(names):,}"
    hint += f"Names like it were looked for among {of}; `fabricctl session ls` lists them."
    return NothingSuch(f"Tenant {fabric.tenant} has no session {name!r:.140}.", hint=hint, looked=len(names))


async def known_run(session: Session, run: str) -> Run:
    """Return a run as it is now. Raises `NothingSuch` where there has been none of this name, `SessionNotFound`."""
    runs = await session.runs()
    found = next((one for one in runs if one.id == run), None)
    if found is None:
        raise nothing_such(
            "run",
            run,
            [one.id for one in runs],
            listed_by=f"fabricctl session runs {session.name}",
            place=f"in session {session.name}",
        )
    return found


async def offset_of(session: Session, text: str) -> Offset:
    """Return an offset that is given as such, or by the id of a message: that of its newest event.

    Raises `NothingSuch`, `SessionNotFound`.
    """
    try:
        return Offset.parse(text)
    except InvalidOffset:
        pass
    await session.record(create=False)
    page = await session.messages(limit=1000)
    while True:
        found = next((message.last for message in page.messages if message.id == text), None)
        if found is not None:
            return found
        if page.previous is None:
            raise NothingSuch(
                f"{text!r:.80} is neither an offset nor a message of session {session.name}.",
                hint=f"Look for one: `fabricctl session tail {session.name} --last 20`.",
            )
        page = await session.messages(before=page.previous, limit=1000)
