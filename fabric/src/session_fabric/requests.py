"""Requests to participants, as those who answer them see them: what is open, claiming one, answering it once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final, Literal

import orjson

from session_fabric.outcomes import Lost, settle
from session_fabric.parts import SERVICE, Parts
from session_fabric.ports import Wanted
from session_fabric.records import SessionRecord
from session_fabric.rules import asked, questions, requests
from session_fabric.rules.bounds import MOST_SHOWN_REQUESTS
from session_fabric.rules.requests import Claim, Request, Standing
from session_fabric.words.errors import Conflict, InvalidRequest, RequestNotFound
from session_fabric.words.events import (
    INPUT_ANSWERED,
    REQUESTS,
    RUN_OVER,
    TOOL_ANSWERED,
    TOOL_CLAIMED,
    Event,
    request_outcome,
)
from session_fabric.words.names import check_id, new_id
from session_fabric.words.wire import Record
from session_fabric.writer import Appended

# How many requests are looked through at a time for the one that is named; it is mostly among the newest.
_PAGE: Final = 50
# As often as others may be first to change a request (claims by turns) before one gives up.
_TRIES: Final = 20
NOTHING: Final = object()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def find(parts: Parts, record: SessionRecord, id: str) -> Request | None:
    """Return a request by its id (that of its event), None where there is none in this life of the session."""
    log, to, wanted = parts.broker.log, record.stretch, [Wanted("ev", REQUESTS)]
    newest = await log.newest(to, wanted[0])
    before = 0 if newest is None else newest.sequence + 1
    while before > record.begin + 1:
        page: list[Record] = []
        async with aclosing(log.read_back(to, before=before, limit=_PAGE, wanted=wanted)) as batches:
            async for records in batches:
                page += records
        for found in reversed(page):
            if found.id == id and found.sequence > record.begin:
                return requests.parse_request(found.event())
        before = page[0].sequence if len(page) == _PAGE else 0
    return None


async def standing(parts: Parts, record: SessionRecord, id: str) -> Standing:
    """Return where a request stands now, from the leader."""
    newest = await parts.broker.log.newest(record.stretch, Wanted("own", request_outcome(id)))
    return requests.standing_of(None if newest is None else newest.event())


async def open_requests(parts: Parts) -> list[Request]:
    """Return the requests that can be answered, the oldest 1,000; see `Session.requests`."""
    record = await parts.directory.load(parts.place)
    return asked.open_requests(await _events(parts, record), now_ms())[:MOST_SHOWN_REQUESTS]


async def _events(parts: Parts, record: SessionRecord) -> list[Event]:
    log, to = parts.broker.log, record.stretch
    newest = await log.newest(to, Wanted("ev", REQUESTS))
    if newest is None:
        return []
    # All there is of both: outcomes stand behind their requests.
    upto = max(newest.sequence, await log.head(to))
    wanted = [Wanted("ev", REQUESTS), Wanted("own")]
    async with aclosing(log.read(to, after=record.begin, upto=upto, wanted=wanted)) as batches:
        return [record.event() async for records in batches for record in records]


async def claim(parts: Parts, id: str, device: str | None) -> Claim:
    """Say that one works on a tool request; see `Session.claim`."""
    record, request = await _asked(parts, id, device)
    if request.kind != "tool":
        raise InvalidRequest(
            f"The request {id!r} asks for {request.kind}: there is nothing to work on.", hint="Answer it."
        )
    for _ in range(_TRIES):
        now = now_ms()
        stands = await _open(parts, record, request, device, now)
        mine = Claim(parts.identity.participant, device, now + requests.CLAIM_MS)
        body = {"type": TOOL_CLAIMED, "request": id, "run": request.run, **mine._asdict()}
        try:
            await settle(parts, request_outcome(id), body, expect=stands.sequence)
        except Lost:
            continue
        return mine
    raise _restless(id)


async def answer(
    parts: Parts, id: str, body: Any, error: str | None, device: str | None, event: str | None
) -> Appended:
    """Answer a request, unless somebody was first; see `Session.answer`."""
    record, request = await _asked(parts, id, device)
    given = _given(request, body, error)
    participant = parts.identity.participant
    own = requests.answer_id(id, participant, device, given) if event is None else check_id(event, "event id")
    type = TOOL_ANSWERED if request.kind == "tool" else INPUT_ANSWERED
    answered = {"type": type, "request": id, "run": request.run, "by": participant, "device": device, **given}
    if type == INPUT_ANSWERED:
        answered["defaulted"] = False
    for _ in range(_TRIES):
        newest = await parts.broker.log.newest(record.stretch, Wanted("own", request_outcome(id)))
        if newest is not None and newest.id == own and orjson.loads(newest.body) == answered:
            return Appended(newest.offset, True)  # an earlier try of ours
        stands = await _open(parts, record, request, device, now_ms())
        try:
            return await settle(parts, request_outcome(id), answered, expect=stands.sequence, id=own)
        except Lost:
            continue
    raise _restless(id)


def _given(request: Request, body: Any, error: str | None) -> dict[str, Any]:
    """Check an answer and return it as its event has it."""
    if (body is NOTHING) == (error is None):
        raise InvalidRequest("An answer is either a body or an error.", hint="Give one of them.")
    if error is not None:
        if request.kind != "tool":
            raise InvalidRequest(f"A request for {request.kind} cannot fail.", hint="Answer with a body.")
        if not error:
            raise InvalidRequest(f"The error is {error!r:.60}.", hint="Say in a sentence what went wrong.")
        questions.check_size(error, "error")
        return {"error": error}
    questions.check_size(body, "answer")
    questions.check_answer(request.kind, request.body, body)
    return {"result": body} if request.kind == "tool" else {"body": body}


async def _asked(parts: Parts, id: str, device: str | None) -> tuple[SessionRecord, Request]:
    """Return a request that this participant may deal with, on this device."""
    check_id(id, "request")
    if device is not None:
        check_id(device, "device")
    record = await parts.open_existing()
    request = await find(parts, record, id)
    if request is None:
        raise RequestNotFound(
            f"There is no request {id!r} in session {parts.place.session!r}.",
            hint="Use a `request` of tool.requested or input.requested.",
            request=id,
        )
    requests.check_addressed(request, parts.identity.participant, device)
    return record, request


async def _open(parts: Parts, record: SessionRecord, request: Request, device: str | None, now: int) -> Standing:
    """Return where a request stands that may be claimed or answered now; else raise why not.

    One that is over and that nobody has said so of, is closed here and now.
    """
    for _ in range(_TRIES):
        stands = await standing(parts, record, request.request)
        why = requests.refusal(request, stands, parts.identity.participant, device, now)
        if stands.outcome is None and requests.is_due(request, now):
            await expire(parts, request)
        elif stands.outcome is None and await _run_is_over(parts, record, request.run):
            await expire(parts, request, "run_ended")
        elif why is not None:
            raise why
        else:
            return stands
    raise _restless(request.request)


async def _run_is_over(parts: Parts, record: SessionRecord, run: str) -> bool:
    newest = await parts.broker.log.newest(record.stretch, Wanted("own", run))
    return newest is not None and newest.type in RUN_OVER


async def expire(parts: Parts, request: Request, reason: Literal["deadline", "run_ended"] = "deadline") -> bool:
    """End a request that nobody has answered: by its default, where it has one for its deadline; False when it was
    settled before. Whoever calls has seen to it that it is time."""
    service = parts.as_service()
    record = await parts.directory.load(parts.place)
    body: Mapping[str, Any] = requests.expiry(request, reason, SERVICE)
    id = new_id()
    for _ in range(_TRIES):
        stands = await standing(parts, record, request.request)
        if stands.outcome is not None:
            return False
        try:
            await settle(service, request_outcome(request.request), body, expect=stands.sequence, id=id, spare=True)
        except Lost:
            continue
        return True
    raise _restless(request.request)


async def close(parts: Parts, run: str) -> None:
    """End the open requests of a run that has ended."""
    record = await parts.directory.load(parts.place)
    events = [event for event in await _events(parts, record) if event.type not in RUN_OVER]
    for request in asked.open_requests(events, 0):
        if request.run == run:
            await expire(parts, request, "run_ended")


def _restless(id: str) -> Conflict:
    return Conflict(f"The request {id!r} changed {_TRIES} times under this call.", hint="Try again.", revision=None)
