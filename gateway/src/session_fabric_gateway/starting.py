"""Starting while the broker is away or elects: it is tried again, and whoever asks meanwhile is told why."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final, TypeVar

import structlog
from aiohttp import web
from session_fabric.words.errors import BrokerUnavailable

from session_fabric_gateway.answers import headers_of_all, problem
from session_fabric_gateway.settings import Settings

log = structlog.get_logger()

# A try takes its five seconds or more where nobody answers; one that fails at once is not made again at once.
_AGAIN_S: Final = 0.5
_T = TypeVar("_T")


async def patiently(
    stack: AsyncExitStack,
    open: Callable[[], AbstractAsyncContextManager[_T]],
    settings: Settings,
    sockets: Sequence[socket.socket],
) -> _T:
    """Enter on `stack` what needs the broker, tried for `settings.broker_wait_s`.

    While it is tried again `sockets` (the public one first) answer that the process lives and is not ready. Raises
    `BrokerUnavailable` when time is up, and at once whatever waiting does not help against. Cancelled, it leaves
    nothing behind.
    """
    until = time.monotonic() + settings.broker_wait_s
    async with AsyncExitStack() as waiting:
        lobby: _Lobby | None = None
        while True:
            try:
                opened = await stack.enter_async_context(open())
            except BrokerUnavailable as error:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise
                log.warning("waiting_for_broker", detail=error.message, left_s=round(left_s, 1))
                if lobby is None:
                    lobby = await waiting.enter_async_context(_Lobby(settings, sockets, error))
                lobby.why = error
                await asyncio.sleep(min(_AGAIN_S, left_s))
                continue
            if lobby is not None:
                log.info("broker_is_ready")
            return opened


class _Lobby:
    """What answers on the gateway's ports while it waits; `async with`. The ports stay when it closes."""

    def __init__(self, settings: Settings, sockets: Sequence[socket.socket], why: BrokerUnavailable) -> None:
        self.why = why
        self._tls = settings.tls()
        self._headers = headers_of_all(settings.hsts_s)
        self._sockets = sockets
        app = web.Application()
        app.router.add_get("/healthz", self._healthy)
        app.router.add_route("*", "/{any:.*}", self._refused)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)

    async def __aenter__(self) -> _Lobby:
        await self._runner.setup()
        for number, sock in enumerate(self._sockets):
            context = self._tls.context if self._tls is not None and number == 0 else None
            # A site closes its socket when it ends: it gets one of its own, and the port goes on to be ours.
            await web.SockSite(self._runner, sock.dup(), ssl_context=context).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, headers=self._headers)

    async def _refused(self, _: web.Request) -> web.Response:
        response = problem(self.why)
        response.headers.update(self._headers)
        # The next one is to be answered by the gateway itself.
        response.force_close()
        return response
