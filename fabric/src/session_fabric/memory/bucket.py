"""Buckets, as one connection sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_fabric.memory.link import Interest, Link
from session_fabric.memory.server import Server
from session_fabric.memory.values import BucketState, is_below
from session_fabric.ports import BUCKETS, Dated, Entry, Listening
from session_fabric.words.errors import Conflict


class MemoryBucket:
    """A connection's view of one bucket."""

    def __init__(self, server: Server, link: Link, name: str) -> None:
        self._server = server
        self._link = link
        self._name = name
        self._state = server.buckets.setdefault(name, BucketState())

    async def get(self, key: str) -> Entry | None:
        await self._turn()
        value = self._state.values.get(key)
        return None if value is None else Entry(key, value.data, value.revision)

    async def put(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        return self._write(await self._turn(), key, value, ttl_s)

    async def swap(self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None) -> int:
        now = await self._turn()
        self._expect(key, revision)
        return self._write(now, key, value, ttl_s)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        await self._turn()
        if revision is not None:
            self._expect(key, revision)
        self._state.erase(key)

    async def entries(self, prefix: str = "") -> list[Entry]:
        return [dated.entry for dated in await self.dated(prefix)]

    async def dated(self, prefix: str = "") -> list[Dated]:
        await self._turn()
        return self._under(prefix)

    async def latest(self, prefix: str, *, limit: int, before: int | None = None) -> list[Dated]:
        await self._turn()
        found = [d for d in reversed(self._under(prefix)) if before is None or d.entry.revision < before]
        return found[:limit]

    def _under(self, prefix: str) -> list[Dated]:
        found = [
            Dated(Entry(key, value.data, value.revision), int(value.written * 1000))
            for key, value in self._state.values.items()
            if is_below(prefix, key)
        ]
        return sorted(found, key=lambda dated: dated.entry.revision)

    async def history(self, key: str) -> list[Entry]:
        await self._turn()
        past = self._state.past.get(key, ())
        return [Entry(key, value.data, value.revision) for value in past[-BUCKETS.get(self._name, 1) :]]

    async def watch(self, prefix: str, sink: Callable[[Entry], None]) -> Listening:
        await self._turn()
        interest = Interest(self._link, sink, self._leave)
        self._state.watchers.append((prefix, interest))
        return interest

    def _leave(self, interest: Interest[Entry]) -> None:
        self._state.watchers = [pair for pair in self._state.watchers if pair[1] is not interest]

    def _expect(self, key: str, revision: int) -> None:
        there = self._state.values.get(key)
        newest = 0 if there is None else there.revision
        if newest != revision:
            raise Conflict(
                f"The newest revision of {key} is {newest}, not {revision}.",
                hint="Get it and decide again.",
                revision=newest,
            )

    def _write(self, now: float, key: str, value: bytes, ttl_s: int | None) -> int:
        if ttl_s is not None:
            self._server.alarm(ttl_s)
        return self._state.write(key, value, now, None if ttl_s is None else now + ttl_s)

    async def _turn(self) -> float:
        """Let others have a turn, as a round trip would; then the connection must be up."""
        await asyncio.sleep(0)
        self._link.check()
        return self._server.now()
