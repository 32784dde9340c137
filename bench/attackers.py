"""Those who mean harm, each a process that asks for the processor last: what they do must cost the gateway, not us."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

from bench.sockets import client_frame, upgrade
from bench.stage import REST_CORE

# Not the address of those who behave: what is counted by address is theirs alone.
_ADDRESS: Final = "127.0.0.2"
_SOME: Final = 64 * 1024
# Sent by one call: where the kernel is built without preemption it ends a call before anybody else has the core, and
# nine MiB hold up for 4 ms who shares that core with attackers, as nobody does but here.
_AT_ONCE: Final = 16 * 1024
_MIB: Final = 1024 * 1024
# One who is cut or refused comes back at once.
_AGAIN_S: Final = 0.02


@dataclass(frozen=True)
class Target:
    """Where they go, the tokens they have, and sessions with much to catch up on."""

    port: int
    tokens: Sequence[str]
    sessions: Sequence[str]


Attack = Callable[[Target, "Tally"], Iterator[None]]


class Tally:
    """What an attacker got done: `sent` bytes, over so many connections."""

    def __init__(self) -> None:
        self.sent = 0
        self.heard = 0
        self.connections = 0


class Attackers:
    """`with Attackers(attacks, target):` they go on for as long as the block lasts; `told` is what they did, then."""

    def __init__(self, attacks: Sequence[Attack], target: Target) -> None:
        context = multiprocessing.get_context("fork")
        self._pairs = []
        self.told = Tally()
        for attack in attacks:
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(theirs, attack, target), daemon=True)
            self._pairs.append((ours, theirs, process))

    def __enter__(self) -> Self:
        for _, theirs, process in self._pairs:
            process.start()
            theirs.close()
        for ours, _, _ in self._pairs:
            ours.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for ours, _, _ in self._pairs:
            ours.send("stop")
        for ours, _, process in self._pairs:
            told = ours.recv()
            if isinstance(told, str):
                raise RuntimeError(f"an attacker failed: {told}")
            self.told.sent += told.sent
            self.told.heard += told.heard
            self.told.connections += told.connections
            process.join()


def _run(pipe: Connection, attack: Attack, target: Target) -> None:
    os.sched_setaffinity(0, {REST_CORE})
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    tally = Tally()
    pipe.send("begun")
    try:
        for _ in attack(target, tally):
            if pipe.poll(0):
                break
        pipe.send(tally)
    except Exception as error:
        pipe.send(f"{attack.__name__}: {type(error).__name__}: {error}")


class _Socket:
    """One connection that is written to and read from without waiting, and made anew when it ends."""

    def __init__(self, port: int, tally: Tally, begin: bytes, chunk: bytes = b"", every_s: float = 0.0) -> None:
        self._port = port
        self._tally = tally
        self._begin = begin
        self._chunk = chunk
        self._every_s = every_s
        self._due = 0.0
        self._unsent = memoryview(b"")
        self._connection: socket.socket | None = None
        self._again = 0.0
        self.answered = False

    @property
    def ended(self) -> bool:
        return self._connection is None

    def turn(self) -> None:
        """Send what goes, read what is there."""
        now = time.monotonic()
        if self._connection is None:
            if now < self._again:
                return
            self._connect()
        assert self._connection is not None
        try:
            if not self._unsent and self._chunk and now >= self._due:
                self._due = now + self._every_s
                self._unsent = memoryview(self._chunk)
            if self._unsent:
                sent = self._connection.send(self._unsent[:_AT_ONCE])
                self._tally.sent += sent
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.end()
            return
        self._hear()

    def _hear(self) -> None:
        assert self._connection is not None
        try:
            heard = self._connection.recv(_SOME)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        self._tally.heard += len(heard)
        self.answered = self.answered or b'"op":' in heard
        if not heard:
            self.end()

    def _connect(self) -> None:
        self.answered = False
        self._tally.connections += 1
        self._connection = socket.socket()
        self._connection.bind((_ADDRESS, 0))
        self._connection.connect(("127.0.0.1", self._port))
        self._connection.setblocking(False)
        self._unsent = memoryview(self._begin)

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._again = time.monotonic() + _AGAIN_S


def _greeting(target: Target, token: str) -> bytes:
    hello = client_frame(json.dumps({"op": "hello", "token": token, "deltas": "compact"}).encode())
    return upgrade(target.port, "/v1/ws", "session-fabric.v1") + hello


def _frames(one: Callable[[int], object], size: int = _SOME) -> bytes:
    """Return a chunk of frames."""
    frames: list[bytes] = []
    length = number = 0
    while length < size:
        frames.append(client_frame(json.dumps(one(number)).encode()))
        length += len(frames[-1])
        number += 1
    return b"".join(frames)


def _all(sockets: Sequence[_Socket], pause_s: float = 0.0) -> Iterator[None]:
    while True:
        for one in sockets:
            one.turn()
        if pause_s:
            time.sleep(pause_s)
        yield


# --- (a) as many frames as go ------------------------------------------------------------------------------


def _append(number: int) -> object:
    message = {"id": f"m{number}", "role": "user", "content": "x"}
    body = {"type": "message.user", "message": message}
    return {"op": "append", "id": number, "session": "eves", "event": {"body": body}}


def appends(target: Target, tally: Tally) -> Iterator[None]:
    """Four sockets of one participant append as fast as bytes go."""
    chunk = _frames(_append)
    return _all([_Socket(target.port, tally, _greeting(target, target.tokens[0]), chunk) for _ in range(4)])


def frames(target: Target, tally: Tally) -> Iterator[None]:
    """Frames that cost little each: pings of both kinds, and what is no request at all."""
    kinds = [
        _frames(lambda number: {"op": "ping", "id": number}),
        client_frame(b"", 9) * (_SOME // 6),
        _frames(lambda number: {"op": "nonsense", "id": number}),
        client_frame(b"{") * (_SOME // 7),
    ]
    return _all([_Socket(target.port, tally, _greeting(target, target.tokens[0]), kind) for kind in kinds])


# --- (b) connections ---------------------------------------------------------------------------------------


def storm(target: Target, tally: Tally) -> Iterator[None]:
    """One participant connects again and again, thirty at a time, and leaves as soon as it is let in."""
    sockets = [_Socket(target.port, tally, _greeting(target, target.tokens[0])) for _ in range(30)]
    while True:
        for one in sockets:
            one.turn()
            if one.answered:
                one.end()
        yield


def knocks(target: Target, tally: Tally) -> Iterator[None]:
    """Connections without a word, and requests without a token."""
    request = b"GET /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    sockets = [_Socket(target.port, tally, request if number % 2 else b"") for number in range(30)]
    while True:
        for one in sockets:
            one.turn()
            if not one.ended:
                one.end()
        yield


# --- (c) slowly ----------------------------------------------------------------------------------------------


def slowly(target: Target, tally: Tally) -> Iterator[None]:
    """Fifteen hundred heads that come byte by byte, and five hundred sockets that never say hello."""
    head = [_Socket(target.port, tally, b"GET / HTTP/1.1\r\nX-A: ", b"a", 1.0) for _ in range(1500)]
    half = [_Socket(target.port, tally, upgrade(target.port, "/v1/ws", "session-fabric.v1")) for _ in range(500)]
    return _all([*head, *half], 0.05)


# --- (d) what is too large -----------------------------------------------------------------------------------


def bodies(target: Target, tally: Tally) -> Iterator[None]:
    """Bodies of nine MiB, announced and not, and a body of the most that is taken, over and over."""
    head = f"POST /v1/sessions/eves/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {target.tokens[0]}\r\n"
    large = b"x" * (9 * _MIB)
    announced = f"{head}Content-Length: {len(large)}\r\n\r\n".encode() + large
    chunked = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(large):x}\r\n".encode() + large + b"\r\n0\r\n\r\n"
    text = b"[" + b"0," * (4 * _MIB - 1) + b"0]"
    most = f"{head}Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
    return _all([_Socket(target.port, tally, b"", one) for one in (announced, chunked, most)])


def large_frames(target: Target, tally: Tally) -> Iterator[None]:
    """Frames beyond the most, and frames of nearly the most that are no request, or a huge one."""
    hello = _greeting(target, target.tokens[0])
    beyond = _long_frame(b"x" * (9 * _MIB))
    nothing = _long_frame(b"x" * (7 * _MIB))
    many = b'{"op":"append","id":1,"session":"eves","event":{"body":{"type":"app.x","x":[%b0]}}}' % (b"0," * 3 * _MIB)
    return _all([_Socket(target.port, tally, hello, one) for one in (beyond, nothing, _long_frame(many))])


def _long_frame(data: bytes) -> bytes:
    return b"\x81\xff" + len(data).to_bytes(8, "big") + b"\0\0\0\0" + data


# --- (e) reading -----------------------------------------------------------------------------------------------


def opens(target: Target, tally: Tally) -> Iterator[None]:
    """A thousand sessions open, then one after another opened from its start, closed, and opened again."""

    def one(number: int) -> object:
        if number < 1000:
            return {"op": "open", "id": number, "session": f"eves-{number}"}
        if number % 2:
            return {"op": "close", "sub": number}
        return {"op": "open", "id": number, "session": target.sessions[number // 2 % len(target.sessions)]}

    chunk = _frames(one, 256 * 1024)
    return _all([_Socket(target.port, tally, _greeting(target, target.tokens[0]), chunk) for _ in range(2)])


def catch_ups(target: Target, tally: Tally) -> Iterator[None]:
    """Clients that read what there is of a long session, and come back for it at once; pages of it over HTTP."""
    session = target.sessions[0]
    opening = client_frame(json.dumps({"op": "open", "id": 1, "session": session}).encode())
    closing = client_frame(json.dumps({"op": "close", "sub": 1}).encode())
    page = (
        f"GET /v1/sessions/{session}/events?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {target.tokens[0]}\r\n\r\n"
    ).encode()
    sockets = [_Socket(target.port, tally, _greeting(target, target.tokens[0]), opening + closing) for _ in range(4)]
    return _all([*sockets, *(_Socket(target.port, tally, b"", page) for _ in range(4))])


# --- (f) another tenant, at its limit ----------------------------------------------------------------------------


def tenant(target: Target, tally: Tally) -> Iterator[None]:
    """Sixteen people of one tenant, each with a token of its own, do as much as they may and go on beyond."""

    def mixed(number: int) -> object:
        return _append(number) if number % 5 < 2 else {"op": "ping", "id": number}

    chunk = _frames(mixed, 4096)
    return _all([_Socket(target.port, tally, _greeting(target, token), chunk, 0.01) for token in target.tokens])
