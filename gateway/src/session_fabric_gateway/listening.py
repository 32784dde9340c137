"""The listening socket, with or without TLS."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import structlog
from aiohttp import web

from session_fabric_gateway.doorway import MOST_HEADERS, MOST_LINE_BYTES, Doorway, Entrant, Visitor
from session_fabric_gateway.endings import end
from session_fabric_gateway.strangers import Cut
from session_fabric_gateway.tls import Tls

log = structlog.get_logger()

_BACKLOG: Final = 4096
# Connections that are taken in in one turn of the loop: one costs about a tenth of a millisecond.
_A_TURN: Final = 32
_KEEPALIVE_S: Final = 75.0
# What is read of a body before anybody asks for it; aiohttp reads twice as much.
_READ_AHEAD_BYTES: Final = 32 * 1024
# A body that nobody reads any more is read to its end for so long, so that the answer is not lost with a reset.
_LINGER_S: Final = 5.0
# Where no descriptor is left for another connection: until some have ended.
_FULL_S: Final = 0.2


class Handshake:
    """A connection that is not encrypted yet."""

    def __init__(self, sock: socket.socket, door: Doorway) -> None:
        self.sock = sock
        self._door = door
        self.task: asyncio.Task[None] | None = None

    def cut(self, why: Cut) -> None:
        self._door.count_cut(why)
        if self.task is not None:
            self.task.cancel()


class DoorSite(web.BaseSite):
    """A listening socket whose connections come through the doorway. `head_s` is the time for a TLS handshake."""

    def __init__(
        self, runner: web.AppRunner, sock: socket.socket, door: Doorway, head_s: float, tls: Tls | None
    ) -> None:
        super().__init__(runner, ssl_context=None if tls is None else tls.context, backlog=_BACKLOG)
        self._sock = sock
        self._door = door
        self._head_s = head_s
        self._accepting: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        host, port = self._sock.getsockname()[:2]
        return f"{'https' if self._ssl_context else 'http'}://{host}:{port}"

    async def start(self) -> None:
        await super().start()
        self._sock.setblocking(False)
        self._sock.listen(self._backlog)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(), name="accept")

    async def stop(self) -> None:
        if self._accepting is not None:
            await end([self._accepting])
        await super().stop()

    def _visitor(self, handshake: Entrant | None = None) -> Visitor:
        manager = self._runner.server
        assert manager is not None
        return Visitor(
            self._door,
            manager,
            handshake,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
            max_line_size=MOST_LINE_BYTES,
            max_field_size=MOST_LINE_BYTES,
            max_headers=MOST_HEADERS,
            read_bufsize=_READ_AHEAD_BYTES,
            # A body that is small here may be gigabytes there: nobody may send one.
            auto_decompress=False,
        )

    async def _accept(self) -> None:
        """Take connections in, some in each turn of the loop.

        uvloop's own server takes one a turn, and has those wait whom another gateway has sent here, the longer the
        more there is to do. With TLS they are taken in before they are encrypted: a handshake is work, and holds a
        descriptor.
        """
        loop, due = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._sock, due.set)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await due.wait()
                    due.clear()
                    try:
                        for _ in range(_A_TURN):
                            self._take_in(group, *self._sock.accept())
                    except BlockingIOError:
                        pass  # there are no more
                    except OSError as error:
                        log.warning("accept_failed", error=error.strerror)
                        await asyncio.sleep(_FULL_S)
        finally:
            loop.remove_reader(self._sock)

    def _take_in(self, group: asyncio.TaskGroup, sock: socket.socket, peer: object) -> None:
        sock.setblocking(False)
        if self._ssl_context is None:
            group.create_task(self._connect(sock))
            return
        handshake = Handshake(sock, self._door)
        if self._door.knocks(handshake, peer) is None:
            sock.close()
        else:
            handshake.task = group.create_task(self._encrypt(handshake))

    async def _connect(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._visitor, sock)
        except OSError:  # it has left again
            sock.close()
        except BaseException:
            sock.close()
            raise

    async def _encrypt(self, handshake: Handshake) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: self._visitor(handshake),
                handshake.sock,
                ssl=self._ssl_context,
                ssl_handshake_timeout=self._head_s,
            )
        except OSError:  # no handshake, none that is let in, or none in time
            self._door.count_cut("handshake")
            handshake.sock.close()
        except BaseException:
            handshake.sock.close()
            raise
        finally:
            self._door.strangers.remove(handshake)
