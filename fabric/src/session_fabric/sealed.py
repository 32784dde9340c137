"""A broker that never sees what is said: bodies of events and documents are sealed on their way to it.

Wraps another broker. What is not sealed: names, types, times, labels, presence, read markers and signals.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from session_fabric.keyring import Keyring, Sealed, cipher_of
from session_fabric.ports import Ack, Broker, Bucket, Dated, Entry, Guard, Listening, Log, Stretch, Wanted
from session_fabric.records import Directory, parse
from session_fabric.rules import seals
from session_fabric.rules.seals import Cipher
from session_fabric.streams.records import StreamDirectory, is_stream, path_of
from session_fabric.words.delivered import any_head_has
from session_fabric.words.errors import KeyMissing, SessionGone, StreamNotFound
from session_fabric.words.events import Draft
from session_fabric.words.subjects import Kind, Place, place_of_key
from session_fabric.words.wire import SEALED, Record, needle_of

# Buckets of sessions whose values are what was said: shared documents, what agents keep between their steps.
SAYING: Final = ("sf-state", "sf-checkpoints")
_SEALED: Final = needle_of(SEALED)
# Sessions whose keys are at hand.
_KEPT: Final = 20_000


class Ciphers:
    """Sessions' ciphers, by what their records say; None for a session whose bodies are not sealed."""

    def __init__(self, broker: Broker, keys: Keyring) -> None:
        self._broker = broker
        self._keys = keys
        self._kept: OrderedDict[tuple[Place, int | None], Cipher | None] = OrderedDict()

    async def of(self, place: Place, segment: int | None = None) -> Cipher | None:
        """Return a session's cipher, in the life that a segment is of (None: in the one that is now).

        Raises `SessionGone` when there is no such life, `KeyMissing`, `BrokerUnavailable`.
        """
        if segment is not None and (place, segment) in self._kept:
            self._kept.move_to_end((place, segment))
            return self._kept[place, segment]
        of: type[Directory] = StreamDirectory if is_stream(place) else Directory
        entry = await self._broker.bucket(of.bucket).get(place.key())
        record = parse(entry.value, of.model) if entry is not None and entry.value is not None else None
        # Of one that is deleted its forks still read, by its segments.
        if record is None or not (record.state != "deleted" if segment is None else record.has(segment)):
            if is_stream(place):
                raise StreamNotFound(f"There is no stream {path_of(place)!r:.200}.", hint="Make it with PUT.")
            raise SessionGone(f"Session {place.session!r} was deleted.", session=place.session)
        cipher = None if record.sealed is None else self._open(place.tenant, record.sealed)
        if segment is not None:
            self._kept[place, segment] = cipher
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return cipher

    def _open(self, tenant: str, sealed: Sealed) -> Cipher:
        cipher = cipher_of(sealed, self._keys.named(tenant, sealed.key))
        if cipher is None:
            raise KeyMissing(
                f"Key {sealed.key!r} of tenant {tenant!r} is not the one that the session's key was wrapped under.",
                hint="Two keys have had this id: give the earlier one.",
                tenant=tenant,
                key=sealed.key,
            )
        return cipher


class SealedLog:
    """A `Log` whose bodies are sealed; everything else goes to the one below."""

    def __init__(self, below: Log, ciphers: Ciphers) -> None:
        self._below = below
        self._ciphers = ciphers
        self.home = below.home
        self.home_at_hand = below.home_at_hand
        self.head = below.head
        self.end = below.end
        self.lasts = below.lasts
        self.runs_with_deltas = below.runs_with_deltas
        self.purge = below.purge
        self.subjects = below.subjects
        self.erase = below.erase

    async def publish(
        self,
        to: Stretch,
        draft: Draft,
        *,
        guard: Guard | None = None,
        timeout_s: float = 5.0,
        ttl_s: int | None = None,
    ) -> Ack:
        cipher = await self._ciphers.of(to.place, to.segment)
        if cipher is not None:
            bound = seals.bound_of(to.place.tenant, to.place.session, draft.kind, draft.name, draft.type)
            draft = draft._replace(body=cipher.seal(draft.body, bound), headers={**draft.headers, SEALED: "1"})
        return await self._below.publish(to, draft, guard=guard, timeout_s=timeout_s, ttl_s=ttl_s)

    async def newest(self, to: Stretch, wanted: Wanted) -> Record | None:
        record = await self._below.newest(to, wanted)
        if record is not None and record.sealed:
            unseal([record], await self._ciphers.of(to.place, to.segment))
        return record

    def read(
        self, to: Stretch, *, after: int, upto: int, wanted: Sequence[Wanted] = ()
    ) -> AsyncGenerator[Sequence[Record], None]:
        return self._opened(to, self._below.read(to, after=after, upto=upto, wanted=wanted))

    def read_back(
        self,
        to: Stretch,
        *,
        before: int,
        limit: int,
        most_bytes: int | None = None,
        wanted: Sequence[Wanted] = (),
    ) -> AsyncGenerator[Sequence[Record], None]:
        return self._opened(
            to, self._below.read_back(to, before=before, limit=limit, most_bytes=most_bytes, wanted=wanted)
        )

    async def _opened(
        self, to: Stretch, batches: AsyncGenerator[Sequence[Record], None]
    ) -> AsyncGenerator[Sequence[Record], None]:
        async with aclosing(batches):
            async for records in batches:
                if any_head_has(records, _SEALED):
                    records = list(records)
                    unseal(records, await self._ciphers.of(to.place, to.segment))
                yield records

    async def listen(self, to: Stretch, sink: Callable[[Record], None], *, kinds: Sequence[Kind] = ()) -> Listening:
        cipher = await self._ciphers.of(to.place, to.segment)
        if cipher is None:
            return await self._below.listen(to, sink, kinds=kinds)

        def opened(record: Record) -> None:
            unseal([record], cipher)
            sink(record)

        return await self._below.listen(to, opened, kinds=kinds)

    async def whole(self, place: Place, record: Record) -> None:
        await self._below.whole(place, record)
        if record.sealed:
            try:
                unseal([record], await self._ciphers.of(place))
            except SessionGone:
                return  # who works on it finds out by itself


def unseal(records: Sequence[Record], cipher: Cipher | None) -> None:
    """Open what is sealed, in place; what does not open is shown to nobody (`fabric.malformed`)."""
    for record in records:
        if cipher is not None and record.sealed:
            parts = record.parts
            bound = seals.bound_of(parts.tenant, parts.session, parts.kind, parts.name, record.type)
            plain = cipher.open(record.payload, bound)
            if plain is not None:
                record.payload = plain


class SealedBucket:
    """A `Bucket` of sessions whose values are sealed."""

    def __init__(self, below: Bucket, ciphers: Ciphers) -> None:
        self._below = below
        self._ciphers = ciphers
        self.delete = below.delete

    async def get(self, key: str) -> Entry | None:
        entry = await self._below.get(key)
        return None if entry is None else (await self._opened([entry]))[0]

    async def put(self, key: str, value: bytes, *, ttl_s: int | None = None) -> int:
        return await self._below.put(key, await self._seal(key, value), ttl_s=ttl_s)

    async def swap(self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None) -> int:
        return await self._below.swap(key, await self._seal(key, value), revision=revision, ttl_s=ttl_s)

    async def entries(self, prefix: str = "") -> list[Entry]:
        return await self._opened(await self._below.entries(prefix))

    async def latest(self, prefix: str, *, limit: int, before: int | None = None) -> list[Dated]:
        return await self._opened_dated(await self._below.latest(prefix, limit=limit, before=before))

    async def dated(self, prefix: str = "") -> list[Dated]:
        return await self._opened_dated(await self._below.dated(prefix))

    async def _opened_dated(self, found: list[Dated]) -> list[Dated]:
        opened = await self._opened([dated.entry for dated in found])
        return [Dated(entry, dated.ts) for entry, dated in zip(opened, found, strict=True)]

    async def history(self, key: str) -> list[Entry]:
        return await self._opened(await self._below.history(key))

    async def watch(self, prefix: str, sink: Callable[[Entry], None]) -> Listening:
        """As below; `prefix` names a session at least, whose key has to be at hand when changes come."""
        cipher = await self._ciphers.of(place_of_key(prefix))
        return await self._below.watch(prefix, lambda entry: sink(_open(entry, cipher)))

    async def _seal(self, key: str, value: bytes) -> bytes:
        cipher = await self._ciphers.of(place_of_key(key))
        return value if cipher is None else cipher.seal_value(value, key.encode())

    async def _opened(self, entries: Sequence[Entry]) -> list[Entry]:
        ciphers = {place: await self._of(place) for place in {place_of_key(entry.key) for entry in entries}}
        return [_open(entry, ciphers[place_of_key(entry.key)]) for entry in entries]

    async def _of(self, place: Place) -> Cipher | None:
        try:
            return await self._ciphers.of(place)
        except SessionGone:
            return None  # what it left is removed unread


def _open(entry: Entry, cipher: Cipher | None) -> Entry:
    if entry.value is None or cipher is None:
        return entry
    return entry._replace(value=cipher.open_value(entry.value, entry.key.encode()))


def as_stored(broker: Broker) -> Broker:
    """Return the broker that shows what is sealed as it is: for who counts and removes, and may not have the key."""
    return broker.below if isinstance(broker, SealedBroker) else broker


class SealedBroker:
    """A `Broker` that seals what is said for the one below."""

    def __init__(self, below: Broker, keys: Keyring) -> None:
        self.below = below
        ciphers = Ciphers(below, keys)
        self.log = SealedLog(below.log, ciphers)
        self._buckets = {name: SealedBucket(below.bucket(name), ciphers) for name in SAYING}
        self.holder = below.holder
        self.may_mend = below.may_mend
        self.calls = below.calls
        self.signals = below.signals
        self.durable = below.durable
        self.on_connection = below.on_connection
        self.on_departure = below.on_departure
        self.ping = below.ping
        self.put_blob = below.put_blob
        self.get_blob = below.get_blob
        self.blobs = below.blobs
        self.delete_blobs = below.delete_blobs
        self.backlogs = below.backlogs
        self.durables = below.durables
        self.delete_durables = below.delete_durables
        self.list_streams = below.list_streams
        self.close = below.close

    @property
    def connected(self) -> bool:
        return self.below.connected

    @property
    def closed(self) -> bool:
        return self.below.closed

    @property
    def generation(self) -> int:
        return self.below.generation

    def bucket(self, name: str) -> Bucket:
        return self._buckets.get(name) or self.below.bucket(name)
