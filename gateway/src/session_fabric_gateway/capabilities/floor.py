"""Who has the floor of a pool, and how it is handed over: offers, taking over, speaking in the agent's place."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field
from session_fabric.rules.floor import OFFER_MS, FloorState
from session_fabric.rules.routing import DEFAULT_POOL
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.capabilities.form import Answer, Ask, Capability, Http
from session_fabric_gateway.operations import Asked, Object

Pool = Annotated[str, Field(max_length=128)]


class GetFloor(Asked):
    op: Literal["floor"]
    pool: Pool = DEFAULT_POOL


class Offer(Asked):
    op: Literal["handoff.offer"]
    to: str
    pool: Pool = DEFAULT_POOL
    note: str = ""
    deadline_ms: int = OFFER_MS
    event: str | None = None


class Accept(Asked):
    op: Literal["handoff.accept"]
    request: str
    pool: Pool = DEFAULT_POOL
    note: str = ""


class Decline(Accept):
    op: Literal["handoff.decline"]  # type: ignore[assignment]  # another operation of the same fields


class Take(Asked):
    op: Literal["floor.take"]
    pool: Pool = DEFAULT_POOL
    note: str = ""


class Return(Take):
    op: Literal["floor.return"]  # type: ignore[assignment]


class Say(Asked):
    op: Literal["say"]
    message: Object
    pool: Pool = DEFAULT_POOL


def _floor(state: FloorState) -> Answer:
    return Answer("floor", {"floor": {"pool": state.pool, **state.plain()}})


async def _get(ask: Ask, operation: GetFloor) -> Answer:
    return _floor(await ask.session.floor(operation.pool).state())


async def _offer(ask: Ask, operation: Offer) -> Answer:
    await ask.session.record(create=False)
    floor = ask.session.floor(operation.pool)
    offered = await floor.offer(operation.to, operation.note, deadline_ms=operation.deadline_ms, id=operation.event)
    at = str(offered.offset)
    return Answer("appended", {"offset": at, "duplicate": offered.duplicate, "request": offered.request}, 201)


async def _accept(ask: Ask, operation: Accept) -> Answer:
    return _floor(await ask.session.floor(operation.pool).accept(operation.request, operation.note))


async def _decline(ask: Ask, operation: Decline) -> Answer:
    return _floor(await ask.session.floor(operation.pool).decline(operation.request, operation.note))


async def _take(ask: Ask, operation: Take) -> Answer:
    await ask.session.record(create=False)
    return _floor(await ask.session.floor(operation.pool).take(operation.note))


async def _return(ask: Ask, operation: Return) -> Answer:
    return _floor(await ask.session.floor(operation.pool).give_back(operation.note))


async def _say(ask: Ask, operation: Say) -> Answer:
    text, id = operation.message.get("content"), operation.message.get("id")
    if not isinstance(text, str) or not isinstance(id, str | None):
        raise InvalidRequest(
            "What is said is a message with text as its content.", hint='{"id":"m1","content":"Hello"}'
        )
    await ask.session.record(create=False)
    appended = await ask.session.floor(operation.pool).say(text, id=id)
    return Answer("appended", {"offset": str(appended.offset), "duplicate": appended.duplicate}, 201)


CAPABILITIES: Final = (
    Capability(GetFloor, _get, "read", Http("GET", "/floor", "Get who has the floor of a pool")),
    Capability(
        Offer, _offer, "handoff", Http("POST", "/handoffs", "Offer the floor to a participant, a role or a pool")
    ),
    Capability(
        Accept, _accept, "handoff", Http("POST", "/handoffs/{request}/accept", "Take the floor that was offered")
    ),
    Capability(
        Decline, _decline, "handoff", Http("POST", "/handoffs/{request}/decline", "Turn an offer of the floor down")
    ),
    Capability(Take, _take, "handoff", Http("POST", "/floor/take", "Take the floor, whoever has it")),
    Capability(Return, _return, "handoff", Http("POST", "/floor/return", "Give the floor back to the pool's agents")),
    Capability(Say, _say, "handoff", Http("POST", "/say", "Speak in the agent's place, having the floor")),
)
