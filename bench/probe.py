"""Those who behave: an agent's tokens, evenly, and how long each takes until it is read from a browser's socket."""

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
from types import TracebackType
from typing import Final, Self

from session_fabric.ports import Stretch

from bench.load import TEXT, delta
from bench.sockets import ALIVE, client_frame, read_until, websocket
from bench.stage import REST_CORE, go_before_broker
from bench.viewers import STAMP

_TEXT: Final = len(TEXT + "0123456789abcdef tok")
_ALIVE_EVERY_S: Final = 3.0
# What has not come by then is lost.
_AFTER_S: Final = 10.0


@dataclass(frozen=True)
class Pair:
    """A session of theirs, and the token of who looks at it."""

    stretch: Stretch
    session: str
    token: str


@dataclass
class Felt:
    """What one measurement saw. `lost`: tokens that never came."""

    ms: list[float] = field(default_factory=list)
    lost: int = 0


class Probe:
    """`with Probe(…) as probe:` connects one browser to each session; `measure` has the agent write, and looks."""

    def __init__(self, gateway: int, nats: int, pairs: Sequence[Pair], per_s: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, gateway, nats, list(pairs), per_s), daemon=True)
        self._theirs = theirs

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        self._said()
        return self

    def measure(self, seconds: float) -> Felt:
        self._ours.send(seconds)
        felt = self._said()
        assert isinstance(felt, Felt)
        return felt

    def _said(self) -> object:
        said = self._ours.recv()
        if isinstance(said, str):
            raise RuntimeError(f"those who behave failed: {said}")
        return said

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()


def _run(pipe: Connection, gateway: int, nats: int, pairs: list[Pair], per_s: int) -> None:
    os.sched_setaffinity(0, {REST_CORE})
    go_before_broker()
    try:
        streams = _Streams(gateway, nats, pairs, per_s)
        pipe.send(Felt())
        while True:
            streams.keep_alive_until(pipe)
            pipe.send(streams.measure(pipe.recv()))
    except EOFError:
        pass
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


class _Streams:
    def __init__(self, gateway: int, nats: int, pairs: list[Pair], per_s: int) -> None:
        self._pairs = pairs
        self._per_s = per_s
        self._number = 0
        self._told = 0.0
        self._poll = select.epoll()
        self._agent = socket.create_connection(("127.0.0.1", nats))
        self._agent.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._agent.sendall(b'CONNECT {"verbose":false,"headers":true,"lang":"b","version":"1"}\r\nPING\r\n')
        read_until(self._agent, b"", b"PONG\r\n")
        self._browsers = {}
        for number, pair in enumerate(pairs):
            browser = _look(gateway, pair, number)
            self._browsers[browser.fileno()] = browser
        self._tails = dict.fromkeys(self._browsers, b"")
        for one in (self._agent, *self._browsers.values()):
            self._poll.register(one, select.EPOLLIN)

    def keep_alive_until(self, pipe: Connection) -> None:
        while not pipe.poll(1.0):
            self._take(0.0, Felt())
            self._keep_alive()

    def measure(self, seconds: float) -> Felt:
        """Sessions take turns, evenly: of one, a token comes every so often, as an agent writes."""
        felt = Felt()
        each_s = 1 / self._per_s / len(self._pairs)
        count = int(seconds / each_s)
        began = time.monotonic()
        for number in range(count):
            while (pause_s := began + number * each_s - time.monotonic()) > 0:
                self._take(pause_s, felt)
            self._write(self._pairs[number % len(self._pairs)])
            self._keep_alive()
        until = time.monotonic() + _AFTER_S
        while len(felt.ms) < count and time.monotonic() < until:
            self._take(0.1, felt)
        felt.lost = count - len(felt.ms)
        return felt

    def _write(self, pair: Pair) -> None:
        text = f"{TEXT}{time.time_ns():016x} tok"
        self._number += 1
        message = delta(pair.stretch, "r1", self._number, text, self._number * _TEXT)
        self._agent.sendall(message)

    def _take(self, wait_s: float, felt: Felt) -> None:
        for number, _ in self._poll.poll(wait_s):
            browser = self._browsers.get(number)
            if browser is None:
                self._hear_broker()
                continue
            chunk = browser.recv(1 << 16)
            now = time.time()
            if not chunk:
                raise RuntimeError("a browser that behaves was cut off")
            data = self._tails[number] + chunk
            end = 0
            for match in STAMP.finditer(data):
                felt.ms.append((now - int(match.group(1), 16) / 1e9) * 1e3)
                end = match.end()
            self._tails[number] = data[max(end, len(data) - 64) :]

    def _hear_broker(self) -> None:
        heard = self._agent.recv(1 << 16)
        if not heard or b"-ERR" in heard:
            raise RuntimeError(f"the broker ends it: {heard!r}")
        if b"PING" in heard:
            self._agent.sendall(b"PONG\r\n")

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if now - self._told >= _ALIVE_EVERY_S:
            self._told = now
            for browser in self._browsers.values():
                browser.sendall(ALIVE)


def _look(port: int, pair: Pair, number: int) -> socket.socket:
    browser, rest = websocket(port, "/v1/ws", "session-fabric.v1")
    hello = {"op": "hello", "token": pair.token, "device": f"good-{number}", "deltas": "compact"}
    opening = {"op": "open", "id": 1, "session": pair.session, "after": "tail"}
    browser.sendall(client_frame(json.dumps(hello).encode()) + client_frame(json.dumps(opening).encode()))
    read_until(browser, rest, b'"op":"live"')
    return browser
