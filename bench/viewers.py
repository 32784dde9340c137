"""Viewers: one process that holds many sockets and counts what arrives by a mark in the text."""

from __future__ import annotations

import multiprocessing
import os
import re
import select
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

from bench.sockets import Side, gateway_viewer, listener_viewer
from bench.stage import REST_CORE

# Stands in each measured text once and nowhere else; one byte, so that no cut between two reads hides it.
MARK: Final = b"~"
_STAMP: Final = re.compile(rb"~([0-9a-f]{16})")


@dataclass
class Seen:
    """What the viewers of one process saw. `first_s` of each socket: until its first event after `begin`."""

    events: int = 0
    bytes: int = 0
    last: float = 0.0
    cpu_s: float = 0.0
    closed: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


class Viewers:
    """`with Viewers(…) as viewers:` connects them all; `result()` waits until `expect` events have come."""

    def __init__(
        self, side: Side, port: int, targets: list[str], expect: int, *, stamps: bool = False, patience_s: float = 10.0
    ) -> None:
        self._side = side
        self._ours, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_watch, args=(theirs, side, port, targets, expect, stamps, patience_s), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        ready = self._ours.recv()
        if ready != "ready":
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


def _watch(
    pipe: Connection, side: Side, port: int, targets: list[str], expect: int, stamps: bool, patience_s: float
) -> None:
    os.sched_setaffinity(0, {REST_CORE})
    try:
        if side == "gateway":
            sockets = [gateway_viewer(port, name)[0] for name in targets]
        else:
            sockets = [listener_viewer(port, subject) for subject in targets]
        pipe.send("ready")
        pipe.send(_count(sockets, expect, stamps, patience_s))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _count(sockets: list[socket.socket], expect: int, stamps: bool, patience_s: float) -> Seen:
    seen = Seen()
    poll = select.epoll()
    by_number = {}
    for each in sockets:
        each.setblocking(False)
        poll.register(each, select.EPOLLIN)
        by_number[each.fileno()] = each
    heard: dict[int, float] = {}
    tails: dict[int, bytes] = {}
    used = time.process_time()
    while seen.events < expect:
        ready = poll.poll(patience_s)
        if not ready:
            break
        for number, _ in ready:
            try:
                data = by_number[number].recv(1 << 20)
            except BlockingIOError:
                continue
            if not data:
                seen.closed += 1
                poll.unregister(number)
                continue
            now = time.time()
            count = data.count(MARK)
            if count and number not in heard:
                heard[number] = now
            seen.events += count
            seen.bytes += len(data)
            if stamps:
                data = tails.get(number, b"") + data
                for stamp in _STAMP.findall(data):
                    seen.latencies_ms.append((now - int(stamp, 16) / 1e9) * 1e3)
                cut = data.rfind(MARK)
                tails[number] = data[cut:] if cut >= 0 and len(data) - cut < 17 else b""
    seen.last = time.time()
    seen.cpu_s = time.process_time() - used
    seen.first = sorted(heard.values())
    return seen
