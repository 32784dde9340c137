"""KV buckets: written with guards and TTLs that nats-py's own KV does not offer, watched through their republish.

nats-py's `kv.watch` is a consumer and stays dark for about 18 s after a broker's restart; the republished writes
come through a plain subscription, which the client restores by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_fabric.jetstream.api import Api, Backoff
from session_fabric.jetstream.contents import stored_message
from session_fabric.jetstream.live import Tapped, hear
from session_fabric.jetstream.publishing import publish
from session_fabric.jetstream.reading import Reader
from session_fabric.jetstream.receive import Connection, Tap
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.streams import DUPLICATE_WINDOW_S
from session_fabric.ports import BUCKETS, Dated, Entry, Home, Stretch
from session_fabric.words.errors import Conflict
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place, bucket_live
from session_fabric.words.wire import MSG_ID, Record

_TIMEOUT_S = 5.0
# Long enough for watchers in the middle of a reconnection to find it on their next read, then gone.
_TOMBSTONE_S = 30
# Replicas are milliseconds behind; one that is being restarted is not asked.
_CATCHES_UP_S = (0.005, 0.02, 0.05, 0.1, 0.25)
# Pages from the end are read through windows of sequences, each so many times as wide as the one before.
_WIDER = 8


class JetStreamBucket:
    def __init__(self, name: str, connection: Connection, requests: Requests, api: Api) -> None:
        self._name = name
        self._connection = connection
        self._requests = requests
        self._api = api
        self._reader = Reader(requests, api)

    def _subject(self, key: str) -> str:
        return f"$KV.{self._name}.{key}"

    async def _newest(self, key: str) -> Record | None:
        return await stored_message(self._api, f"KV_{self._name}", {"last_by_subj": self._subject(key)})

    def _entry(self, record: Record) -> Entry:
        key = record.subject[len(self._subject("")) :]
        return Entry(key, None if _is_gone(record) else record.payload, record.sequence)

    async def get(self, key: str) -> Entry | None:
        record = await self._newest(key)
        entry = self._entry(record) if record else None
        return entry if entry and entry.value is not None else None

    async def put(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        headers = {} if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        if ttl_s is None or ttl_s > DUPLICATE_WINDOW_S:
            # Every try has it, so that one whose confirmation was lost is not a second write, after others' maybe. Not
            # leases, which are written again and again: the broker would remember more of them than there are.
            headers[MSG_ID] = new_id()
        ack = await publish(self._requests, self._subject(key), value, headers, Backoff(_TIMEOUT_S))
        return ack.sequence

    async def swap(self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None) -> int:
        headers = {} if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        expected = revision
        while True:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expected)
            try:
                ack = await publish(self._requests, self._subject(key), value, headers, Backoff(_TIMEOUT_S))
            except Conflict as conflict:
                record = await self._newest(key)
                entry = self._entry(record) if record else None
                if entry and conflict.facts["retried"] and entry.value == value and entry.revision > revision:
                    return entry.revision  # an earlier try of ours was stored, its answer lost
                now = entry.revision if entry else 0
                if revision == 0 and expected != now and (entry is None or entry.value is None):
                    expected = now  # a tombstone stands where nothing lives
                    continue
                raise Conflict(
                    f"{self._name} {key} is at revision {now}, not {revision}.",
                    hint="Read it again and decide anew.",
                    revision=now if entry and entry.value is not None else 0,
                ) from conflict
            return ack.sequence

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        headers = {"KV-Operation": "PURGE", "Nats-TTL": f"{_TOMBSTONE_S}s"}
        if BUCKETS[self._name] > 1:  # else it takes the place of the one version there is
            headers["Nats-Rollup"] = "sub"
        if revision is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
        try:
            await publish(self._requests, self._subject(key), b"", headers, Backoff(_TIMEOUT_S))
        except Conflict as conflict:
            entry = await self.get(key)
            if entry is None and conflict.facts["retried"]:
                return  # an earlier try of ours was stored, its answer lost
            raise Conflict(
                f"{self._name} {key} is not at revision {revision}.",
                hint="Read it again and decide anew.",
                revision=0 if entry is None else entry.revision,
            ) from conflict

    async def entries(self, prefix: str = "") -> list[Entry]:
        return [dated.entry for dated in await self.dated(prefix)]

    async def dated(self, prefix: str = "") -> list[Dated]:
        below = f"{prefix}.>" if prefix else ">"
        newest = await self._newest(below)
        if newest is None:
            return []
        found, upto = await self._dated(below)
        for pause_s in _CATCHES_UP_S:
            if upto >= newest.sequence:
                break
            await asyncio.sleep(pause_s)  # a replica that is behind answered, or what was newest has gone
            found, upto = await self._dated(below)
        return found

    async def _dated(self, below: str) -> tuple[list[Dated], int]:
        """Read what one replica has, and how far it has it."""
        wanted = self._subject(below)
        stretch = Stretch(Home(f"KV_{self._name}", ""), Place("", ""), 0)
        out: dict[str, Dated] = {}
        first = 1
        while True:
            batch = await self._reader.batch(stretch, wanted, first, 1000)
            for record in batch.records:
                entry = self._entry(record)
                out.pop(entry.key, None)
                if entry.value is not None:
                    out[entry.key] = Dated(entry, record.ts)
            if not batch.pending or not batch.records:
                return list(out.values()), batch.records[-1].sequence if batch.records else first - 1
            first = batch.records[-1].sequence + 1

    async def latest(self, prefix: str, *, limit: int, before: int | None = None) -> list[Dated]:
        below = f"{prefix}.>" if prefix else ">"
        newest = await self._newest(below)
        if newest is None:
            return []
        found: list[Dated] = []
        upto = newest.sequence if before is None else min(newest.sequence, before - 1)
        width = 2 * limit
        while upto > 0 and len(found) < limit:
            after = max(0, upto - width)
            window = await self._window(below, after, upto, newest.sequence)
            found += [
                Dated(entry, record.ts)
                for record in reversed(window)
                if (entry := self._entry(record)).value is not None
            ]
            upto, width = after, width * _WIDER
        return found[:limit]

    async def _window(self, below: str, after: int, upto: int, newest: int) -> list[Record]:
        """Read `(after, upto]` from a replica that has come as far; JetStream reads forwards only."""
        wanted = self._subject(below)
        stretch = Stretch(Home(f"KV_{self._name}", ""), Place("", ""), 0)
        for pause_s in (*_CATCHES_UP_S, None):
            records: list[Record] = []
            first, more = after + 1, True
            while more and first <= upto:
                batch = await self._reader.batch(stretch, wanted, first, min(upto - first + 1, 1000))
                records += batch.records
                first = batch.records[-1].sequence + 1 if batch.records else first
                more = bool(batch.records and batch.pending)
            # One that ended before what the leader has is behind; or what was newest has gone since.
            if first > min(upto, newest) or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        return [record for record in records if record.sequence <= upto]

    async def history(self, key: str) -> list[Entry]:
        # One by one from the leader: a replica may not have the newest yet, and there are eight at most.
        found: list[Entry] = []
        asked = {"seq": 1, "next_by_subj": self._subject(key)}
        while (record := await stored_message(self._api, f"KV_{self._name}", asked)) is not None:
            found.append(self._entry(record))
            asked["seq"] = record.sequence + 1
        return found

    async def watch(self, prefix: str, sink: Callable[[Entry], None]) -> Tapped:
        """Call `sink` with later changes at the key `prefix` and under it."""
        live = bucket_live(self._name)
        subjects = [f"{live}.{prefix}", f"{live}.{prefix}.>"] if prefix else [f"{live}.>"]
        return await hear(self._connection, subjects, takes_entries(self._name, sink))


def takes_entries(bucket: str, sink: Callable[[Entry], None]) -> Tap:
    """Return what makes entries of a bucket's republished writes."""
    live = bucket_live(bucket)

    def arrived(subject: bytes, _: bytes, head: bytes, payload: bytes) -> None:
        at = head.rfind(b"\r\nNats-Sequence: ")
        record = Record(0, int(head[at + 17 : head.find(b"\r\n", at + 2)]), 0, "", head, payload)
        key = subject[len(live) + 1 :].decode()
        sink(Entry(key, None if _is_gone(record) else payload, record.sequence))

    return arrived


def _is_gone(record: Record) -> bool:
    """Say whether a write stands for a removal."""
    return record.header("KV-Operation") is not None or record.header("Nats-Marker-Reason") is not None
