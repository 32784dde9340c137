"""Buckets as the relay reads and writes them for us; changes come from the broker itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from session_fabric.jetstream.buckets import takes_entries
from session_fabric.jetstream.live import Tapped
from session_fabric.jetstream.requests import Lost
from session_fabric.ports import Dated, Entry
from session_fabric.records import BUCKET as RECORDS
from session_fabric.remote.link import Link
from session_fabric.remote.news import Heard, News
from session_fabric.remote.records import Known
from session_fabric.spelling import read_entry
from session_fabric.words.names import escape, unescape
from session_fabric.words.subjects import Place, bucket_live

# More than any bucket has.
_ALL: Final = 2**48


class RemoteBucket:
    def __init__(self, name: str, link: Link, news: News, known: Known) -> None:
        self._name = name
        self._link = link
        self._news = news
        self._known = known

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

    async def dated(self, prefix: str = "") -> list[Dated]:
        return (await self.latest(prefix, limit=_ALL))[::-1]

    async def latest(self, prefix: str, *, limit: int, before: int | None = None) -> list[Dated]:
        found: list[Dated] = []
        while len(found) < limit:
            told, blobs = await self._ask("bucket_latest", prefix, limit=limit - len(found), before=before)
            for each, value in zip(told["entries"], blobs, strict=True):
                *spelled, ts = each
                found.append(Dated(self._seen(read_entry(spelled, value)), ts))
            if told["next"] is None:
                break
            before = int(told["next"])
        return found

    async def history(self, key: str) -> list[Entry]:
        told, blobs = await self._ask("bucket_history", key)
        return [read_entry(each, blobs[n]) for n, each in enumerate(told)]

    async def watch(self, prefix: str, sink: Callable[[Entry], None]) -> Tapped | Heard:
        """As the port has it; of everything, only what is ours to hear."""
        arrived = takes_entries(self._name, lambda entry: sink(self._seen(entry)))
        live, tokens = bucket_live(self._name), prefix.split(".")
        if len(tokens) < 2:  # all that there is of one's tenant
            return await self._news.hear(None, [f"{live}.{escape(self._link.tenant)}.>"], arrived)
        place = Place(unescape(tokens[0]), unescape(tokens[1]))
        return await self._news.hear(place, [f"{live}.{prefix}", f"{live}.{prefix}.>"], arrived)
