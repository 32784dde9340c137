"""Spans of what is asked of a gateway: HTTP requests and operations of sockets; never of what is delivered.

Names and attributes are those of OpenTelemetry's semantic conventions (HTTP, RPC). No name holds a session's; of a path
its route is told, not what was asked for.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from session_fabric import FabricError
from session_fabric.tracing import NO_SPAN, PASSED_ON, Span, Traces
from session_fabric.words.traces import PARENT, STATE, TraceContext, parse_trace

from session_fabric_gateway.codes import STATUS, SUBPROTOCOL
from session_fabric_gateway.operations import Sent

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asked by machines every few seconds, and of nobody's trace; a socket is traced by its operations.
_UNTOLD: Final = frozenset({"/healthz", "/readyz", "/metrics", "/v1/ws"})
_SYSTEM: Final = "session_fabric"


def traced(traces: Traces) -> Middleware:
    """Make the middleware that has a request be a span, under the one that its head names."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        parent = _parent(request)
        # A stream lasts for as long as somebody reads: a span of it would be of nothing.
        if (parent is None and traces is PASSED_ON) or request.path in _UNTOLD or request.query.get("live") == "sse":
            return await handler(request)
        method = request.method if request.method in _METHODS else "_OTHER"
        about: dict[str, str | int] = {"http.request.method": method, "url.scheme": request.scheme}
        resource = request.match_info.route.resource
        name = "HTTP" if method == "_OTHER" else method
        if resource is not None:
            about["http.route"] = resource.canonical
            name = f"{name} {resource.canonical}"
        if "session" in request.match_info:
            about["gen_ai.conversation.id"] = request.match_info["session"]
        with traces.span(name, "server", about, parent) as span:
            response = await handler(request)
            span.note({"http.response.status_code": response.status})
            if response.status >= 500:
                span.failed(str(response.status))
            return response

    return middleware


def _parent(request: web.Request) -> TraceContext | None:
    parents = request.headers.getall(PARENT, ())
    # Several are as good as none: which is meant nobody knows (W3C).
    return parse_trace(parents[0], ",".join(request.headers.getall(STATE, ()))) if len(parents) == 1 else None


def of_operation(traces: Traces, sent: Sent) -> AbstractContextManager[Span]:
    """Return the span of an operation, under the one that its frame names."""
    about: dict[str, str | int] = {}
    if traces is not PASSED_ON:
        about = {
            "rpc.system": _SYSTEM,
            "rpc.service": SUBPROTOCOL,
            "rpc.method": sent.op,
            "gen_ai.conversation.id": getattr(sent.operation, "session", ""),
        }
    return traces.span(f"{SUBPROTOCOL}/{sent.op}", "server", about, sent.trace)


def refused(span: Span, error: FabricError) -> None:
    """Say why an operation was refused. What the client did wrong is no failure of the gateway's."""
    if span is NO_SPAN:
        return
    span.note({"session_fabric.code": error.code})
    if STATUS.get(error.code, 500) >= 500:
        span.failed(error.code)
