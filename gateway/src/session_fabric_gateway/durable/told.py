"""How refusals are told to clients of durable streams: as problems, with the headers that the protocol wants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web
from session_fabric.words.errors import FabricError, ProducerFenced, ProducerGap, StreamClosed

from session_fabric_gateway.answers import problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def told(handler: Handler) -> Handler:
    """Have errors of a handler answered as its clients expect."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except FabricError as error:
            response = problem(error)
            response.headers.update(_headers(error))
            return response

    return answer


def _headers(error: FabricError) -> dict[str, str]:
    facts = error.facts
    match error:
        case StreamClosed():
            return {"Stream-Closed": "true", "Stream-Next-Offset": facts["offset"]}
        case ProducerFenced():
            return {"Producer-Epoch": str(facts["epoch"])}
        case ProducerGap():
            return {"Producer-Expected-Seq": str(facts["expected"]), "Producer-Received-Seq": str(facts["received"])}
    return {}
