"""TanStack AI's paths: what `fetchServerSentEvents` posts, joins and hydrates, and where its `webSocket` connects."""

from __future__ import annotations

from typing import Final

import orjson
from aiohttp import web
from session_fabric import FabricError, Session
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway import operations
from session_fabric_gateway.codes import facts_of
from session_fabric_gateway.dialects import inputs
from session_fabric_gateway.dialects.ag_ui.api import abort_of, frame, place_of, stop
from session_fabric_gateway.dialects.ag_ui.leaving import stream
from session_fabric_gateway.dialects.ag_ui.saying import failure
from session_fabric_gateway.dialects.ag_ui.turns import Turns
from session_fabric_gateway.dialects.ag_ui.wishes import RunInput
from session_fabric_gateway.dialects.tanstack.hydrating import check_thread, hydration
from session_fabric_gateway.dialects.tanstack.socket import serve
from session_fabric_gateway.durable.answering import HEADERS
from session_fabric_gateway.gateway import BILL, METER, Gateway
from session_fabric_gateway.http import GRANT, grant_of, json, json_of, number, query_of, session_of

ROOT: Final = "/v1/tanstack/{session}"
_MOST_MESSAGES: Final = 1000


class TanStack:
    """Handlers of one gateway; `routes` lists them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(ROOT, self.run),
            web.get(ROOT, self.get, allow_head=False),
            web.post(ROOT + "/runs/{run}/stop", self.stop),
        ]

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Run an agent, or go on where a connection was lost. What is refused is told as a chunk: of another answer
        than 200 its clients show no more than the status."""
        grant = await grant_of(self._gateway, request)
        session = self._gateway.session_of(request, grant, request.match_info["session"])
        run = ""
        try:
            self._gateway.refuse_while_draining()
            abort = abort_of(self._gateway, query_of(request, "abort"))
            request[BILL].open()
            asked = operations.check(RunInput, await json_of(request), "The RunAgentInput")
            run = asked.run_id
            check_thread(session, asked.thread_id)
            turns = self._turns(request, session)
            turn = await turns.posted(asked, place_of(request, None))
            return await stream(self._gateway, request, session, turns, turn, abort)
        except FabricError as error:
            self._gateway.metrics.refusals.labels(facts_of(error)["code"]).inc()
            return web.Response(body=frame(orjson.dumps(failure(error, session.name, run)), ""), headers=HEADERS)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Hydrate a thread (`threadId`), join a run (`runId`, `offset`), or open a socket."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await serve(self._gateway, request)
        session = await session_of(self._gateway, request, "read", by_ticket=True)
        query = query_of(request, "abort", "before", "limit", "offset", "runId", "threadId", "ticket")
        if "runId" in query:
            self._gateway.refuse_while_draining()
            turns = self._turns(request, session)
            turn = await turns.joined(session.name, query["runId"], place_of(request, query.get("offset")))
            return await stream(self._gateway, request, session, turns, turn, abort_of(self._gateway, query))
        if "threadId" not in query:
            raise InvalidRequest("The query has neither threadId nor runId.", hint="Ask for one of them.")
        check_thread(session, query["threadId"])
        return await self._hydrate(request, session, query)

    async def _hydrate(self, request: web.Request, session: Session, query: dict[str, str]) -> web.Response:
        limit = number(query, "limit", _MOST_MESSAGES, most=_MOST_MESSAGES) if "limit" in query else None
        await session.record(create=False)
        shown = (await self._turns(request, session).restated()).messages()
        found = await inputs.under_way(session)
        going, run = (None, None) if found is None else (found[0].run, found[1])
        requests = await session.requests() if run is not None and run.state == "suspended" else []
        participant = request[GRANT].participant
        before = query.get("before")
        return json(hydration(shown, going, run, requests, participant, limit=limit, before=before))

    async def stop(self, request: web.Request) -> web.Response:
        """Have a run stop, what it said so far kept."""
        return await stop(self._gateway, request, self._turns)

    def _turns(self, request: web.Request, session: Session) -> Turns:
        return Turns(self._gateway, request[GRANT], session, request[METER], frame, eager=True)
