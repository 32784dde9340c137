"""What a framework's client asks, done in its user's own name: to say something, to answer, to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, Literal, NamedTuple

from session_fabric import Offset, Session
from session_fabric.rules.messages import Run
from session_fabric.rules.requests import Request
from session_fabric.rules.routing import run_of, run_of_input
from session_fabric.words.errors import AlreadyAnswered, InvalidName, RequestClosed, RunClosed, SessionNotFound
from session_fabric.words.events import MESSAGE_REGENERATE, MESSAGE_USER
from session_fabric.words.names import check_id, check_session
from session_fabric.words.positions import After
from session_fabric.writer import Appended

from session_fabric_gateway.admission import admit, admit_event
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.gateway import Gateway

# States of runs that go on, or may.
_UNDER_WAY: Final = frozenset({"claimed", "running", "suspended", "orphaned"})
# Of the newest events: behind so many, an input that nobody has taken is not looked for.
_LOOKED_THROUGH: Final = 100
Abort = Literal["detach", "interrupt"]


class Input(NamedTuple):
    """An input in the log, and the run that answers it, begun or not. Read behind `before` to see all of that."""

    run: str
    before: After
    duplicate: bool


def session_name(id: str, of: str) -> str:
    """Return the session that a framework's own id (`of` says what of) stands for: its name is that id.

    Raises `InvalidName` for one that is none.
    """
    try:
        return check_session(id)
    except InvalidName as error:
        raise InvalidName(f"The {of} {id!r:.80} cannot be a session's name.", hint=error.hint, value=id[:80]) from error


def event_id(id: object, of: str) -> str:
    """Return the event id that a framework's own id stands for: that id itself. Raises `InvalidName`."""
    try:
        return check_id(id)
    except InvalidName as error:
        raise InvalidName(f"The {of} {id!r:.80} cannot be an id.", hint=error.hint, **error.facts) from error


async def say(gateway: Gateway, grant: Grant, session: Session, body: Mapping[str, Any], id: str) -> Input:
    """Append an input once for its id, whenever it is said again; the session is made if it is not there.

    Raises what `http.Api.append` does: `Forbidden`, `InvalidEvent`, `TooLarge`, `IdConflict` (the id is another
    body's, or somebody else's), `SessionClosed`, `SessionGone`, `BrokerUnavailable`.
    """
    await admit_event(grant, session, body)
    run = run_of_input(check_id(id, "event id"))
    begun = time.monotonic()
    with gateway.busy():
        since = await _input_of(session, run)
        offset, duplicate = await session.append(body, id=id, since=since)
    gateway.metrics.appended(time.monotonic() - begun)
    return Input(run, before(offset), duplicate)


async def _input_of(session: Session, run: str) -> Offset | None:
    """Return what is before the input of a run that has begun: the broker forgets ids after two minutes."""
    with suppress(SessionNotFound):
        if await session.newest_of_run(run) is not None:
            found = next((one for one in await session.runs() if one.id == run), None)
            if found is not None and found.input is not None:
                return before(found.input)
    return None


def before(offset: Offset) -> Offset:
    """Return where to read behind so that the event at an offset is the first."""
    return Offset(offset.segment, offset.sequence - 1)


async def run_named(session: Session, run: str) -> Run | None:
    """Return a run of the session as it is now; None: there is none of that name."""
    with suppress(SessionNotFound):
        return next((one for one in await session.runs() if one.id == run), None)
    return None


async def under_way(session: Session, ended_since: Offset | int | None = None) -> tuple[Input, Run | None] | None:
    """Return what a page that is loaded again goes on with: the newest run that is under way, with what is known of
    it, else an input that nobody has taken yet (None: nothing is known); None: nothing is under way.

    `ended_since`: a run that has ended behind this offset counts too, or after this time (milliseconds since 1970):
    the page may have looked at what there was before.
    """
    try:
        runs = await session.runs()
    except SessionNotFound:
        return None
    active = next((run for run in reversed(runs) if run.state in _UNDER_WAY), None)
    if active is not None:
        return Input(active.id, begin_of(active), True), active
    waiting = await _waiting(session)
    if waiting is not None:
        return waiting, None
    last = max(runs, key=lambda run: run.since, default=None)
    if last is not None and await _ended_since(session, last, ended_since):
        return Input(last.id, begin_of(last), True), last
    return None


async def _waiting(session: Session) -> Input | None:
    """Return the newest input, where nobody has taken it yet."""
    page = await session.history(limit=_LOOKED_THROUGH)
    event = next((one for one in reversed(page.events) if one.type in (MESSAGE_USER, MESSAGE_REGENERATE)), None)
    if event is None:
        return None
    run = run_of(event.id, event.body)
    return None if await session.newest_of_run(run) is not None else Input(run, before(event.offset), True)


async def asked_under(session: Session, run: str) -> Input | None:
    """Return the input whose run this is to be, or that has this id; None: there is none. Its run need not have begun.

    Raises `SessionNotFound`, and what reading does.
    """
    async with aclosing(session.read("start")) as batches:
        async for records in batches:
            for record in records:
                its = run_of_input(record.id)
                if record.type in (MESSAGE_USER, MESSAGE_REGENERATE) and run in (its, record.id):
                    return Input(its, before(record.offset), True)
    return None


async def _ended_since(session: Session, run: Run, when: Offset | int | None) -> bool:
    if isinstance(when, Offset):
        return run.since > when
    newest = None if when is None else await session.newest_of_run(run.id)
    return newest is not None and when is not None and newest.ts >= when


def begin_of(run: Run) -> After:
    """Return behind what to read to have all of a run."""
    return "start" if run.input is None else before(run.input)


# --- what runs ask ----------------------------------------------------------------------------------


async def requests_of(grant: Grant, session: Session, run: str) -> list[Request]:
    """Return what a run asks and nobody has answered, oldest first. Raises `Forbidden`, `SessionNotFound`."""
    await admit(grant, session, "read")
    return [request for request in await session.requests() if request.run == run]


async def answer(
    gateway: Gateway,
    grant: Grant,
    session: Session,
    request: str,
    *,
    body: Any = ...,
    error: str | None = None,
    id: str | None = None,
) -> Appended | None:
    """Answer a request, `body` or `error`; return where that stands, None where somebody was first, or nobody can any
    more. `id`: the answer's event id, for who wants to find it again.

    Raises `Forbidden`, `InvalidRequest`, `RequestNotFound`, `AlreadyClaimed`, `TooLarge`, `BrokerUnavailable`.
    """
    await admit(grant, session, "answer")
    given = {} if body is ... else {"body": body}
    try:
        with gateway.busy():
            return await session.answer(request, **given, error=error, id=id)
    except (AlreadyAnswered, RequestClosed):
        return None


async def stop(
    gateway: Gateway, grant: Grant, session: Session, run: str, action: Literal["cancel", "interrupt"]
) -> Offset | None:
    """Ask a run to stop, begun or not; return where that was asked, None when the run has ended.

    Raises `Forbidden`, `SessionNotFound`, `InvalidName`, `BrokerUnavailable`.
    """
    await admit(grant, session, f"control:{action}")
    await session.record(create=False)
    try:
        with gateway.busy():
            return (await session.control(action, run=run)).offset
    except RunClosed:
        return None
