"""The memory broker: connections to a server that is an object."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from session_fabric.memory.bucket import MemoryBucket
from session_fabric.memory.calls import MemoryCalls
from session_fabric.memory.durable import MemoryDurable
from session_fabric.memory.link import Interest, Link
from session_fabric.memory.log import MemoryLog
from session_fabric.memory.server import Server
from session_fabric.memory.signals import MemorySignals
from session_fabric.memory.store import STREAM
from session_fabric.memory.work import DurableState, Filter
from session_fabric.ports import (
    Backlog,
    Bucket,
    Calls,
    Departure,
    Durable,
    Listening,
    Log,
    Signals,
    Wanted,
)
from session_fabric.words.errors import BrokerIncompatible
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place


class MemoryBroker:
    """A broker for unit tests: `Fabric.over(MemoryBroker())`. Keeps every promise of `session_fabric.ports`.

    `clock` is seconds since 1970; after moving one of your own call `tick`. `beside` opens another connection
    to the same data; `disconnect` and `reconnect` do to this one what a network does. One event loop only.
    """

    may_mend = True

    def __init__(self, *, clock: Callable[[], float] = time.time, _server: Server | None = None) -> None:
        self._server = Server(clock) if _server is None else _server
        self._link = Link()
        self.holder = new_id()
        self._sinks: list[Callable[[bool], None]] = []
        self.log: Log = MemoryLog(self._server, self._link)
        self.signals: Signals = MemorySignals(self._server, self._link)
        self.calls: Calls = MemoryCalls(self._server, self._link)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self._link.connected

    @property
    def closed(self) -> bool:
        return self._link.closed

    @property
    def generation(self) -> int:
        return self._link.generation

    def beside(self) -> MemoryBroker:
        """Open another connection to the same data."""
        return MemoryBroker(_server=self._server)

    def tick(self) -> None:
        """Let expire and be delivered again what is due by the clock."""
        self._server.tick()

    def disconnect(self) -> None:
        """Lose the connection: calls fail, publishes wait for `reconnect`, what others store is not heard."""
        if self._link.connected:
            self._link.up.clear()
            self._tell(False)
            self._depart(closed=True)

    def _depart(self, *, closed: bool) -> None:
        for interest in tuple(self._server.departures):
            interest.post(Departure(self.holder, closed))

    async def on_departure(self, sink: Callable[[Departure], None]) -> Listening:
        await self._turn()
        interest = Interest(self._link, sink, self._server.departures.remove)
        self._server.departures.append(interest)
        return interest

    def reconnect(self) -> None:
        """Come back under a new generation; those who listened hear what is stored from now on."""
        if not self._link.connected and not self._link.closed:
            self._link.generation += 1
            self._link.up.set()
            self._tell(True)

    def bucket(self, name: str) -> Bucket:
        return MemoryBucket(self._server, self._link, name)

    async def durable(
        self,
        tenant: str | None,
        name: str,
        *,
        place: Place | None,
        wanted: Sequence[Wanted],
        ack_wait_s: float,
        max_deliver: int,
        start: str,
    ) -> Durable:
        await self._turn()
        key = (tenant, None if place is None else place.session, name)
        filter = Filter(tenant, place, tuple(sorted(set(wanted), key=str)))
        there = self._server.durables.get(key)
        if there is None:
            rows = self._server.store.rows.values() if start == "start" else ()
            self._server.durables[key] = DurableState(filter, ack_wait_s, max_deliver, rows)
        elif there.filter != filter:
            raise BrokerIncompatible(
                f"The subscription {name!r} exists with another filter.",
                hint="Choose another name, or delete it first.",
                durable=name,
            )
        return MemoryDurable(self._server, self._link, key)

    def on_connection(self, sink: Callable[[bool], None]) -> Callable[[], None]:
        self._sinks.append(sink)

        def end() -> None:
            if sink in self._sinks:
                self._sinks.remove(sink)

        return end

    async def ping(self, timeout_s: float = 2.0) -> float:
        begun = time.perf_counter()
        await self._turn()
        return time.perf_counter() - begun

    async def put_blob(self, place: Place, name: str, data: bytes) -> None:
        await self._turn()
        self._server.blobs.setdefault(place, {})[name] = data

    async def get_blob(self, place: Place, name: str) -> bytes | None:
        await self._turn()
        return self._server.blobs.get(place, {}).get(name)

    async def blobs(self, place: Place) -> Sequence[str]:
        await self._turn()
        return list(self._server.blobs.get(place, ()))

    async def delete_blobs(self, place: Place, names: Sequence[str] | None = None) -> int:
        await self._turn()
        there = self._server.blobs.get(place, {})
        gone = [name for name in (list(there) if names is None else names) if there.pop(name, None) is not None]
        return len(gone)

    async def durables(self, place: Place) -> Sequence[str]:
        await self._turn()
        return [key[2] for key in self._server.durables if key[:2] == (place.tenant, place.session)]

    async def delete_durables(self, place: Place) -> int:
        await self._turn()
        keys = [key for key in self._server.durables if key[:2] == (place.tenant, place.session)]
        for key in keys:
            state = self._server.durables.pop(key)
            state.deleted = True
            state.wake()
        return len(keys)

    async def backlogs(self, place: Place) -> Sequence[Backlog]:
        await self._turn()
        now, last = self._server.now(), self._server.store.last
        found = [
            Backlog(name, STREAM, tenant, session, *state.reached(last), *state.lag(now), state.again, state.asking)
            for (tenant, session, name), state in self._server.durables.items()
        ]
        return sorted((one for one in found if one.passes(place)), key=lambda one: one.name)

    async def list_streams(self) -> Sequence[Mapping[str, object]]:
        """Return the one stream's info, in the shape that JetStream gives it."""
        await self._turn()
        store = self._server.store
        size = sum(len(row.head) + len(row.payload) for row in store.rows.values())
        state = {
            "messages": len(store.rows),
            "bytes": size,
            "first_seq": next(iter(store.rows), store.last + 1),
            "last_seq": store.last,
        }
        return [{"config": {"name": STREAM, "num_replicas": 1}, "state": state, "created": self._server.epoch}]

    async def close(self) -> None:
        self._link.closed = True
        if self._link.connected:
            self.disconnect()
        else:
            self._tell(False)  # who waits for it to be back is told that nothing will come

    def _tell(self, connected: bool) -> None:
        for sink in tuple(self._sinks):
            sink(connected)

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        self._link.check()
        self._server.now()
