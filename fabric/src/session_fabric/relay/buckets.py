"""What remote brokers ask of the buckets."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from session_fabric import audit
from session_fabric.ports import BUCKETS, Broker, Dated
from session_fabric.relay.asked import BESIDE, Asked
from session_fabric.relay.checks import object_of, tokens_of
from session_fabric.room import Room
from session_fabric.rules.bounds import BOUNDS
from session_fabric.spelling import spell_entry
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.packing import MOST_BYTES, pack

_MOST_LISTED: Final = 1000
_LEAST_LOOKED: Final = 250
# A process that does not say so often that it lives is not there.
MOST_LEASE_S: Final = 60
# What an act says beside who and when: a reason, how much there was, which forks keep it.
_MOST_NOTED: Final = 256 * 1024
_ID_DIGITS: Final = 32


class Buckets:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._rooms = {name: Room(broker.bucket(name), bound) for name, bound in BOUNDS.items()}

    @staticmethod
    def _key(asked: Asked) -> tuple[str, str]:
        name, key = asked.text("bucket"), asked.text("key")
        if name not in BUCKETS:
            raise InvalidRequest(f"There is no bucket {name!r:.40}.", hint="Use the SDK.")
        return name, key

    async def on_bucket_get(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        asked.rights.look(name, key)
        entry = await self._broker.bucket(name).get(key)
        if entry is None:
            return pack(None)
        told, value = spell_entry(entry)
        return pack(told, [value])

    async def on_bucket_put(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        await asked.rights.write(name, key, asked.blob, None)
        if name == audit.BUCKET:
            return pack(await self._note(asked.rights.participant, key, asked.blob))
        ttl_s = await self._fits(asked, name, key)
        return pack(await self._broker.bucket(name).put(key, asked.blob, ttl_s=ttl_s))

    async def _note(self, participant: str, key: str, value: bytes) -> int:
        """Write down an act as new and of now, whatever the key and the time that came with it say.

        A request that is sent again, for its answer was lost, is the same to a byte: its act is there already.
        """
        tenant, session, _ = tokens_of(key)
        told = object_of(value)
        facts = told.get("facts")
        if not isinstance(facts, dict) or len(value) > _MOST_NOTED:
            raise InvalidRequest(f"An act says what belongs to it, in {_MOST_NOTED} bytes.", hint="Use the SDK.")
        id = hashlib.sha256(b"\0".join((participant.encode(), key.encode(), value))).hexdigest()[:_ID_DIGITS]
        return await audit.note_once(self._broker, tenant, session, str(told["by"]), str(told["act"]), id, facts)

    async def _fits(self, asked: Asked, name: str, key: str) -> int | None:
        """Return for how long an entry is to be there. Raises `LimitExceeded` where there is no room for it."""
        ttl_s = asked.maybe("ttl_s")
        if name == "sf-leases" and (ttl_s is None or not 1 <= ttl_s <= MOST_LEASE_S):
            raise InvalidRequest(f"A lease of {ttl_s} s is none.", hint="Use the SDK.", limit=MOST_LEASE_S)
        if name in self._rooms:
            await self._rooms[name].check(key, len(asked.blob))
        return ttl_s

    async def on_bucket_swap(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        revision = asked.number("revision")
        await asked.rights.write(name, key, asked.blob, revision)
        ttl_s = await self._fits(asked, name, key)
        return pack(await self._broker.bucket(name).swap(key, asked.blob, revision=revision, ttl_s=ttl_s))

    async def on_bucket_delete(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        asked.rights.remove(name, key)
        await self._broker.bucket(name).delete(key, revision=asked.maybe("revision"))
        if name in self._rooms:
            self._rooms[name].freed(key)
        return pack(None)

    async def on_bucket_entries(self, asked: Asked) -> bytes:
        name, prefix = self._key(asked)
        after = asked.number("after")
        entries = [
            entry
            for within in asked.rights.within(name, prefix)
            for entry in await self._broker.bucket(name).entries(within)
            if asked.rights.sees(name, entry.key)
        ]
        page, blobs, size = list[Any](), list[bytes](), 0
        later = sorted((entry for entry in entries if entry.revision > after), key=lambda entry: entry.revision)
        for entry in later:
            told, value = spell_entry(entry)
            size += len(value) + len(entry.key) + BESIDE
            if page and size > MOST_BYTES:
                return pack({"entries": page, "next": page[-1][1]}, blobs)
            page.append(told)
            blobs.append(value)
        return pack({"entries": page, "next": None}, blobs)

    async def on_bucket_latest(self, asked: Asked) -> bytes:
        name, prefix = self._key(asked)
        before, limit = asked.maybe("before"), min(asked.number("limit"), _MOST_LISTED)
        looked = max(limit, _LEAST_LOOKED)  # of which it may see a few
        found = list[Dated]()
        for within in asked.rights.within(name, prefix):
            found += await self._broker.bucket(name).latest(within, limit=looked, before=before)
        found = sorted(found, key=lambda dated: dated.entry.revision, reverse=True)[:looked]
        page, blobs, size = list[Any](), list[bytes](), 0
        for entry, ts in found:
            if not asked.rights.sees(name, entry.key):
                continue
            told, value = spell_entry(entry)
            size += len(value) + len(entry.key) + BESIDE
            if len(page) == limit or (page and size > MOST_BYTES):
                return pack({"entries": page, "next": page[-1][1]}, blobs)
            page.append([*told, ts])
            blobs.append(value)
        return pack({"entries": page, "next": found[-1].entry.revision if len(found) == looked else None}, blobs)

    async def on_bucket_history(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        asked.rights.look(name, key)
        spelled = [spell_entry(entry) for entry in await self._broker.bucket(name).history(key)]
        return pack([told for told, _ in spelled], [value for _, value in spelled])
