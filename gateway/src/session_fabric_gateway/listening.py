"""The listening socket, with or without TLS."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import structlog
from aiohttp import web

from session_fabric_gateway.doorway import MOST_HEADERS, MOST_LINE_BYTES, Doorway, Visitor
from session_fabric_gateway.endings import end
from session_fabric_gateway.strangers import Cut
from session_fabric_gateway.tls import Tls

log = structlog.get_logger()

_BACKLOG: Final = 4096
# Connections that are taken in in one turn of the loop: one costs about a tenth of a millisecond.
_A_TURN: Final = 8
# One for which another has to go counts as so many: what it costs, the other costs too. Whoever has that many strangers
# does so all the time, and what others wait for would come a few milliseconds later each time.
_INSTEAD: Final = 4
_KEEPALIVE_S: Final = 75.0
# What is read of a body before anybody asks for it; aiohttp reads twice as much.
_READ_AHEAD_BYTES: Final = 32 * 1024
# A body that nobody reads any more is read to its end for so long, so that the answer is not lost with a reset.
_LINGER_S: Final = 5.0
# Where no descriptor is left for another connection: until some have ended.
_FULL_S: Final = 0.2


class Arrival:
    """A connection that is coming in: accepted, and perhaps not encrypted yet."""

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

    def _visitor(self, arrival: Arrival) -> Visitor:
        manager = self._runner.server
        assert manager is not None
        return Visitor(
            self._door,
            manager,
            arrival,
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
        more there is to do. They are counted before anything is made for them: a handshake is work, and each holds a
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
                        left = _A_TURN
                        while left > 0:
                            left -= self._take_in(group, *self._sock.accept())
                    except BlockingIOError:
                        pass  # there are no more
                    except OSError as error:
                        log.warning("accept_failed", error=error.strerror)
                        await asyncio.sleep(_FULL_S)
        finally:
            loop.remove_reader(self._sock)

    def _take_in(self, group: asyncio.TaskGroup, sock: socket.socket, peer: object) -> int:
        """Ask for an address's rate before anything is made: who comes again and again costs next to nothing.

        Return how much of a turn it takes.
        """
        arrival = Arrival(sock, self._door)
        room = self._door.knocks(arrival, peer)
        if room == "none":
            sock.close()
        else:
            sock.setblocking(False)
            arrival.task = group.create_task(self._connect(arrival))
        return _INSTEAD if room == "made" else 1

    async def _connect(self, arrival: Arrival) -> None:
        encrypted = self._ssl_context is not None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._visitor(arrival),
                arrival.sock,
                ssl=self._ssl_context,
                ssl_handshake_timeout=self._head_s if encrypted else None,
            )
        except OSError:  # it has left again; or no handshake, none that is let in, or none in time
            if encrypted:
                self._door.count_cut("handshake")
            arrival.sock.close()
        except BaseException:
            arrival.sock.close()
            raise
        finally:
            self._door.strangers.remove(arrival)
