"""The capabilities over HTTP: their paths, each answered by the coroutine that answers the socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway import operations
from session_fabric_gateway.capabilities.form import ONE, Ask, Capability
from session_fabric_gateway.capabilities.registry import CAPABILITIES
from session_fabric_gateway.gateway import BILL, Gateway
from session_fabric_gateway.http import grant_of, json, json_of, query_of

# What the path and the socket's frame have, and a body has not.
FRAME_FIELDS = frozenset({"op", "id", "session"})


def routes(gateway: Gateway) -> list[web.RouteDef]:
    """Return the paths of all capabilities that have one."""
    found = []
    for capability in CAPABILITIES.values():
        http = capability.http
        if http is not None:
            handler: Callable[[web.Request], Awaitable[web.Response]] = partial(_answer, gateway, capability)
            found.append(web.route(http.method, ONE + http.path, handler))
    return found


async def _answer(gateway: Gateway, capability: Capability, request: web.Request) -> web.Response:
    grant = await grant_of(gateway, request)
    session = gateway.session_of(request, grant, request.match_info["session"])
    fields = await _fields(capability, request)
    named = {**request.match_info, "op": capability.op, "id": 0}
    clash = sorted(fields.keys() & (named.keys() | FRAME_FIELDS))
    if clash:
        raise InvalidRequest(f"The request has no field {clash[0]!r}: its path says it.", field=clash[0])
    operation = operations.check(capability.model, {**fields, **named}, "The request")
    ask = Ask(gateway, grant, session, None)
    with gateway.busy():
        await capability.admit(ask, operation)
        if not capability.writes:
            request[BILL].open()
        answer = await capability.carry_out(ask, operation)
    return json(answer.fields, answer.status)


async def _fields(capability: Capability, request: web.Request) -> dict[str, Any]:
    assert capability.http is not None
    if capability.http.by_query:
        return dict(query_of(request, *body_fields(capability)))
    query_of(request)
    value = await json_of(request)
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object.", hint="Send one JSON object.")
    return value


def body_fields(capability: Capability) -> list[str]:
    """Return the fields of a capability's body or query: those that the path does not name."""
    assert capability.http is not None
    in_path = {part[1:-1] for part in capability.http.path.split("/") if part.startswith("{")}
    return [name for name in capability.model.model_fields if name not in FRAME_FIELDS | in_path]
