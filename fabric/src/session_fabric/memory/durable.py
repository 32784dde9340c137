"""Durable subscriptions, as one connection sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from session_fabric.memory.link import Link
from session_fabric.memory.server import Server
from session_fabric.memory.store import Row
from session_fabric.memory.work import DurableKey, DurableState
from session_fabric.ports import Delivery
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record


class MemoryDelivery:
    """One event handed out."""

    def __init__(self, server: Server, link: Link, state: DurableState, row: Row, attempts: int) -> None:
        self._server = server
        self._link = link
        self._state = state
        self._row = row
        self._attempts = attempts
        self._record = row.stored(row.segment)

    @property
    def record(self) -> Record:
        return self._record

    @property
    def place(self) -> Place:
        return self._row.place

    @property
    def attempts(self) -> int:
        return self._attempts

    async def ack(self) -> None:
        await self._turn()
        self._state.settle(self._row.sequence)

    async def nak(self, delay_s: float = 0.0) -> None:
        self._state.postpone(self._row.sequence, await self._turn() + delay_s)

    async def extend(self) -> None:
        self._state.postpone(self._row.sequence, await self._turn() + self._state.ack_wait_s)

    async def _turn(self) -> float:
        await asyncio.sleep(0)
        self._link.check()
        return self._server.now()


class MemoryDurable:
    def __init__(self, server: Server, link: Link, key: DurableKey) -> None:
        self._server = server
        self._link = link
        self._key = key
        self._state = server.durables[key]

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[Delivery]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        await asyncio.sleep(0)
        while True:
            self._check()
            bell = self._state.bell
            now = self._server.now()
            handed = self._state.take(limit, now)
            left_s = deadline - loop.time()
            if handed or left_s <= 0:
                return [MemoryDelivery(self._server, self._link, self._state, *pair) for pair in handed]
            due = self._state.due()
            self._state.asking += 1
            try:
                due_s = left_s if due is None else max(due - now, 0.001)
                # At most a second, so that it is noticed when the connection is closed.
                async with asyncio.timeout(min(left_s, due_s, 1.0)):
                    await bell.wait()
            except TimeoutError:
                pass
            finally:
                self._state.asking -= 1

    async def rest(self) -> None:
        """Nothing is fetched ahead here."""

    async def close(self) -> None:
        """Nothing is fetched ahead here."""

    async def lag(self) -> tuple[int, int]:
        await asyncio.sleep(0)
        self._check()
        return self._state.lag(self._server.now())

    async def delete(self) -> None:
        await asyncio.sleep(0)
        self._link.check()
        if self._server.durables.get(self._key) is self._state:
            del self._server.durables[self._key]
        self._state.deleted = True
        self._state.wake()

    def _check(self) -> None:
        self._link.check()
        if self._state.deleted:
            raise BrokerUnavailable(
                f"The subscription {self._key[2]!r} was deleted.", hint="Open it again.", durable=self._key[2]
            )
