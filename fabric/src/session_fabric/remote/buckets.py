"""Buckets as the relay reads and writes them for us; changes come from the broker itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from session_fabric.jetstream.buckets import Watching, watch_live
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Lost
from session_fabric.ports import Entry
from session_fabric.records import BUCKET as RECORDS
from session_fabric.remote.link import Link
from session_fabric.remote.records import Known
from session_fabric.spelling import read_entry
from session_fabric.words.names import escape


class RemoteBucket:
    def __init__(self, name: str, link: Link, connection: Connection, known: Known, heard: tuple[str, ...]) -> None:
        self._name = name
        self._link = link
        self._connection = connection
        self._known = known
        self._heard = heard

    async def _ask(self, op: str, key: str, value: bytes | None = None, **more: Any) -> tuple[Any, list[bytes]]:
        blobs = [] if value is None else [value]
        again = op != "bucket_swap"
        return await self._link.ask(op, {"bucket": self._name, "key": key, **more}, blobs, again=again)

    def _seen(self, entry: Entry) -> Entry:
        if self._name == RECORDS and entry.value:
            self._known.take(entry.value)
        return entry

    async def get(self, key: str) -> Entry | None:
        told, blobs = await self._ask("bucket_get", key)
        return None if told is None else self._seen(read_entry(told, blobs[0]))

    async def put(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        told, _ = await self._ask("bucket_put", key, value, ttl_s=ttl_s)
        return int(told)

    async def swap(self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None) -> int:
        while True:
            try:
                told, _ = await self._ask("bucket_swap", key, value, revision=revision, ttl_s=ttl_s)
            except Lost:
                entry = await self.get(key)
                if entry is not None and entry.value == value and entry.revision > revision:
                    return entry.revision  # it was stored, and the answer lost
                if entry is not None and entry.revision > revision:
                    continue  # the relay says what is there
                raise
            self._seen(Entry(key, value, int(told)))
            return int(told)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        await self._ask("bucket_delete", key, revision=revision)

    async def entries(self, prefix: str = "") -> list[Entry]:
        found: list[Entry] = []
        begin = 0
        while True:
            told, blobs = await self._ask("bucket_entries", prefix, after=begin)
            found += [self._seen(read_entry(each, blobs[n])) for n, each in enumerate(told["entries"])]
            if told["next"] is None:
                return found
            begin = int(told["next"])

    async def history(self, key: str) -> list[Entry]:
        told, blobs = await self._ask("bucket_history", key)
        return [read_entry(each, blobs[n]) for n, each in enumerate(told)]

    async def watch(self, prefix: str, sink: Callable[[Entry], None]) -> Watching:
        """As the port has it; of everything, only what is ours to hear."""
        names = [prefix] if prefix else [*self._heard]
        return await watch_live(self._connection, self._name, names, lambda entry: sink(self._seen(entry)))


def heard_keys(tenant: str, sessions: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return under which keys one hears of changes: of a tenant's, or of these sessions'."""
    if sessions is None:
        return (escape(tenant),)
    return tuple(f"{escape(tenant)}.{escape(session)}" for session in sessions)
