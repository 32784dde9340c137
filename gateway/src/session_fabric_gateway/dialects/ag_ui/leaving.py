"""A turn as server-sent events, and what becomes of its run when who reads it goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from aiohttp import web
from session_fabric import FabricError, Session

from session_fabric_gateway.dialects import inputs, pouring
from session_fabric_gateway.dialects.ag_ui.speaking import Turn
from session_fabric_gateway.dialects.ag_ui.turns import Turns
from session_fabric_gateway.dialects.inputs import Abort
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT

_WITHIN_S = 5.0


async def stream(
    gateway: Gateway,
    request: web.Request,
    session: Session,
    turns: Turns,
    turn: Turn,
    abort: Abort,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with what a turn tells. With `abort` interrupt a reader who goes away before its end stops the run.

    Over this transport nobody can tell whether he wanted to: his connection may have been lost.
    """
    async with gateway.hub.reading(session.place) as feed:
        tale = await turns.tale(turn, feed)
        try:
            response = await pouring.stream(gateway, request, session, tale, headers or {})
        except asyncio.CancelledError:
            if abort == "interrupt" and not tale.teller.over and not gateway.draining:
                await _interrupt(gateway, request, session, turn.of)
            raise
    return response


async def _interrupt(gateway: Gateway, request: web.Request, session: Session, run: str) -> None:
    """The request is cancelled already: this must not take long."""
    with suppress(FabricError, TimeoutError):
        async with asyncio.timeout(_WITHIN_S):
            await inputs.stop(gateway, gateway.still(request[GRANT]), session, run, "interrupt")
