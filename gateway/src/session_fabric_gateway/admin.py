"""A port of its own for those who run the gateway: metrics and health, where the public one need not show them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler
from session_fabric.words.errors import FabricError
from session_fabric.words.version import VERSION

from session_fabric_gateway.answers import problem
from session_fabric_gateway.gateway import Gateway


class Probes:
    """Is it alive, can it serve, and what has it counted."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def health(self) -> list[web.RouteDef]:
        return [web.get("/healthz", self.healthy), web.get("/readyz", self.ready)]

    def metrics(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self.scraped)]

    async def healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        await self._gateway.ready()
        return web.json_response({"status": "ok", "version": VERSION})

    async def scraped(self, request: web.Request) -> web.Response:
        # In a thread: of many workers it is some milliseconds' work, and events would wait for it.
        body, content_type = await asyncio.to_thread(self._gateway.metrics.text, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


@asynccontextmanager
async def administering(gateway: Gateway, sock: socket.socket) -> AsyncIterator[None]:
    """Serve metrics and health on a bound socket for as long as the block lasts."""
    probes = Probes(gateway)
    app = web.Application(middlewares=[_errors])
    app.add_routes([*probes.health(), *probes.metrics()])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FabricError as error:
        return problem(error)
