"""One socket for several devices of one participant, the tabs of a browser: each has a lane of it.

A lane is a connection like any other, with a hello, a device, sessions and an end of its own. Frames are not changed:
a message that is a number says whose those after it are.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import replace
from math import inf
from typing import Any, Final

import orjson
from aiohttp import WSMessage, WSMsgType, web
from session_fabric.words.errors import RateLimited
from session_fabric.words.names import new_id

from session_fabric_gateway import codes
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close
from session_fabric_gateway.connection import Connection
from session_fabric_gateway.framing import text_frame
from session_fabric_gateway.gateway import Gateway, Transport
from session_fabric_gateway.inbound import look_after
from session_fabric_gateway.links import close_socket, count_close, known
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.socket import Socket
from session_fabric_gateway.vitals import Vitals

_MOST_LANES: Final = 100
_MOST_NUMBER_DIGITS: Final = 9
# What a lane has not taken up yet. Beyond, the socket is not read on until it has; one that is held never will.
_MOST_WAITING: Final = 1024
_MOST_WAITING_BYTES: Final = 1024 * 1024
_OVER: Final = WSMessage(WSMsgType.CLOSED, None, None)


class LaneOutbox(Outbox):
    """What waits to be written to one lane. A lane that is held takes no more, whatever the socket takes."""

    __slots__ = ("_go", "_head", "_held", "_socket")

    def __init__(self, head: bytes, socket: Outbox, request: web.Request, on_paused: Callable[[], None]) -> None:
        super().__init__(socket.sender, request, on_paused)
        self._head = head
        self._socket = socket
        self._held = False
        self._go = asyncio.Event()

    def _plain_file(self) -> int | None:
        return None  # what is written has to begin with the lane's number

    def flush(self) -> int:
        if self.pending:
            self.pending.insert(0, self._head)
        return super().flush()

    @property
    def held(self) -> bool:
        return self._held

    def hold(self) -> None:
        if self._held:
            return
        self._held = True
        self._go.clear()
        if not self.paused:
            self.paused = True
            if self.on_paused is not None:
                self.on_paused()

    def go(self) -> None:
        self._held = False
        self._go.set()

    async def drained(self) -> None:
        await super().drained()
        while self._held:
            self.paused = True
            await self._go.wait()
            await super().drained()

    @property
    def stalled(self) -> bool:
        return self._held or super().stalled

    @property
    def buffered_bytes(self) -> int:
        return 0  # the socket's, which counts it

    @property
    def unread_bytes(self) -> int:
        return 0 if self._held else self._socket.unread_bytes

    def abort(self) -> None:
        """The socket is the others' too."""


class Lane:
    """One device's part of a socket; a `Link`."""

    transport: Transport = "lane"
    protocol: str | None = codes.SUBPROTOCOL
    request: web.Request | None = None  # a cookie may have become somebody else's since

    def __init__(self, lanes: Lanes, number: int) -> None:
        self.patience = replace(lanes.gateway.patience, heartbeat_s=inf)  # the socket has one heart
        self.connection: Connection
        self.over = False
        self._lanes = lanes
        self._head = text_frame(str(number).encode())
        self._box: LaneOutbox | None = None
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._came = asyncio.Event()
        self._room = asyncio.Event()

    # --- from the socket ----------------------------------------------------------------------------

    async def take(self, data: bytes) -> None:
        """Have a message taken up in its turn. Waits while too many are before it."""
        if data in _WORDS:
            self._word(_WORDS[data])
            return
        while not self.over and (len(self._waiting) >= _MOST_WAITING or self._bytes >= _MOST_WAITING_BYTES):
            if self._box is not None and self._box.held:
                self.connection.end(codes.SLOW_CONSUMER)
                return
            self._room.clear()
            await self._room.wait()
        if not self.over:
            self._waiting.append(data)
            self._bytes += len(data)
            self._came.set()

    def _word(self, word: str) -> None:
        if word == "leave":
            self.end()
        elif self._box is not None:
            self._box.hold() if word == "hold" else self._box.go()

    def end(self) -> None:
        """Nothing comes any more."""
        self.over = True
        self._waiting.clear()
        self._came.set()
        self._room.set()
        if self._box is not None:
            self._box.go()

    def shut(self) -> None:
        """Send nothing more."""
        if self._box is not None:
            self._box.shut()

    # --- Link ---------------------------------------------------------------------------------------

    def outbox(self, id: str, on_paused: Callable[[], None]) -> Outbox:
        lanes = self._lanes
        self._box = LaneOutbox(self._head, lanes.outbox, lanes.request, on_paused)
        return self._box

    async def receive(self) -> WSMessage:
        while not self._waiting:
            if self.over:
                return _OVER
            self._came.clear()
            await self._came.wait()
        data = self._waiting.popleft()
        self._bytes -= len(data)
        self._room.set()
        return WSMessage(WSMsgType.TEXT, data, None)

    async def pong(self, data: bytes) -> None:
        """Pings are the socket's."""

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def admit(self, grant: Grant) -> Close | None:
        return self._lanes.admit(grant)

    async def close(self, id: str, close: Close, outbox: Outbox) -> None:
        count_close(self._lanes.gateway, id, close, 0)
        self.say_over(close)

    def say_over(self, close: Close) -> None:
        """Tell the other end that this lane has ended, and why."""
        self._lanes.outbox.put(self._head + text_frame(orjson.dumps(f"{close.code} {close.reason}")))
        self.end()


_WORDS: Final = {b'"hold"': "hold", b'"go"': "go", b'"leave"': "leave"}


class Lanes:
    """A socket with lanes; a `gateway.Peer`, which sees to the socket's own health."""

    def __init__(self, gateway: Gateway, request: web.Request, socket: Socket, address: str) -> None:
        self.grant: Grant | None = None  # each lane has its own
        self.gateway = gateway
        self.request = request
        self.outbox = Outbox(gateway.sender, request, lambda: None)
        self._id = new_id("c")
        self._address = address
        self._socket = socket
        self._vitals = Vitals(time.monotonic(), gateway.patience, greeted=True)
        self._lanes: dict[int, Lane] = {}
        self._whose: tuple[str, str] | None = None
        self._newest = 0
        self._empty_since = time.monotonic()
        self._closing = False
        self._group: asyncio.TaskGroup | None = None
        socket.on_refused = self._refused

    async def run(self) -> None:
        """Serve until it is closed. Cancelled: its lanes are cancelled too."""
        with self.gateway.serving(self, "websocket"):
            try:
                async with asyncio.TaskGroup() as self._group:
                    await self._read(self._group)
                    for lane in self._lanes.values():
                        lane.end()
            except* ConnectionError:
                pass
            finally:
                self._group = None
                self.outbox.on_paused = None
                self._socket.on_refused = None

    async def _read(self, group: asyncio.TaskGroup) -> None:
        lane: Lane | None = None
        while True:
            message = await self._socket.receive()
            await self.gateway.rota.turn()
            self._vitals.heard(time.monotonic())
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                data = bytes(message.data)
                if data.isdigit() and len(data) <= _MOST_NUMBER_DIGITS:
                    lane = self._lane(int(data), group)
                elif lane is not None:
                    await lane.take(data)
                elif not self._newest:
                    await self._close(codes.BAD_FRAME)
                    return
            elif message.type is WSMsgType.BINARY:
                await self._close(codes.BAD_FRAME)
                return
            elif message.type is not WSMsgType.PONG:
                return

    def _lane(self, number: int, group: asyncio.TaskGroup) -> Lane | None:
        """Return a lane, a new one for a number above all before; None for one that has ended, or is refused."""
        if number <= self._newest or self._closing:
            return self._lanes.get(number)
        first, self._newest = self._newest == 0, number
        lane = Lane(self, number)
        try:
            if len(self._lanes) >= _MOST_LANES:
                raise RateLimited("A connection has at most so many lanes.", limit=_MOST_LANES)
            if not first:  # a hello is a try to come in: counted as one, until it was a good one
                self.gateway.accounts.spend_of_address(self._address, time.monotonic(), "requests")
        except RateLimited:
            lane.say_over(codes.RATE_LIMITED)
            return None
        lane.connection = Connection(self.gateway, lane)
        self._lanes[number] = lane
        task = group.create_task(lane.connection.run(), context=Context())
        task.add_done_callback(lambda _: self._left(number))
        return lane

    def _left(self, number: int) -> None:
        lane = self._lanes.pop(number)
        lane.end()
        lane.shut()  # what waits may have no turn before the socket's close, and nothing may be sent behind that
        del lane.connection  # they refer to each other, and nobody is to collect them
        if not self._lanes:
            self._empty_since = time.monotonic()

    def admit(self, grant: Grant) -> Close | None:
        """Let a lane in whose device is the same participant's as the others'."""
        known(self.gateway, self.request, self._address)
        whose = (grant.tenant, grant.participant)
        if self._whose is None:
            self._whose = whose
        return None if self._whose == whose else codes.ANOTHERS

    # --- gateway.Peer -------------------------------------------------------------------------------

    def check(self, now: float, now_ms: int) -> None:
        if self._closing:
            return
        close = look_after(self._vitals, self.outbox, now, now_ms)
        if not self._lanes and now - self._empty_since >= self.gateway.patience.hello_s:
            close = codes.NO_HELLO
        if close is not None:
            self.end(close)

    def tell(self, op: str, fields: Mapping[str, Any]) -> None:
        """Each lane is told for itself."""

    def narrow(self, grant: Grant) -> None:
        """Each lane is looked at for itself."""

    def end(self, close: Close) -> None:
        if not self._closing and self._group is not None:
            self._group.create_task(self._close(close))

    async def _close(self, close: Close) -> None:
        if not self._closing:
            self._closing = True
            self._shut()
            await close_socket(self.gateway, self.request, self._socket, self.outbox, self._id, close)

    def _refused(self, close: Close) -> None:
        count_close(self.gateway, self._id, close, self.outbox.buffered_bytes)
        self._shut()

    def _shut(self) -> None:
        """Send nothing more, for any of the lanes."""
        for lane in self._lanes.values():
            lane.shut()
        self.outbox.shut()
