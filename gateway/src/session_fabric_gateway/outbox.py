"""Where bytes leave: all frames of one tick of the event loop go to a connection in one write.

Of a session with few readers the first frame of a tick goes at once: what else there is to spell in that tick, mostly
for others, would hold it up. No queue and no task per connection on this path: a frame is encoded once and its bytes
are shared by all.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Callable
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Final

from aiohttp import web

from session_fabric_gateway.rota import Rota

# A transport that has more than this unsent is left alone until it has sent most of it.
HIGH_WATER_BYTES: Final = 256 * 1024
LOW_WATER_BYTES: Final = 64 * 1024
# A thousand writes block the loop for 6-8 ms: others get a turn after so many.
_WRITES_A_TURN: Final = 256
# And who has just come gets one after so many that were made ahead of the tick's end.
_AT_ONCE_A_TICK: Final = 64


class Sender:
    """Writes what the outboxes of a process hold, once a tick."""

    def __init__(self) -> None:
        self._due: list[Outbox] = []
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._at_once = 0
        # What is stored is sent a frame a turn of the loop, whoever catches up: one takes 1 to 3 ms to spell.
        self.history = Rota(1)
        self.written_bytes = 0
        self.writes = 0

    def due(self, outbox: Outbox) -> None:
        """Write an outbox at the end of this tick."""
        self._due.append(outbox)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def may_write(self) -> bool:
        """Say whether one more may be written to ahead of the end of this tick, and count it."""
        self._at_once += 1
        return self._at_once <= _AT_ONCE_A_TICK

    def _send(self) -> None:
        self._at_once = 0
        due = self._due
        if len(due) > _WRITES_A_TURN:
            self._due = due[_WRITES_A_TURN:]
            due = due[:_WRITES_A_TURN]
            self._loop.call_soon(self._send)
        else:
            self._due = []
            self._scheduled = False
        size = 0
        for outbox in due:
            size += outbox.flush()
        self.written_bytes += size
        self.writes += len(due)


class Outbox:
    """What waits to be written to one connection. Bounded: `paused` readers are skipped by those who fill it."""

    __slots__ = (
        "_begun",
        "_draining",
        "_file",
        "_protocol",
        "_shut",
        "_transport",
        "_writer",
        "chunked",
        "on_paused",
        "paused",
        "pending",
        "sender",
    )

    def __init__(
        self, sender: Sender, request: web.Request, on_paused: Callable[[], None], *, chunked: bool = False
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has left")
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        self.sender = sender
        self._transport = transport
        self._protocol = request.protocol
        self._writer = request.writer
        self.on_paused: Callable[[], None] | None = on_paused
        self.chunked = chunked
        self.paused = False
        self.pending: list[bytes] = []
        self._shut = False
        self._file = self._plain_file()
        self._begun = False
        self._draining: asyncio.Future[None] | None = None

    def _plain_file(self) -> int | None:
        """Return where bytes go as they are; None where something is to be done to them first."""
        socket = self._transport.get_extra_info("socket")
        return None if socket is None or self._transport.get_extra_info("sslcontext") else int(socket.fileno())

    def put_first(self, data: bytes) -> None:
        """Have bytes written at once, if nothing has been in this tick, and nothing waits; else as `put` does.

        The transport would keep them until all is done that there is to do in this turn of the event loop.
        """
        if self._shut:
            return
        if self.pending:
            self.pending.append(data)
            return
        self.sender.due(self)
        if self._begun or self.chunked or self._file is None or not self.sender.may_write():
            self.pending.append(data)
            return
        self._begun = True
        transport = self._transport
        if not transport.is_closing() and not transport.get_write_buffer_size():
            try:
                written = os.write(self._file, data)
            except OSError:
                written = 0  # the transport finds out, and deals with it
            self.sender.written_bytes += written
            data = data[written:]
        if data:
            self.pending.append(data)

    def put(self, data: bytes) -> None:
        """Have bytes written at the end of this tick."""
        if self._shut:
            return
        if not self.pending:
            self.sender.due(self)
        self.pending.append(data)

    def flush(self) -> int:
        """Write what waits; return how many bytes. Tells its owner when the transport takes no more."""
        self._begun = False
        pending = self.pending
        if not pending:
            return 0
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        self.pending = []
        if self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        # uvloop raises on a write to a closed transport.
        if self._shut or self._transport.is_closing():
            return 0
        self._transport.write(data)
        if not self.paused and self._protocol.writing_paused:
            self.paused = True
            if self.on_paused is not None:
                self.on_paused()
        return len(data)

    def shut(self) -> None:
        """Write what waits, and nothing more, whoever goes on putting something in."""
        self.flush()
        self._shut = True

    async def drained(self) -> None:
        """Wait until the transport takes more. Raises `ConnectionError` when it is gone."""
        while self._protocol.writing_paused:
            # All who wait for one transport wait for one future in aiohttp: who is cancelled would cancel the others.
            if self._draining is None or self._draining.done():
                self._draining = asyncio.ensure_future(self._writer.drain())
                self._draining.add_done_callback(_told)
            try:
                await asyncio.shield(self._draining)
            except ConnectionError:
                self._draining = None  # it has the error, whose frames have us
                raise
        self.paused = False

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    @property
    def unread_bytes(self) -> int:
        """What the peer has not taken yet, in our buffer and in the kernel's (megabytes, on a fast path)."""
        socket = self._transport.get_extra_info("socket")
        if socket is None or self._transport.is_closing():
            return 0
        try:
            queued = array("i", [0])
            ioctl(socket.fileno(), TIOCOUTQ, queued)
        except OSError:
            return self.buffered_bytes
        return self.buffered_bytes + queued[0]

    @property
    def stalled(self) -> bool:
        return self._protocol.writing_paused

    def abort(self) -> None:
        """Let go of the connection and of what is unsent."""
        self._transport.abort()


def _told(ended: asyncio.Future[None]) -> None:
    """Whoever still waits is told that the connection is gone; when nobody does, that is no error of anybody's."""
    if not ended.cancelled():
        ended.exception()
