"""What every HTTP answer has in common: who may ask from where, and how an error is told (RFC 9457)."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from session_fabric import FabricError
from session_fabric.words.errors import Forbidden, InvalidRequest, TooLarge

from session_fabric_gateway.codes import STATUS, Defect, NotFound, facts_of
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.settings import is_loopback

log = structlog.get_logger()


SERVER: Final = "session-fabric"
# RFC 9457's own members: no fact of an error takes their place.
_STANDARD: Final = frozenset({"type", "title", "status", "detail", "instance"})
_HEADERS: Final = {
    "Server": SERVER,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The demo page is made of files beside it, and speaks to where it came from.
PAGE_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CORS_METHODS: Final = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
_CORS_HEADERS: Final = "Authorization, Content-Type, Last-Event-ID"


def problem(error: FabricError, status: int | None = None) -> web.Response:
    """Return an error as `application/problem+json`."""
    facts = facts_of(error)
    status = status or STATUS[facts["code"]]
    document = {
        "type": "about:blank",
        "title": facts["code"].replace("_", " ").capitalize(),
        "status": status,
        "detail": facts.pop("message"),
        **{name: value for name, value in facts.items() if name not in _STANDARD},
    }
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="session-fabric"'
    if status == 503:
        headers["Retry-After"] = "1"
    body = orjson.dumps(document)
    return web.Response(body=body, status=status, content_type="application/problem+json", headers=headers)


def errors(gateway: Gateway) -> Middleware:
    """Make the middleware that turns every error into a problem, and sets the headers of every answer."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await _guarded(gateway, request, handler)
        except FabricError as error:
            response = problem(error)
        except web.HTTPRequestEntityTooLarge:
            limit = gateway.settings.limits.max_body_bytes
            response = problem(TooLarge(f"The body has more than {limit} bytes.", limit=limit))
        except web.HTTPNotFound:
            response = problem(NotFound(f"There is no {request.path}.", hint="See /openapi.json."))
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            wrong = InvalidRequest(f"{request.method} is not for {request.path}.", hint=f"Use {allowed}.")
            response = problem(wrong, 405)
            response.headers["Allow"] = allowed
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = problem(InvalidRequest(error.reason), error.status)
        except ConnectionError:
            raise
        except Exception as error:
            log.exception("request_failed", path=request.match_info.route.resource and request.path)
            response = problem(Defect(f"The request failed: {type(error).__name__}."))
        if response.status >= 400:
            gateway.metrics.refusals.labels(_code(response.status)).inc()
        if not response.prepared:
            response.headers.update(_HEADERS)
            response.headers.update(cors(gateway, request))
        return response

    return middleware


def _code(status: int) -> str:
    return f"http_{status}"


async def _guarded(gateway: Gateway, request: web.Request, handler: Handler) -> web.StreamResponse:
    settings = gateway.settings
    if settings.insecure and not is_loopback(_host_name(request.host)):
        # A page of anywhere whose name was made to point here would be of the same host (DNS rebinding).
        raise Forbidden(f"Without tokens this gateway answers to localhost alone, not to {request.host!r:.80}.")
    origin = request.headers.get("Origin")
    if origin is not None and not allowed(gateway, request, origin):
        raise Forbidden(
            f"Pages of {origin!r:.100} may not use this gateway.",
            hint="Start it with --allow-origin for that origin.",
        )
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        headers = {"Access-Control-Allow-Methods": _CORS_METHODS, "Access-Control-Allow-Headers": _CORS_HEADERS}
        return web.Response(status=204, headers={**headers, "Access-Control-Max-Age": "600"})
    return await handler(request)


def allowed(gateway: Gateway, request: web.Request, origin: str) -> bool:
    """Say whether a page may use this gateway: one of the same host, or one that is listed."""
    listed = gateway.settings.allow_origin
    return urlsplit(origin).netloc == request.host or origin in listed or "*" in listed


def cors(gateway: Gateway, request: web.Request) -> dict[str, str]:
    """Return the headers by which a browser lets a listed page read the answer."""
    origin = request.headers.get("Origin")
    if origin is None or not allowed(gateway, request, origin):
        return {"Vary": "Origin"} if gateway.settings.allow_origin else {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Vary": "Origin",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }


def _host_name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""
