"""What all connections to one memory broker share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from session_fabric.memory.link import Interest, Interests, Link
from session_fabric.memory.store import Row, Store
from session_fabric.memory.values import BucketState
from session_fabric.memory.work import DurableKey, DurableState
from session_fabric.ports import Departure
from session_fabric.words.subjects import Place


class Answering(Protocol):
    """Somebody who answers to a name."""

    link: Link

    def asked(self, data: bytes, reply: asyncio.Future[bytes]) -> None: ...


class Server:
    """The state behind every connection. All of it lives on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.epoch = f"{clock():.6f}"
        self.store = Store()
        self.buckets: dict[str, BucketState] = {}
        self.durables: dict[DurableKey, DurableState] = {}
        self.blobs: dict[Place, dict[str, bytes]] = {}
        self.live: Interests[Row] = Interests()
        self.signals: Interests[bytes] = Interests()
        self.calls: dict[str, list[Answering]] = {}
        self.departures: list[Interest[Departure]] = []

    def now(self) -> float:
        """Return the time, after everything that is due has expired."""
        now = self.clock()
        self.store.expire(now)
        for bucket in self.buckets.values():
            bucket.expire(now)
        return now

    def tick(self) -> None:
        """Let expire what is due by the clock, and deliver again what was not acknowledged."""
        self.now()
        for durable in self.durables.values():
            durable.wake()

    def alarm(self, after_s: float) -> None:
        """Tick when that much time has passed, so that watchers hear of expiry without asking."""
        asyncio.get_running_loop().call_later(after_s, self.tick)

    def stored(self, row: Row) -> None:
        """Tell those who listen, and the durable subscriptions, of a new row."""
        for interest in self.live.at(row.place):
            interest.post(row)
        for durable in self.durables.values():
            durable.offer(row)
