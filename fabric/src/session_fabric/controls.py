"""What is asked of a run from outside: to stop, to take something into account, to do something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

from session_fabric.outcomes import Lost, settle
from session_fabric.parts import SERVICE, Parts
from session_fabric.ports import Wanted
from session_fabric.records import SessionRecord
from session_fabric.rules.controls import DEADLINE_MS, check_request
from session_fabric.rules.inputs import check_message
from session_fabric.rules.requests import derived
from session_fabric.rules.routing import run_of
from session_fabric.words import measures
from session_fabric.words.arguments import check_mapping
from session_fabric.words.errors import RunClosed, SessionClosed, SessionGone, SessionNotFound
from session_fabric.words.events import (
    CONTROL_EXPIRED,
    CONTROL_OUTCOMES,
    CONTROL_REQUESTED,
    MESSAGE_USER,
    RUN_OVER,
    SESSION_CLOSED,
    Event,
    control_outcome,
)
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.writer import Appended, Identity

Holds = Callable[[Parts, str], Awaitable[bool]]
# Among the newest of a session: behind so many an input is not waited for.
_MOST_INPUTS: Final = 1000


async def request(
    parts: Parts, action: str, run: str, body: Mapping[str, Any] | None, deadline_ms: int | None, id: str | None
) -> Appended:
    """Ask something of a run, begun or not; see `Session.control`."""
    given = {} if body is None else dict(check_mapping(body, "body"))
    check_request(action, given, deadline_ms)
    check_id(run, "run")
    request = check_id(new_id() if id is None else id, "event id")
    record = await parts.open()
    newest = await parts.broker.log.newest(record.stretch, Wanted("own", run))
    if newest is not None and newest.type in RUN_OVER:
        raise RunClosed(f"Run {run!r} has ended.", run=run)
    event: dict[str, Any] = {"type": CONTROL_REQUESTED, "action": action, "run": run, "body": given}
    # Asked of an input that nobody has taken it waits as long as that does.
    event["deadline_ms"] = DEADLINE_MS if deadline_ms is None and newest is not None else deadline_ms
    instead = _instead(given, run) if action == "redirect" else None
    if instead is not None:
        check_message(instead)
    asked = await parts.writer.append(record.stretch, event, id=request, since=None, own=True)
    if instead is not None:
        # Behind the request, so that who hears it knows why; under an id of its own, so that a retry is the same.
        await parts.writer.append(record.stretch, instead, id=f"{request[:118]}.instead", since=None)
    return asked


@asynccontextmanager
async def with_an_end(parts: Parts, asked: Offset) -> AsyncGenerator[None, None]:
    """See to it, for as long as the block lasts, that the request at an offset has an outcome."""
    # No task group: what the block raises is to come out as it is.
    seeing = asyncio.create_task(_see_to_deadline(parts, asked), name=f"deadline of what was asked at {asked}")
    try:
        yield
    finally:
        seeing.cancel()
        await asyncio.gather(seeing, return_exceptions=True)


async def _see_to_deadline(parts: Parts, asked: Offset) -> None:
    """Have a request expire when its deadline has passed: a run that ended in the moment in which it was asked says
    nothing of it, and nobody else may watch over sessions here. Where we may not write that, who may does watch."""
    if not parts.broker.may_mend:
        return
    record = await parts.persist(parts.open_existing)
    stored = await parts.persist(lambda: parts.history.at(record.stretch, asked.sequence))
    if stored is None:
        return
    requested = stored.event()
    deadline_ms = requested.body.get("deadline_ms")
    if not isinstance(deadline_ms, int):
        return
    await asyncio.sleep(deadline_ms / 1000)  # from now on, that is late rather than early whatever clocks say
    service = Parts.of(parts.common, Identity(parts.place.tenant, SERVICE), parts.place.session)
    with suppress(Lost, SessionClosed, SessionGone, SessionNotFound):
        await parts.persist(lambda: expire(service, requested))


async def expire(parts: Parts, requested: Event) -> None:
    """Write that a request has expired, in the fabric's name. Raises `Lost` where it has an outcome."""
    body = requested.body
    expired = {"type": CONTROL_EXPIRED, "request": requested.id, "reason": "deadline"}
    expired |= {name: body[name] for name in ("action", "run") if name in body}
    await settle(parts, control_outcome(requested.id), expired, id=derived(requested.id, "expired"), spare=True)
    parts.common.metrics.count(measures.CONTROLS, "expired")


def outcome_of(asked: Offset) -> Callable[[Event], bool]:
    """Return what knows the outcome of the request at an offset among events that begin with it."""
    request: list[str] = []

    def is_outcome(event: Event) -> bool:
        if event.offset == asked:
            request.append(event.id)
        if event.type == SESSION_CLOSED:
            raise SessionClosed("The session was closed.", hint="Its runs answer nothing more.")
        return event.type in CONTROL_OUTCOMES and event.body.get("request") in request

    return is_outcome


async def waits_on(parts: Parts, record: SessionRecord, run: str, somebody_holds: Holds) -> bool:
    """Say whether a request without a deadline of its own may still be heard: its run goes on, or its input waits for
    who has the floor of its pool."""
    log, to = parts.broker.log, record.stretch
    newest = await log.newest(to, Wanted("own", run))
    if newest is not None:
        return newest.type not in RUN_OVER
    head = await log.head(to)
    async with aclosing(log.read_back(to, before=head + 1, limit=_MOST_INPUTS, wanted=[Wanted("in")])) as batches:
        found = [r.parts.name async for records in batches for r in records if run_of(r.id, r.event().body) == run]
    return bool(found) and await somebody_holds(parts, found[-1])


def _instead(body: Mapping[str, Any], run: str) -> dict[str, Any]:
    message = {"type": MESSAGE_USER, "message": body["message"], "when_busy": "interrupt", "redirects": run}
    return message | ({"pool": body["pool"]} if "pool" in body else {})
