"""Clients that arrive: one process opens many WebSockets, so many at a time, and notes when each is let in and live."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from bench.sockets import client_frame, upgrade
from bench.stage import REST_CORE

_PATIENCE_S: Final = 20.0
_WELCOME: Final = b'"op":"welcome"'
_LIVE: Final = b'"op":"live"'


@dataclass(frozen=True)
class Arriving:
    """What a client says: its token and, where it goes on to look at a session, which one."""

    token: str
    session: str | None = None


@dataclass
class Arrived:
    """Seconds from the call that connects until the welcome and, where a session is opened, until it is live."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    welcome_s: list[float] = field(default_factory=list)
    live_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def arrive(port: int, all_: Sequence[Arriving], at_once: int) -> Arrived:
    """Have all arrive, `at_once` at a time, and stay until the last is there. They are not this process's work."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, port, list(all_), at_once), daemon=True)
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    finally:
        process.join()
    if not isinstance(answer, Arrived):
        raise RuntimeError(f"the clients failed: {answer}")
    return answer


def _run(pipe: Connection, port: int, all_: list[Arriving], at_once: int) -> None:
    os.sched_setaffinity(0, {REST_CORE})
    try:
        pipe.send(_Crowd(port, all_, at_once).run())
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


class _One:
    """A client on its way in. `waits_for`: what it reads next, of what it has `heard`."""

    __slots__ = ("began", "connection", "heard", "rest", "waits_for")

    def __init__(self, connection: socket.socket, rest: list[tuple[bytes, bytes]]) -> None:
        self.began = time.perf_counter()
        self.connection = connection
        self.heard = b""
        self.waits_for = b""
        self.rest = rest


class _Crowd:
    def __init__(self, port: int, all_: list[Arriving], at_once: int) -> None:
        self._port = port
        self._upgrade = upgrade(port, "/v1/ws", "session-fabric.v1")
        self._left = [self._script(number, one) for number, one in enumerate(all_)]
        self._left.reverse()
        self._at_once = at_once
        self._poll = select.epoll()
        self._under_way: dict[int, _One] = {}
        self._stay: list[socket.socket] = []
        self._arrived = Arrived()

    def _script(self, number: int, one: Arriving) -> list[tuple[bytes, bytes]]:
        """Return what is said, and what is then waited for, in turns: as a client does that waits for each answer."""
        hello = {"op": "hello", "token": one.token, "device": f"d{number}", "client": "bench/1"}
        turns = [
            (self._upgrade, b"\r\n\r\n"),
            (client_frame(json.dumps({**hello, "deltas": "compact"}).encode()), _WELCOME),
        ]
        if one.session is not None:
            turns.append((client_frame(json.dumps({"op": "open", "id": 1, "session": one.session}).encode()), _LIVE))
        return turns

    def run(self) -> Arrived:
        used, began = time.process_time(), time.perf_counter()
        while self._left or self._under_way:
            while self._left and len(self._under_way) < self._at_once:
                self._begin(self._left.pop())
            ready = self._poll.poll(_PATIENCE_S)
            if not ready:
                raise RuntimeError(f"{len(self._under_way)} clients have heard nothing for {_PATIENCE_S:g} s")
            for number, _ in ready:
                self._hear(self._under_way[number])
        self._arrived.wall_s = time.perf_counter() - began
        self._arrived.cpu_s = time.process_time() - used
        for connection in self._stay:
            connection.close()
        return self._arrived

    def _begin(self, turns: list[tuple[bytes, bytes]]) -> None:
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = _One(connection, turns)
        connection.connect(("127.0.0.1", self._port))  # done by the kernel, whatever the gateway does
        self._poll.register(connection, select.EPOLLIN)
        self._under_way[connection.fileno()] = one
        self._say(one)

    def _say(self, one: _One) -> None:
        said, one.waits_for = one.rest.pop(0)
        one.connection.sendall(said)

    def _hear(self, one: _One) -> None:
        try:
            chunk = one.connection.recv(1 << 16)
        except ConnectionError:
            chunk = b""
        one.heard += chunk
        if not chunk:
            self._arrived.failed.append(repr(one.heard[-200:]))
            self._done(one)
            return
        if one.waits_for not in one.heard:
            return
        took = time.perf_counter() - one.began
        if one.waits_for == _WELCOME:
            self._arrived.welcome_s.append(took)
        elif one.waits_for == _LIVE:
            self._arrived.live_s.append(took)
        one.heard = b""
        if one.rest:
            self._say(one)
        else:
            self._done(one)

    def _done(self, one: _One) -> None:
        self._poll.unregister(one.connection)
        del self._under_way[one.connection.fileno()]
        self._stay.append(one.connection)
