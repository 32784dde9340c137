"""What clients send on sockets, taken in a little at a time: others have their turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from traceback import clear_frames
from typing import Final

from aiohttp import web
from aiohttp.http_websocket import WebSocketReader

from session_fabric_gateway.unmasking import Unmasking

# Parsed at a time. uvloop reads 256 KiB, which are 43,000 of the smallest frames: 80 ms of work, and these are 2.
_SLICE_BYTES: Final = 8 * 1024
# What a client in earnest still sends when it has been told that the connection ends: its own close is behind it.
_LAST_BYTES: Final = 64 * 1024
# Beyond that it is read and dropped, so that it gets to hear why: 256 KiB at a time, this often.
_DROP_EVERY_S: Final = 0.01


class Intake(web.RequestHandler):
    """aiohttp's protocol of one connection, whose socket frames are parsed in slices."""

    __slots__ = ("_at", "_due", "_held", "_last", "_unmasking")

    def __init__(self, manager: web.Server, **options: object) -> None:
        super().__init__(manager, **options)  # type: ignore[arg-type]
        # What has come and is not parsed yet: `_held` from `_at` on.
        self._held = b""
        self._at = 0
        self._due: asyncio.Handle | None = None
        self._unmasking = Unmasking()
        # How much more is looked at; None: the connection goes on.
        self._last: int | None = None

    async def start(self) -> None:
        """Answer requests until the connection ends."""
        try:
            await super().start()
        except asyncio.CancelledError as error:
            # It holds the frames through which it went, and they hold it: what many connections leave behind when
            # they are lost would be the collector's, which stops everybody for a millisecond a dozen of them.
            clear_frames(error.__traceback__)
            raise

    def set_parser(self, parser: WebSocketReader, data_received_cb: Callable[[], None] | None = None) -> None:
        """From here on there are frames of a socket; some may have come with the request."""
        early, self._message_tail = self._message_tail, b""
        super().set_parser(parser, data_received_cb)
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        if self._unwanted:
            if self._payload_parser is None:
                super().data_received(data)  # of a body the end is to be noticed
            self._pause_transport_reading()  # read on, but slowly
            self._drop()
            self._feed_soon(_DROP_EVERY_S)
            return
        if self._payload_parser is None:
            super().data_received(data)
            return
        if len(data) <= _SLICE_BYTES and not self._held and self._last is None:
            self._parse(data)
            return
        self._held, self._at = self._held[self._at :] + data, 0
        self._pause_transport_reading()
        self._feed_soon()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._drop()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        super().connection_lost(exc)
        # Requests that nobody will answer hold this connection by their bodies, and it them.
        self._messages.clear()

    async def _drain_helper(self) -> None:
        """Wait until the client takes more. Raises `ConnectionError` when it is gone."""
        try:
            await super()._drain_helper()
        except ConnectionError as error:
            # It went through a frame that holds the future which holds it, and us: see `start`.
            clear_frames(error.__traceback__)
            raise

    def ends(self) -> None:
        """We have had enough of it: read a little more, for the client's own close may be in it, and drop the rest."""
        if self._last is None:
            self._last = _LAST_BYTES

    @property
    def ending(self) -> bool:
        """Whether we have had enough of it."""
        return self._last is not None

    @property
    def _unwanted(self) -> bool:
        """Whether what comes is dropped, but for the end of a body."""
        return self._last == 0 or (self._last is not None and self._payload_parser is None)

    def _parse(self, piece: bytes) -> None:
        super().data_received(self._unmasking.add(piece))
        if self._close:
            self._last = 0  # a frame was too large, or none: aiohttp looks at nothing more

    def _drop(self) -> None:
        self._held, self._at = b"", 0

    def _feed_soon(self, after_s: float = 0.0) -> None:
        if self._due is None:
            loop = self._loop
            self._due = loop.call_later(after_s, self._feed) if after_s else loop.call_soon(self._feed)

    def _feed(self) -> None:
        self._due = None
        if self.transport is None or self.transport.is_closing():
            self._drop()
        elif self._unwanted:
            self._drop()
            super()._resume_transport_reading()
        elif not self._reading_paused:  # else its owner has enough to do, and resumes
            piece = self._held[self._at : self._at + _SLICE_BYTES]
            self._at += len(piece)
            if self._at == len(self._held):
                self._drop()
            if self._last is not None:
                self._last = max(0, self._last - len(piece))
            self._parse(piece)
            self._go_on()

    def _go_on(self) -> None:
        if self._last == 0:
            self._drop()
            self._feed_soon(_DROP_EVERY_S)
        elif self._held:
            self._feed_soon()
        elif not self._reading_paused and not self._buffer_paused:
            super()._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if self._held:
            self._feed_soon()
        else:
            super()._resume_transport_reading()
