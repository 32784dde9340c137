"""Where a request has its token: in its header, or in a cookie that a page of ours sends along."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web
from session_fabric.words.errors import Unauthenticated

from session_fabric_gateway.gateway import Gateway

_BEARER: Final = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)


def token_of(gateway: Gateway, request: web.Request) -> str | None:
    """Return the token that a request brings; None where it has none. Raises `Unauthenticated`."""
    header = request.headers.get("Authorization")
    if header is not None:
        match = _BEARER.fullmatch(header)
        if match is None:
            raise Unauthenticated("The Authorization header is not `Bearer <token>`.")
        return match.group(1)
    name = gateway.settings.cookie
    token = None if name is None else request.cookies.get(name)
    if token is not None and not _asked_by_a_page_of_ours(request):
        raise Unauthenticated(
            "The cookie does not say who asks: no page of this gateway, or of an origin that it lists, has sent it.",
            hint="Ask from such a page, or send the token in Authorization.",
        )
    return token


def _asked_by_a_page_of_ours(request: web.Request) -> bool:
    """Say so where the browser does: it sends cookies for whichever page asks, a stranger's too.

    An `Origin` that may not use this gateway was refused before. A page's reads of its own origin have none, and say
    so otherwise (w3.org/TR/fetch-metadata).
    """
    if "Origin" in request.headers:
        return True
    return request.method in ("GET", "HEAD") and request.headers.get("Sec-Fetch-Site") == "same-origin"
