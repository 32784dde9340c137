"""What every HTTP request has in common: who may ask from where, what is refused unread, how an error is told."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from session_fabric import FabricError
from session_fabric.words.errors import Forbidden, InvalidRequest, RateLimited, TooLarge
from session_fabric.words.traces import PARENT, STATE

from session_fabric_gateway.answers import SERVER, problem
from session_fabric_gateway.codes import Defect, NotFound, TooSlow
from session_fabric_gateway.doorway import SlowBody, visitor_of
from session_fabric_gateway.durable import heads
from session_fabric_gateway.gateway import BILL, METER, Gateway
from session_fabric_gateway.origins import host_name, may_use
from session_fabric_gateway.settings import is_loopback

log = structlog.get_logger()

OnPrepare = Callable[[web.Request, web.StreamResponse], Awaitable[None]]

_CORS_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# The last of all is TanStack's.
_CORS_HEADERS: Final = ", ".join(
    ("Authorization", "Content-Type", "Last-Event-ID", PARENT, STATE, *heads.SENT, "X-Run-Id")
)
_CORS_READ: Final = ", ".join(("Retry-After", *heads.READ))
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": _CORS_METHODS,
    "Access-Control-Allow-Headers": _CORS_HEADERS,
    "Access-Control-Max-Age": "600",
}
# No path has more than six fields; beyond this the rest need not be read.
_MOST_PARAMETERS: Final = 50
# Asked by whoever starts and watches gateways; a limit on them would take a busy gateway for a dead one.
_NEVER_LIMITED: Final = frozenset({"/healthz", "/readyz"})


def errors(gateway: Gateway) -> Middleware:
    """Make the middleware that turns every error into a problem, and counts what is asked."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        code = ""
        try:
            response = await _guarded(gateway, request, handler)
        except FabricError as error:
            response = problem(error)
        except web.HTTPRequestEntityTooLarge:
            response = problem(_too_large(gateway))
        except SlowBody:
            response = problem(TooSlow("The body came too slowly.", hint="Send less at a time."))
        except web.HTTPNotFound:
            response = problem(NotFound(f"There is no {request.path:.100}.", hint="See /openapi.json."))
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            wrong = InvalidRequest(f"{request.method:.20} is not for {request.path:.100}.", hint=f"Use {allowed}.")
            response = problem(wrong, 405)
            response.headers["Allow"] = allowed
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = problem(InvalidRequest(error.reason), error.status)
        except ConnectionError:
            raise
        except _Refused as refused:
            response = problem(refused.error, refused.status)
            response.headers.update(refused.headers)
            if refused.closes:
                response.force_close()
        except Exception as error:
            log.exception("request_failed", path=request.match_info.route.resource and request.path)
            response = problem(Defect(f"The request failed: {type(error).__name__}."))
            code = Defect.code
        if response.status in (413, 429) and not request.content.is_eof():
            response.force_close()  # what is still coming is not waited for
            visitor_of(request).ends()
        if response.status >= 400:
            gateway.metrics.refusals.labels(code or f"http_{response.status}").inc()
        return response

    return middleware


class _Refused(Exception):
    """A request that no handler gets to see. `closes`: nor any other of its connection."""

    def __init__(self, error: FabricError, status: int | None = None, *, closes: bool = False, **headers: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status
        self.closes = closes
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


async def _guarded(gateway: Gateway, request: web.Request, handler: Handler) -> web.StreamResponse:
    settings = gateway.settings
    if settings.insecure and not is_loopback(host_name(request.host)):
        # A page of anywhere whose name was made to point here would be of the same host (DNS rebinding).
        raise Forbidden(f"Without tokens this gateway answers to localhost alone, not to {request.host!r:.80}.")
    origin = request.headers.get("Origin")
    preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    # What may be sent is no secret, and clients of durable streams ask for it before anything else (protocol, section
    # 10.1): without Access-Control-Allow-Origin a browser lets the page send nothing all the same.
    told = preflight and request.path.startswith("/v1/stream/")
    if origin is not None and not told and not may_use(origin, request.host, gateway.origins, secure=request.secure):
        raise Forbidden(
            f"Pages of {origin!r:.100} may not use this gateway.",
            hint="Start it with --allow-origin for that origin.",
        )
    _check_form(gateway, request)
    if request.path not in _NEVER_LIMITED:
        try:
            gateway.knocked(request)
        except RateLimited as error:
            raise _Refused(error, closes=True) from error
    if preflight:
        return web.Response(status=204, headers=_PREFLIGHT)
    try:
        return await handler(request)
    finally:
        meter = request.get(METER)
        if meter is not None:
            if request.content_length is None:
                meter.owe("bytes", time.monotonic(), request.content.total_bytes)
            if BILL in request:
                request[BILL].settle()
            meter.close()


def _check_form(gateway: Gateway, request: web.Request) -> None:
    """Raise for what can be refused by its head alone."""
    if request.query_string.count("&") >= _MOST_PARAMETERS:
        raise InvalidRequest(f"The query has more than {_MOST_PARAMETERS} fields.")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        error = InvalidRequest("The body is compressed.", hint="Send it as it is.")
        raise _Refused(error, 415, Accept_Encoding="identity")
    length = request.content_length
    if length is not None and length > request.client_max_size:
        raise _too_large(gateway)


def _too_large(gateway: Gateway) -> TooLarge:
    limit = gateway.settings.limits.max_body_bytes
    return TooLarge(f"The body has more than {limit} bytes.", limit=limit)


def set_headers(gateway: Gateway) -> OnPrepare:
    """Make what sets the headers of every answer, streams and files among them, before it is sent."""

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        for name, value in gateway.headers.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = SERVER
        response.headers.update(cors(gateway, request))

    return on_prepare


def cors(gateway: Gateway, request: web.Request) -> dict[str, str]:
    """Return the headers by which a browser lets a listed page read the answer."""
    origin = request.headers.get("Origin")
    if origin is None or not may_use(origin, request.host, gateway.origins, secure=request.secure):
        return {"Vary": "Origin"} if gateway.origins else {}
    with_cookie = {"Access-Control-Allow-Credentials": "true"} if gateway.settings.cookie else {}
    return with_cookie | {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": _CORS_READ,
        "Vary": "Origin",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
