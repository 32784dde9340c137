"""AG-UI's paths: what its `HttpAgent` posts, and what it lacks: coming back to a thread or a run, and stopping one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson
from aiohttp import web
from session_fabric import Session
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway import operations
from session_fabric_gateway.dialects import inputs
from session_fabric_gateway.dialects.ag_ui.leaving import stream
from session_fabric_gateway.dialects.ag_ui.places import Place, read_place
from session_fabric_gateway.dialects.ag_ui.turns import Turns, bracketed
from session_fabric_gateway.dialects.ag_ui.wishes import RunInput
from session_fabric_gateway.durable.answering import HEADERS
from session_fabric_gateway.gateway import BILL, METER, Gateway
from session_fabric_gateway.http import GRANT, grant_of, json, json_of, query_of, session_of

_ROOT: Final = "/v1/ag-ui"
_NOBODYS: Final = "none"


class AgUi:
    """Handlers of one gateway; `routes` lists them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(_ROOT, self.run),
            web.get(_ROOT + "/{session}", self.attach, allow_head=False),
            web.get(_ROOT + "/{session}/runs/{run}", self.join, allow_head=False),
            web.post(_ROOT + "/{session}/runs/{run}/stop", self.stop),
        ]

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Run an agent: append what is new, and stream the run; the same again never starts a second one."""
        gateway = self._gateway
        grant = await grant_of(gateway, request)
        gateway.refuse_while_draining()
        abort = abort_of(gateway, query_of(request, "abort"))
        asked = operations.check(RunInput, await json_of(request), "The RunAgentInput")
        session = gateway.session_of(request, grant, inputs.session_name(asked.thread_id, "threadId"))
        request[BILL].open()
        turns = self._turns(request, session)
        turn = await turns.posted(asked, place_of(request, None))
        return await stream(gateway, request, session, turns, turn, abort)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """Come back to a thread: its messages and state, then the run that is under way."""
        session = await session_of(self._gateway, request, "read", by_ticket=True)
        self._gateway.refuse_while_draining()
        abort = abort_of(self._gateway, query_of(request, "abort", "ticket"))
        turns = self._turns(request, session)
        events, turn = await turns.standing(session.name)
        if turn is not None:
            return await stream(self._gateway, request, session, turns, turn, abort)
        told = bracketed(events, session.name, _NOBODYS)
        body = b"".join(frame(orjson.dumps(event), "") for event in told)
        return web.Response(body=body, headers=HEADERS)

    async def join(self, request: web.Request) -> web.StreamResponse:
        """Come back to a run: all of it, or what is behind a place."""
        session = await session_of(self._gateway, request, "read", by_ticket=True)
        self._gateway.refuse_while_draining()
        query = query_of(request, "abort", "offset", "ticket")
        turns = self._turns(request, session)
        turn = await turns.joined(session.name, request.match_info["run"], place_of(request, query.get("offset")))
        return await stream(self._gateway, request, session, turns, turn, abort_of(self._gateway, query))

    async def stop(self, request: web.Request) -> web.Response:
        """Have a run stop, what it said so far kept."""
        return await stop(self._gateway, request, self._turns)

    def _turns(self, request: web.Request, session: Session) -> Turns:
        return Turns(self._gateway, request[GRANT], session, request[METER], frame, eager=False)


async def stop(gateway: Gateway, request: web.Request, turns: Callable[[web.Request, Session], Turns]) -> web.Response:
    """Have the run of the path stop: `{"stopped":true}`, or false where it has ended."""
    session = await session_of(gateway, request, "control:interrupt")
    query_of(request)
    return json({"stopped": await turns(request, session).stopped(request.match_info["run"])})


def frame(event: bytes, id: str) -> bytes:
    """Spell an event as server-sent event; without an id where it has none."""
    return b"data: %b\n\n" % event if not id else b"id: %b\ndata: %b\n\n" % (id.encode(), event)


def place_of(request: web.Request, offset: str | None) -> Place | None:
    """Return where a client comes back to, by `Last-Event-ID` or its query; None: from the beginning.

    Raises `InvalidOffset`.
    """
    said = request.headers.get("Last-Event-ID") or offset
    return None if said is None or said == "-1" else read_place(said)


def abort_of(gateway: Gateway, query: dict[str, str]) -> inputs.Abort:
    """Return what becomes of a run whose reader goes away. Raises `InvalidRequest`."""
    abort = query.get("abort", gateway.settings.dialect_abort)
    if abort == "detach" or abort == "interrupt":
        return "interrupt" if abort == "interrupt" else "detach"
    raise InvalidRequest(f"abort is {abort!r:.40}.", hint="Use detach or interrupt.", field="abort")
