"""Viewers: one process that holds many sockets and counts what arrives by a mark in the text."""

from __future__ import annotations

import multiprocessing
import os
import re
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, SpawnContext
from types import TracebackType
from typing import Any, Final, Self

from bench.sockets import ALIVE, MARK, Side, gateway_viewer, listener_viewer
from bench.stage import REST_CORE

STAMP: Final = re.compile(re.escape(MARK) + rb"([0-9a-f]{16})")
# Saturated, viewers look this often, and take whatever has come: at every event, they would need more of the
# processor than what they measure. Rates are over seconds.
_SWEEP_S: Final = 0.01
_ALIVE_EVERY_S: Final = 4.0
# After the last one that is due, this long for what should not come.
_AFTER_S: Final = 0.05


@dataclass
class Seen:
    """What the viewers saw. `last` and `first`: wall-clock times; `wrong`: viewers with too few or too many events."""

    events: int = 0
    bytes: int = 0
    last: float = 0.0
    cpu_s: float = 0.0
    closed: int = 0
    wrong: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


class Watchers:
    """A process that holds viewers, for as long as a block lasts. `watch` says "ready" through the pipe that it is
    given, then what they have `Seen`; or, instead of either, what went wrong."""

    def __init__(self, context: ForkContext | SpawnContext, watch: Callable[..., None], *args: Any) -> None:
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=watch, args=(theirs, *args), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        ready = self._ours.recv()
        if ready != "ready":
            self._process.join()
            raise RuntimeError(f"the viewers failed: {ready}")
        return self

    def result(self) -> Seen:
        seen = self._ours.recv()
        if not isinstance(seen, Seen):
            raise RuntimeError(f"the viewers failed: {seen}")
        return seen

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()


class Viewers(Watchers):
    """`with Viewers(…) as viewers:` connects one to each target; `result()` waits until each has had `each` events.

    `stamps`: texts carry their time of publishing behind the mark, and every event is looked at as soon as it comes.
    """

    def __init__(
        self, side: Side, port: int, targets: list[str], each: int, *, stamps: bool = False, patience_s: float = 20.0
    ) -> None:
        super().__init__(multiprocessing.get_context("spawn"), _watch, side, port, targets, each, stamps, patience_s)


def _watch(
    pipe: Connection, side: Side, port: int, targets: list[str], each: int, stamps: bool, patience_s: float
) -> None:
    os.sched_setaffinity(0, {REST_CORE})
    try:
        if side == "listener":
            sockets = [listener_viewer(port, subject) for subject in targets]
        else:
            sockets = [gateway_viewer(port, name, compact=side == "gateway")[0] for name in targets]
        pipe.send("ready")
        alive = b"" if side == "listener" else ALIVE
        pipe.send(count(sockets, each, stamps, patience_s, alive))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


class Counter:
    """Counts marks in the chunks of one connection; one that is cut in two counts with its second half."""

    __slots__ = ("count", "tail")

    def __init__(self) -> None:
        self.count = 0
        self.tail = b""

    def take(self, chunk: bytes) -> int:
        """Return how many marks the chunk completes."""
        reach = len(MARK) - 1
        count = chunk.count(MARK) + (self.tail + chunk[:reach]).count(MARK)
        # Shorter than a mark it can hold none, so none is counted twice.
        self.tail = chunk[-reach:] if len(chunk) >= reach else (self.tail + chunk)[-reach:]
        self.count += count
        return count


def count(
    sockets: list[socket.socket],
    each: int,
    stamps: bool,
    patience_s: float,
    alive: bytes,
    heard_by: Callable[[socket.socket, bytes], None] | None = None,
) -> Seen:
    """Look on until each has had `each` events, or nothing has come for `patience_s`.

    `alive` is said now and then on each. `heard_by` is told what has come, where something is to be said to it.
    """
    seen = Seen()
    expect = each * len(sockets)
    poll = select.epoll()
    by_number = {s.fileno(): (s, Counter()) for s in sockets}
    for socket_ in sockets:
        socket_.setblocking(False)
        poll.register(socket_, select.EPOLLIN)
    first: dict[int, float] = {}
    stamped: dict[int, bytes] = {}
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    used = time.process_time()
    swept = told = heard = time.monotonic()
    while True:
        ready = poll.poll(min(patience_s, _ALIVE_EVERY_S) if seen.events < expect else _AFTER_S)
        swept = time.monotonic()
        if alive and swept - told >= _ALIVE_EVERY_S:
            told = swept
            _tell(sockets, alive)
        if not ready and (seen.events >= expect or swept - heard >= patience_s):
            break
        for number, _ in ready:
            connection, counter = by_number[number]
            try:
                size = connection.recv_into(buffer)
            except BlockingIOError:
                continue
            except ConnectionError:
                size = 0
            if not size:
                seen.closed += 1
                poll.unregister(number)
                continue
            chunk = bytes(view[:size])
            seen.bytes += size
            if heard_by is not None:
                heard_by(connection, chunk)
            more = counter.take(chunk)
            if not more:
                continue
            now = seen.last = time.time()
            heard = swept
            seen.events += more
            first.setdefault(number, now)
            if stamps:
                stamped[number] = _latencies(stamped.get(number, b"") + chunk, now, seen.latencies_ms)
        if not stamps:
            time.sleep(max(0.0, swept + _SWEEP_S - time.monotonic()))
    seen.cpu_s = time.process_time() - used
    seen.first = sorted(first.values())
    seen.wrong = sum(counter.count != each for _, counter in by_number.values())
    return seen


def _tell(sockets: list[socket.socket], alive: bytes) -> None:
    for each in sockets:
        with suppress(OSError):  # closed by the other side: the count will tell
            each.sendall(alive)


def _latencies(data: bytes, now: float, into: list[float]) -> bytes:
    """Add what the stamps say; return what may be the beginning of one more."""
    end = 0
    for match in STAMP.finditer(data):
        into.append((now - int(match.group(1), 16) / 1e9) * 1e3)
        end = match.end()
    return data[max(end, len(data) - len(MARK) - 15) :]
