"""What every HTTP answer has in common: its headers, and how an error is told (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import web
from session_fabric import FabricError

from session_fabric_gateway.codes import STATUS, facts_of

SERVER: Final = "session-fabric"
# RFC 9457's own members: no fact of an error takes their place.
_STANDARD: Final = frozenset({"type", "title", "status", "detail", "instance"})
# The demo page is made of files beside it, and speaks to where it came from.
PAGE_POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Of everything that does not say otherwise (OWASP's list for APIs: cheatsheetseries.owasp.org, REST Security).
_HEADERS: Final[Mapping[str, str]] = {
    "Server": SERVER,
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def headers_of_all(hsts_s: int) -> dict[str, str]:
    """Return the headers of every answer; `hsts_s` 0: without Strict-Transport-Security."""
    hsts = {"Strict-Transport-Security": f"max-age={hsts_s}; includeSubDomains"} if hsts_s else {}
    return {**_HEADERS, **hsts}


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
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(facts.get("retry_after_ms", 0) / 1000)))
    body = orjson.dumps(document)
    return web.Response(body=body, status=status, content_type="application/problem+json", headers=headers)
