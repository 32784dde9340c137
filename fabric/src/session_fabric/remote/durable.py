"""Durable subscriptions that the relay holds for us, at one of its processes; another, when that is gone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from session_fabric.remote.link import Link
from session_fabric.spelling import read_record
from session_fabric.words.errors import BrokerUnavailable, FabricError, Unavailable
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

# One request waits this long at the relay at most.
_ASKED_S: Final = 5.0


class RemoteDelivery:
    def __init__(self, durable: RemoteDurable, at: str, number: int, attempts: int, record: Record) -> None:
        self._durable = durable
        self._at = at
        self._number = number
        self.attempts = attempts
        self.record = record

    @property
    def place(self) -> Place:
        parts = self.record.parts
        return Place(parts.tenant, parts.session)

    async def ack(self) -> None:
        await self._durable.settle(self._at, self._number, "ack", 0.0)

    async def nak(self, delay_s: float = 0.0) -> None:
        await self._durable.settle(self._at, self._number, "nak", delay_s)

    async def extend(self) -> None:
        await self._durable.settle(self._at, self._number, "extend", 0.0)


class RemoteDurable:
    def __init__(self, link: Link, asked: dict[str, Any]) -> None:
        self._link = link
        self._asked = asked
        self._id = new_id()
        self._at: str | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._ready: deque[RemoteDelivery] = deque()
        self._resting = False
        self._closed = False

    async def open(self) -> None:
        told, _ = await self._link.ask("durable", {**self._asked, "id": self._id}, timeout_s=10.0)
        self._at = str(told)

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[RemoteDelivery]:
        deadline = asyncio.get_running_loop().time() + timeout_s
        self._resting = False
        while not self._ready:
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                return []
            if self._fetching is None:
                self._fetching = asyncio.create_task(self._fetch(limit, min(left_s, _ASKED_S)), name="durable")
            done, _ = await asyncio.wait({self._fetching}, timeout=left_s)
            if done:
                fetching, self._fetching = self._fetching, None
                fetching.result()
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    async def _fetch(self, limit: int, timeout_s: float) -> None:
        """Ask the relay, and put by what it hands over: whoever waits for it may have gone."""
        if self._at is None:
            await self.open()
        at = str(self._at)
        asked = {**self._asked, "id": self._id, "limit": limit, "timeout_s": timeout_s}
        try:
            told, blobs = await self._link.ask("fetch", asked, timeout_s=timeout_s + 2.0, again=False, at=at)
        except Unavailable:
            self._at = None  # that process is gone, or its connection: another holds it next time
            raise
        for n, (number, attempts, *record) in enumerate(told):
            found = read_record(record, blobs[2 * n], blobs[2 * n + 1])
            self._ready.append(RemoteDelivery(self, at, number, attempts, found))
        if self._resting:
            await self._give_back()

    async def _give_back(self) -> None:
        while self._ready:
            with suppress(FabricError):
                await self._ready.popleft().nak()

    async def settle(self, at: str, number: int, how: str, delay_s: float) -> None:
        if self._closed:
            raise BrokerUnavailable("The subscription was closed.", hint="It comes again.")
        asked = {"id": self._id, "number": number, "how": how, "delay_s": delay_s}
        await self._link.ask("settle", asked, at=at)

    async def rest(self) -> None:
        self._resting = True
        await self._give_back()
        if self._at is not None:
            with suppress(Unavailable):  # it is gone, and with it what was asked of it
                await self._link.ask("rest", {"id": self._id}, at=self._at, timeout_s=1.0)

    async def lag(self) -> tuple[int, int]:
        told, _ = await self._link.ask("lag", self._asked)
        return int(told[0]), int(told[1])

    async def delete(self) -> None:
        await self._link.ask("forget", self._asked)

    async def close(self) -> None:
        self._resting = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
            self._fetching = None
        await self._give_back()
        self._closed = True
        if self._at is not None:
            with suppress(FabricError):
                await self._link.ask("leave", {"id": self._id}, at=self._at, timeout_s=1.0)
