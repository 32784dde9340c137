"""What a connection goes over: a socket of its own, or (`lanes`) one of several lanes of a socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog
from aiohttp import WSMessage, web

from session_fabric_gateway import codes
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close
from session_fabric_gateway.doorway import visitor_of
from session_fabric_gateway.gateway import Gateway, Transport
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.socket import CLOSE_WITHIN_S, Socket
from session_fabric_gateway.vitals import Patience

log = structlog.get_logger()


class Link(Protocol):
    """What a `Connection` reads from and writes to. Messages keep their order in both directions."""

    transport: Transport
    protocol: str | None
    patience: Patience
    # Whose header or cookie may bring the token; None: hello alone may.
    request: web.Request | None

    def outbox(self, id: str, on_paused: Callable[[], None]) -> Outbox:
        """Return what the connection of this id writes through; `on_paused` hears when it takes no more.

        Raises `ConnectionError`.
        """

    async def receive(self) -> WSMessage:
        """Return the next message; one of a kind that carries nothing: there will be none."""

    async def pong(self, data: bytes) -> None:
        """Answer a ping."""

    async def pause(self, seconds: float) -> None:
        """Take nothing in for so long."""

    def admit(self, grant: Grant) -> Close | None:
        """Hear that hello was good; return why it is not let in all the same."""

    async def close(self, id: str, close: Close, outbox: Outbox) -> None:
        """Close it and say why; `id` is the connection's. Never waits long for the peer."""


class Whole:
    """A socket that is one connection."""

    transport: Transport = "websocket"

    def __init__(self, gateway: Gateway, request: web.Request, socket: Socket, address: str) -> None:
        self.request: web.Request | None = request
        self.patience = gateway.patience
        self.protocol: str | None = socket.ws_protocol
        self._asked = request
        self._gateway = gateway
        self._socket = socket
        self._address = address

    def outbox(self, id: str, on_paused: Callable[[], None]) -> Outbox:
        box = Outbox(self._gateway.sender, self._asked, on_paused)
        self._socket.on_refused = partial(_refused, self._gateway, box, id)  # not us, who hold the socket
        return box

    async def receive(self) -> WSMessage:
        return await self._socket.receive()

    async def pong(self, data: bytes) -> None:
        await self._socket.pong(data)

    async def pause(self, seconds: float) -> None:
        # A frame is put together, and costs what it costs, before anybody asks for it.
        protocol = self._asked.protocol
        protocol.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            protocol.resume_reading()

    def admit(self, grant: Grant) -> Close | None:
        known(self._gateway, self._asked, self._address)
        return None

    async def close(self, id: str, close: Close, outbox: Outbox) -> None:
        await close_socket(self._gateway, self._asked, self._socket, outbox, id, close)


def _refused(gateway: Gateway, outbox: Outbox, id: str, close: Close) -> None:
    count_close(gateway, id, close, outbox.buffered_bytes)
    outbox.shut()


def known(gateway: Gateway, request: web.Request, address: str) -> None:
    """A good hello has come: it was no stranger who asked."""
    gateway.door.known(request)
    gateway.accounts.give_back(address, time.monotonic(), "requests")


async def close_socket(
    gateway: Gateway, request: web.Request, socket: Socket, outbox: Outbox, id: str, close: Close
) -> None:
    """Close a socket and say why; what is left unsent after that is let go of."""
    visitor_of(request).ends()
    count_close(gateway, id, close, outbox.buffered_bytes)
    outbox.shut()
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await socket.close(code=close.code, message=close.reason.encode())
    except (TimeoutError, ConnectionError, RuntimeError):
        pass
    finally:
        if outbox.buffered_bytes:
            outbox.abort()


def count_close(gateway: Gateway, id: str, close: Close, buffered_bytes: int) -> None:
    log.info("peer_closed", connection=id, code=close.code, buffered_bytes=buffered_bytes)
    gateway.metrics.closes.labels(str(close.code)).inc()
    if close is codes.SLOW_CONSUMER:
        gateway.metrics.slow.inc()
