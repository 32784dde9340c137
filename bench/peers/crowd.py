"""Viewers of any peer, on raw sockets: nothing is parsed, marks are counted."""

from __future__ import annotations

import multiprocessing
import os
import re
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from bench.peers.peer import Way
from bench.sockets import MARK, client_frame, read_until
from bench.stage import REST_CORE
from bench.viewers import Counter, Watchers, count

_PATIENCE_S: Final = 20.0
_TOGETHER: Final = 32
# Far more than anybody gets: viewers look on until nothing has come for a while.
_ALL: Final = 1 << 40
_CONFIRMED: Final = re.compile(rb"(..)" + re.escape(MARK), re.DOTALL)


def come(way: Way) -> tuple[socket.socket, bytes]:
    """Connect a viewer; return its socket and all that it has heard."""
    connection = socket.create_connection(("127.0.0.1", way.port), timeout=_PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    heard = rest = b""
    for said, awaited in way.turns:
        connection.sendall(said)
        before, rest = read_until(connection, rest, awaited)
        heard += before + awaited
    return connection, heard + rest


class Confirming:
    """Confirms each message of MQTT that a chunk completes."""

    def __init__(self) -> None:
        self._tails: dict[int, bytes] = {}

    def __call__(self, connection: socket.socket, chunk: bytes) -> None:
        number = connection.fileno()
        data = self._tails.get(number, b"") + chunk
        ids = _CONFIRMED.findall(data)
        self._tails[number] = data[-5:]  # shorter than an id and a mark, so none is confirmed twice
        for first in range(0, len(ids), 10_000):
            connection.sendall(client_frame(b"".join(b"\x40\x02" + one for one in ids[first : first + 10_000]), 2))


class Crowd(Watchers):
    """`with Crowd(ways) as crowd:` connects one to each; `result()` is what they saw until nothing came any more."""

    def __init__(self, ways: Sequence[Way], *, stamps: bool = False, patience_s: float = 1.0) -> None:
        super().__init__(multiprocessing.get_context("fork"), _watch, list(ways), stamps, patience_s)

    def look(self, each: int = _ALL) -> None:
        """Have them look on from now: until each has had so many, or nothing has come for a while."""
        self._ours.send(each)


def _watch(pipe: Connection, ways: list[Way], stamps: bool, patience_s: float) -> None:
    os.sched_setaffinity(0, {REST_CORE})
    try:
        sockets = [connection for connection, _ in come_all(ways)]
        pipe.send("ready")
        confirming = Confirming() if ways[0].confirms else None
        while True:
            pipe.send(count(sockets, pipe.recv(), stamps, patience_s, ways[0].alive, confirming))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


@dataclass
class Returned:
    """Seconds from each one's call that connects until it has all that it missed; who failed, and how."""

    took_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    failed: list[str] = field(default_factory=list)


def come_all(ways: Sequence[Way]) -> list[tuple[socket.socket, bytes]]:
    """Connect many viewers, some at a time; return as `come` does, in their order."""
    coming = _Coming(ways, 0, _TOGETHER)
    coming.run()
    if coming.told.failed:
        raise RuntimeError(f"{len(coming.told.failed)} viewers failed: {coming.told.failed[0]}")
    for one in coming.all:
        one.connection.settimeout(_PATIENCE_S)
    return [(one.connection, one.heard) for one in coming.all]


def come_back(ways: Sequence[Way], missed: int, at_once: int, last: bytes = b"") -> Returned:
    """Have all come, `at_once` at a time, and stay; each is back when it has as many marks as it missed, and `last`,
    where what comes in the place of many may have a mark several times."""
    coming = _Coming(ways, missed, at_once, last)
    coming.run()
    for one in coming.all:
        one.connection.close()
    return coming.told


class _One:
    """A viewer on its way in. `unread`: where in what it has `heard` the answer to its turn may begin."""

    __slots__ = ("_tail", "began", "connection", "counter", "heard", "last", "turns", "unread", "way")

    def __init__(self, way: Way, last: bytes) -> None:
        self.last = last
        self._tail = b""
        self.began = time.perf_counter()
        self.way = way
        self.connection = socket.create_connection(("127.0.0.1", way.port), timeout=_PATIENCE_S)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.turns = list(way.turns)
        self.heard = b""
        self.unread = 0
        self.counter = Counter()
        self.connection.sendall(self.turns[0][0])

    def hear(self, chunk: bytes) -> None:
        self.counter.take(chunk)
        if self.last:
            self._tail += chunk
            self.last = b"" if self.last in self._tail else self.last
            self._tail = self._tail[-len(self.last) :]
        if not self.turns:
            return
        self.heard += chunk
        while self.turns and (at := self.heard.find(self.turns[0][1], self.unread)) >= 0:
            self.unread = at + len(self.turns.pop(0)[1])
            if self.turns:
                self.connection.sendall(self.turns[0][0])


class _Coming:
    def __init__(self, ways: Sequence[Way], missed: int, at_once: int, last: bytes = b"") -> None:
        self._last = last
        self.told = Returned()
        self.all: list[_One] = []
        self._waiting = list(reversed(ways))
        self._missed = missed
        self._at_once = at_once
        self._under_way: dict[int, _One] = {}
        self._poll = select.epoll()
        self._confirming = Confirming()

    def run(self) -> None:
        began = time.perf_counter()
        while self._waiting or self._under_way:
            while self._waiting and len(self._under_way) < self._at_once:
                one = _One(self._waiting.pop(), self._last)
                self.all.append(one)
                self._under_way[one.connection.fileno()] = one
                self._poll.register(one.connection, select.EPOLLIN)
            ready = self._poll.poll(_PATIENCE_S)
            if not ready:
                for one in list(self._under_way.values()):
                    self._end(one, f"nothing came for {_PATIENCE_S:g} s")
            for number, _ in ready:
                self._hear(self._under_way[number])
        self.told.wall_s = time.perf_counter() - began

    def _hear(self, one: _One) -> None:
        try:
            chunk = one.connection.recv(1 << 18)
        except ConnectionError:
            chunk = b""
        if not chunk:
            self._end(one, "closed")
            return
        one.hear(chunk)
        if one.way.confirms:
            self._confirming(one.connection, chunk)
        if not (one.turns or one.last) and one.counter.count >= self._missed:
            self._end(one)

    def _end(self, one: _One, failure: str = "") -> None:
        if failure:
            self.told.failed.append(f"{failure}, {one.counter.count} of {self._missed} events: {one.heard[-120:]!r}")
        else:
            self.told.took_s.append(time.perf_counter() - one.began)
        self._poll.unregister(one.connection)
        del self._under_way[one.connection.fileno()]
