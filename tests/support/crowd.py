"""Many light clients in one loop: each follows a session as docs/protocol.md says, over every gateway that goes.

They note all that a client must be able to rely on: the offsets they were given, in order, and for how long there was
no live connection. What contradicts the protocol is a fault.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, cast

import orjson

_PROTOCOL: Final = "session-fabric.v1"
_GIVE_UP: Final = 4500
_FIRST_S, _LONGEST_S = 0.1, 3.0
_GREET_S: Final = 5.0
_AT_ONCE: Final = 32

# Why a client left its connection: it was told to, the gateway closed it, or it broke.
Why = Literal["moved", "closed", "broken"]


def client_frame(data: bytes, opcode: int = 1) -> bytes:
    """Frame a message as a client; the mask of zeros leaves the bytes as they are."""
    size = len(data)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = struct.pack(">BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, size)
    return head + b"\0\0\0\0" + data


class Pause:
    """A time without a live connection: when it began, how long it took, and why."""

    __slots__ = ("at", "refused", "seconds", "why")

    def __init__(self, at: float, why: Why) -> None:
        self.at = at
        self.why: Why = why
        self.seconds: float | None = None
        self.refused = 0


class Client:
    """One participant's device with one session open. `writes`: it appends a note every so many seconds."""

    def __init__(self, port: int, session: str, participant: str, device: str, *, presence: bool) -> None:
        self.session = session
        self.participant = participant
        self.offsets: dict[str, float] = {}
        self.pauses: list[Pause] = []
        self.faults: list[str] = []
        self.acked: dict[str, str] = {}
        self.live = asyncio.Event()
        self.reopened = 0
        self.changed: Callable[[], None] = lambda: None
        self._port = port
        self._device = device
        self._presence = presence
        self._mark: str | None = None
        self._last = ""
        # Of this connection: what came over it, and behind what the next one has to be.
        self._here: set[str] = set()
        self._at = ""
        self._wire: _Wire | None = None
        self._tries = 0
        self._pause: Pause | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered: dict[int, tuple[str, dict[str, Any], str | None]] = {}
        self._numbers = 10
        self._over = False
        self._dialling: asyncio.Task[None] | None = None

    # --- its life -------------------------------------------------------------------------------------

    def start(self) -> None:
        self._dial()

    def stop(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._wire is not None:
            self._wire.drop()
        if self._dialling is not None:
            self._dialling.cancel()

    @property
    def mark(self) -> str | None:
        return self._mark

    def append(self, id: str, body: dict[str, Any]) -> None:
        """Store an event, however often it takes; `acked` has it when it is."""
        self._numbers += 1
        self._unanswered[self._numbers] = (id, body, self._resume())
        if self.live.is_set():
            self._send_append(self._numbers, again=False)

    @property
    def waiting(self) -> int:
        return len(self._unanswered)

    def _resume(self) -> str | None:
        return self._mark or self._last or None

    def _send_append(self, number: int, *, again: bool) -> None:
        id, body, since = self._unanswered[number]
        frame: dict[str, Any] = {
            "op": "append",
            "id": number,
            "session": self.session,
            "event": {"id": id, "body": body},
        }
        if again and since is not None:
            frame["since"] = since
        self._send(frame)

    def _dial(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_GREET_S, self._leave, "broken")
        wire = self._wire = _Wire(self)
        self._dialling = asyncio.get_running_loop().create_task(wire.dial(self._port))

    def _leave(self, why: Why, wait_s: float | None = None) -> None:
        """Let the connection go and dial again: at once, or after a time that doubles."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.drop()
        if self._over:
            return
        if self.live.is_set():
            self.live.clear()
            self._pause = Pause(time.time(), why)
            self.pauses.append(self._pause)
        elif self._pause is not None:
            self._pause.refused += 1
        if wait_s is None:
            ceiling = min(_LONGEST_S, _FIRST_S * 2**self._tries)
            self._tries += 1
            wait_s = ceiling * (0.5 + random.random() / 2)
        self._timer = loop.call_later(wait_s, self._dial)

    def credentials(self) -> str:
        """What it shows in `hello`: at a gateway that lets everybody in, who it is."""
        return self.participant

    # --- what the wire tells --------------------------------------------------------------------------

    def up(self) -> None:
        self._send({"op": "hello", "token": self.credentials(), "device": self._device, "client": "crowd/1"})
        self._here, self._at = set(), self._resume() or ""
        frame = {"op": "open", "id": 1, "session": self.session, "after": self._at or "start"}
        if self._presence:
            frame["presence"] = {}
        self._send(frame)

    def down(self, code: int | None) -> None:
        if code is not None and code >= _GIVE_UP:
            self.faults.append(f"given up: closed with {code}")
            self._over = True
        self._leave("broken" if code is None else "closed")

    def frame(self, data: bytes) -> None:
        frame = orjson.loads(data)
        match frame["op"]:
            case "events":
                now = time.time()
                for event in frame["events"]:
                    self._event(event["offset"], now)
                self.changed()
            case "mark":
                self._mark = frame["offset"]
                self._last = max(self._last, frame["offset"])
                self.changed()
            case "welcome":
                assert self._timer is not None
                self._timer.cancel()  # what is asked for now is waited for
            case "live":
                self._now_live()
            case "rewind":
                self._at = min(self._at, frame["to"])
                self._here = {offset for offset in self._here if offset <= self._at}
            case "moved":
                assert self._timer is not None
                self._timer.cancel()
                wait_s = random.random() * frame["after_ms"] / 1000
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._leave, "moved", 0.0)
            case "appended":
                id, _, _ = self._unanswered.pop(frame["id"])
                self.acked[id] = frame["offset"]
                self.changed()
            case "error" if frame.get("retryable") or frame["code"] == "draining":
                if frame.get("id") == 1:
                    self._leave("closed")
            case "error" | "gone":
                self.faults.append(f"{frame['op']}: {frame['code']}: {frame['message']}")
            case _:
                pass

    def _event(self, offset: str, now: float) -> None:
        # What came over an earlier connection, behind where this one goes on, comes again.
        if offset in self._here:
            self.faults.append(f"{offset} came twice")
        elif offset < self._at:
            self.faults.append(f"{offset} came behind {self._at}")
        self._here.add(offset)
        self._at = max(self._at, offset)
        self._last = max(self._last, offset)
        self.offsets.setdefault(offset, now)

    def _now_live(self) -> None:
        self._tries = 0
        if self._timer is not None:
            self._timer.cancel()
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.seconds = time.time() - pause.at
            self.reopened += 1
        self.live.set()
        for number in list(self._unanswered):
            self._send_append(number, again=True)
        self.changed()

    def _send(self, frame: dict[str, Any]) -> None:
        if self._wire is not None:
            self._wire.send(client_frame(orjson.dumps(frame)))

    def pong(self) -> None:
        if self._wire is not None:
            self._wire.send(client_frame(b"", 0xA))


class _Wire(asyncio.Protocol):
    """One WebSocket. What comes after it was dropped is nobody's."""

    def __init__(self, client: Client) -> None:
        self._client: Client | None = client
        self._transport: asyncio.Transport | None = None
        self._upgraded = False
        self._data = b""
        self._code: int | None = None

    async def dial(self, port: int) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        except OSError:
            self._ended()

    def drop(self) -> None:
        self._client = None
        if self._transport is not None:
            if self._upgraded:
                self._transport.write(client_frame(struct.pack(">H", 1000), 8))
            self._transport.close()

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._transport = transport
        if self._client is None:
            transport.close()
            return
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /v1/ws HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {_PROTOCOL}",
        ]
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._upgraded:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self._ended()  # 503: the gateway stops, or there is none
                return
            self._upgraded, self._data = True, rest
            if self._client is not None:
                self._client.up()
        self._frames()

    def _frames(self) -> None:
        data, at = self._data, 0
        while self._client is not None and len(data) - at >= 2:
            opcode, size, start = data[at] & 0xF, data[at + 1] & 0x7F, at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if len(data) - start < width:
                    break
                size, start = int.from_bytes(data[start : start + width], "big"), start + width
            if len(data) - start < size:
                break
            payload = data[start : start + size]
            at = start + size
            if opcode == 1:
                self._client.frame(payload)
            elif opcode == 9:
                self._client.pong()
            elif opcode == 8:
                self._code = int.from_bytes(payload[:2], "big") if payload else 1005
                self._ended()
        self._data = data[at:]

    def connection_lost(self, _: Exception | None) -> None:
        self._ended()

    def _ended(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.down(self._code)
        if self._transport is not None:
            self._transport.close()


class Crowd:
    """Clients that follow sessions, `each` of them as many."""

    def __init__(self, port: int, sessions: Sequence[str], each: int, *, present: int = 0) -> None:
        """`present`: how many of those in each session show that they are there."""
        self.clients = [
            Client(port, session, f"user:u{number}", f"d-{session}-{number}", presence=number < present)
            for session in sessions
            for number in range(each)
        ]

    async def start(self, timeout_s: float = 120.0) -> None:
        """Have all connect, a few at a time, and wait until all are live."""
        several = asyncio.Semaphore(_AT_ONCE)

        async def one(client: Client) -> None:
            async with several:
                client.start()
                await client.live.wait()

        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*(one(client) for client in self.clients))

    async def all_live(self) -> None:
        for client in self.clients:
            while not client.live.is_set():
                await client.live.wait()

    async def all_have(self, upto: dict[str, str], timeout_s: float) -> None:
        """Wait until each client has its session's events up to an offset, and each append its answer."""

        def missing() -> list[str]:
            return [
                f"{c.session}: {c.waiting} unanswered, at {c.mark}"
                for c in self.clients
                if c.waiting or not c.offsets or max(c.offsets) < upto[c.session]
            ]

        deadline = time.monotonic() + timeout_s
        while late := missing():
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(late)} clients lack something; the first: {late[0]}")
            await asyncio.sleep(0.1)

    def pauses(self) -> list[Pause]:
        return [pause for client in self.clients for pause in client.pauses]

    def faults(self) -> list[str]:
        return [f"{c.participant} in {c.session}: {fault}" for c in self.clients for fault in c.faults]

    def compared(self, log: dict[str, list[str]]) -> list[str]:
        """Return how the clients differ from the log: what is missing, what is not there, what is out of order."""
        wrong = []
        for client in self.clients:
            stored, got = log[client.session], client.offsets
            if sorted(got) != stored:
                lost, invented = set(stored) - set(got), set(got) - set(stored)
                wrong.append(f"{client.participant} in {client.session}: {len(lost)} lost, {len(invented)} not stored")
            wrong += [
                f"{client.session}: {id} was acknowledged at {offset}, which is not stored"
                for id, offset in client.acked.items()
                if offset not in set(stored)
            ]
        return wrong

    async def stop(self) -> None:
        for client in self.clients:
            client.stop()
        await asyncio.sleep(0)
