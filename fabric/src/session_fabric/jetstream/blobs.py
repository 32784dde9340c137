"""Bodies over the inline limit: chunks in a stream of their own, a subject a body; one purge removes a session's.

Not the object store: its metadata subjects are hashes of names, so that removing a session's objects would mean
listing everybody's, and a deleted object leaves a marker behind (docs/adr/0002-blobs-in-a-stream.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from copy import copy

import orjson

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError, Backoff
from session_fabric.jetstream.contents import count_subjects, erase_message
from session_fabric.jetstream.publishing import publish
from session_fabric.jetstream.reading import BATCH_BYTES, Batch
from session_fabric.jetstream.requests import Lost, Requests
from session_fabric.jetstream.streams import BLOB_STREAM
from session_fabric.words.delivered import any_head_has
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.names import unescape
from session_fabric.words.subjects import Place
from session_fabric.words.wire import BLOB, Record, needle_of

# Half of the default max_payload of 1 MiB.
CHUNK = 512 * 1024
_TIMEOUT_S = 10.0
_BLOB = needle_of(BLOB)


def whole_size(record: Record) -> int:
    """Return how large a body is once it has been brought."""
    ref = record.blob if _BLOB in record.head else None
    return len(record.payload) if ref is None else ref.size


class Blobs:
    def __init__(self, requests: Requests, api: Api) -> None:
        self._requests = requests
        self._api = api

    async def put(self, place: Place, name: str, data: bytes) -> None:
        """Store a body; a second call with the same name and body changes nothing within the dedupe window."""
        subject = place.blobs(name)
        chunks = range(0, max(len(data), 1), CHUNK)
        for number, at in enumerate(chunks):
            headers = {"Nats-Msg-Id": f"{subject}/{number}", "Sf-Chunk": f"{number} {len(chunks)}"}
            await publish(self._requests, subject, data[at : at + CHUNK], headers, Backoff(_TIMEOUT_S))

    async def get(self, place: Place, name: str) -> bytes | None:
        """Return a body, or None when it is not there (deleted, or not whole on any replica in time)."""
        body = orjson.dumps({"seq": 1, "next_by_subj": place.blobs(name), "batch": 4096})
        backoff = Backoff(_TIMEOUT_S, only_node=self._requests.of_only_node)
        while True:
            batch = Batch(0)
            why = ""
            try:
                await self._requests.many(
                    f"$JS.API.DIRECT.GET.{BLOB_STREAM}",
                    body,
                    batch.take,
                    timeout_s=backoff.replica_s(1.0),
                )
                if not batch.records and await self._missing(place, name):
                    return None
                chunk = (batch.records[0].header("Sf-Chunk") if batch.records else None) or "0 0"
                if batch.records and len(batch.records) == int(chunk.split(" ")[1]):
                    return b"".join(r.payload for r in batch.records)
            except Lost as lost:
                why = lost.message
            if not await backoff.wait():
                if why:
                    raise BrokerUnavailable(f"A large body could not be read: {why}")
                return None

    async def bring(self, place: Place, record: Record) -> None:
        """Put a body in place of its claim check; what is gone, or is another's, stays as it is."""
        ref = record.blob
        body = await self.get(place, ref.name) if ref else None
        if ref and body is not None and hashlib.sha256(body).hexdigest() == ref.sha256:
            record.payload = body

    async def brought(self, place: Place, records: Sequence[Record]) -> AsyncGenerator[Sequence[Record], None]:
        """Yield events with their bodies, in parts as large as a batch: who reads holds no more of them than that."""
        if not any_head_has(records, _BLOB):
            if records:
                yield records
            return
        part, size = list[Record](), 0
        for record in records:
            if _BLOB in record.head:
                record = copy(record)  # whoever read it keeps the claim check
                await self.bring(place, record)
            part.append(record)
            size += len(record.payload)
            if size >= BATCH_BYTES:
                yield part
                part, size = [], 0
        if part:
            yield part

    async def _missing(self, place: Place, name: str) -> bool:
        """Ask the leader: a replica that is behind has not heard of it either."""
        try:
            await self._api.call(f"STREAM.MSG.GET.{BLOB_STREAM}", {"last_by_subj": place.blobs(name)})
        except ApiError as error:
            if error.number in NOT_FOUND:
                return True
            raise
        return False

    async def names(self, place: Place) -> list[str]:
        """Return which bodies a session has."""
        counts = await count_subjects(self._api, BLOB_STREAM, place.blobs())
        return [unescape(subject.rpartition(".")[2]) for subject in counts]

    async def delete(self, place: Place, name: str) -> int:
        return await self._purge(place.blobs(name))

    async def erase(self, place: Place, name: str) -> None:
        """Remove a body, and write over where it was."""
        while True:
            try:
                asked = {"last_by_subj": place.blobs(name)}
                found = await self._api.call(f"STREAM.MSG.GET.{BLOB_STREAM}", asked)
                await erase_message(self._api, BLOB_STREAM, int(found["message"]["seq"]))
            except ApiError as error:
                if error.number in NOT_FOUND:
                    return
                raise

    async def delete_all(self, place: Place) -> int:
        return await self._purge(place.blobs())

    async def _purge(self, subjects: str) -> int:
        answer = await self._api.call(f"STREAM.PURGE.{BLOB_STREAM}", {"filter": subjects})
        return int(answer.get("purged", 0))
