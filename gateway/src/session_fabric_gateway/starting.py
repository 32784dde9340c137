"""Starting while the broker is away or elects: it is tried again, and whoever asks meanwhile is told why."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Final, TypeVar

import structlog
from aiohttp import web
from session_fabric.words.errors import BrokerUnavailable

from session_fabric_gateway.answers import headers_of_all, problem
from session_fabric_gateway.settings import Settings

log = structlog.get_logger()

# A try takes ten seconds or more where nobody answers; one that fails at once is not made again at once.
_AGAIN_S: Final = 0.5
# Whoever asks sooner finds nobody, as before any start.
_ALONE_S: Final = 1.0
_T = TypeVar("_T")


async def patiently(
    stack: AsyncExitStack,
    open: Callable[[], AbstractAsyncContextManager[_T]],
    settings: Settings,
    sockets: Sequence[socket.socket],
) -> _T:
    """Enter on `stack` what needs the broker, tried for `settings.broker_wait_s`.

    What `open` does waits for the broker too, on one connection and for some seconds; here all of it begins anew, its
    later steps too. When that lasts, `sockets` (the public one first) answer that the process lives and is not ready.
    Raises `BrokerUnavailable` when time is up, and at once whatever waiting does not help against. Cancelled, it
    leaves nothing behind.
    """
    until = time.monotonic() + settings.broker_wait_s
    async with _Lobby(settings, sockets) as lobby:
        while True:
            try:
                opened = await stack.enter_async_context(open())
            except BrokerUnavailable as error:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise
                log.warning("waiting_for_broker", detail=error.message, left_s=round(left_s, 1))
                lobby.why, lobby.told = error, True
                await asyncio.sleep(min(_AGAIN_S, left_s))
                continue
            if lobby.told:
                log.info("broker_is_ready")
            return opened


class _Lobby:
    """What answers on the gateway's ports when a start lasts; `async with`. The ports stay when it closes."""

    def __init__(self, settings: Settings, sockets: Sequence[socket.socket]) -> None:
        self.why = BrokerUnavailable("The gateway waits for its broker.", hint="Ask again when /readyz says ready.")
        self.told = False
        self._over = asyncio.Event()
        self._left_s = max(0.0, settings.broker_wait_s - _ALONE_S)
        self._tls = settings.tls()
        self._headers = headers_of_all(settings.hsts_s)
        self._sockets = sockets
        app = web.Application()
        app.router.add_get("/healthz", self._healthy)
        app.router.add_route("*", "/{any:.*}", self._refused)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)

    async def __aenter__(self) -> _Lobby:
        self._opening = asyncio.create_task(self._open(), name="lobby")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        try:
            await self._opening
        finally:
            await self._runner.cleanup()

    async def _open(self) -> None:
        """Open when there has been time to start without."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), _ALONE_S)
            return
        if not self.told:
            log.warning("waiting_for_broker", detail=self.why.message, left_s=round(self._left_s, 1))
            self.told = True
        await self._runner.setup()
        for number, sock in enumerate(self._sockets):
            context = self._tls.context if self._tls is not None and number == 0 else None
            # A site closes its socket when it ends: it gets one of its own, and the port goes on to be ours.
            await web.SockSite(self._runner, sock.dup(), ssl_context=context).start()

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, headers=self._headers)

    async def _refused(self, _: web.Request) -> web.Response:
        response = problem(self.why)
        response.headers.update(self._headers)
        # The next one is to be answered by the gateway itself.
        response.force_close()
        return response
