"""How refusals are told to clients of durable streams: as problems, with the headers that the protocol wants; and what
becomes of each request, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web
from session_fabric.words.errors import FabricError, ProducerFenced, ProducerGap, StreamClosed

from session_fabric_gateway.answers import problem
from session_fabric_gateway.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def told(metrics: Metrics, handler: Handler) -> Handler:
    """Have a handler's requests counted, and its errors answered as its clients expect."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        operation, outcome = _operation(request), "failed"
        under_way = metrics.durable_open.labels(operation)
        under_way.inc()
        try:
            response = await handler(request)
            outcome = _outcome(response.status)
        except FabricError as error:
            response = problem(error)
            response.headers.update(_headers(error))
            outcome = _outcome(response.status)
        except asyncio.CancelledError:
            outcome = "left"
            raise
        except web.HTTPException as error:
            outcome = _outcome(error.status)
            raise
        finally:
            under_way.dec()
            metrics.durable.labels(operation, outcome).inc()
        return response

    return answer


def _operation(request: web.Request) -> str:
    if request.method != "GET":
        return {"PUT": "make", "POST": "append", "DELETE": "delete"}.get(request.method, "head")
    return {"sse": "sse", "long-poll": "long_poll"}.get(request.query.get("live", ""), "read")


def _outcome(status: int) -> str:
    return "ok" if status < 400 else "refused" if status < 500 else "failed"


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
