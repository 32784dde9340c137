"""Answers what remote brokers ask: looks whether it is theirs, and does it with the fabric's rights."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from session_fabric import audit
from session_fabric.ports import BUCKETS, Broker, Dated, Stretch, Wanted
from session_fabric.relay.checks import object_of, tokens_of
from session_fabric.relay.durables import Durables
from session_fabric.relay.news import News, Passes
from session_fabric.relay.rights import Rights, Span
from session_fabric.relay.uploads import Uploads
from session_fabric.room import Room
from session_fabric.rules.bounds import BOUNDS
from session_fabric.spelling import (
    read_draft,
    read_guard,
    read_place,
    read_stretch,
    read_wanted,
    spell_entry,
    spell_record,
)
from session_fabric.words.errors import Forbidden, InvalidRequest
from session_fabric.words.names import check_id, new_id
from session_fabric.words.packing import MOST_BYTES, pack, unpack
from session_fabric.words.subjects import KINDS, Kind
from session_fabric.words.wire import Record

_MOST_RECORDS: Final = 500
_MOST_BACK: Final = 10_000
_MOST_S: Final = 10.0
_MOST_LISTED: Final = 1000
_LEAST_LOOKED: Final = 250
# A process that does not say so often that it lives is not there.
MOST_LEASE_S: Final = 60
# What an act says beside who and when: a reason, how much there was, which forks keep it.
_MOST_NOTED: Final = 256 * 1024
# What a record adds beside its bytes.
_BESIDE: Final = 200


class Asked(NamedTuple):
    """One request: by whom, with what rights, and what was sent."""

    rights: Rights
    head: dict[str, Any]
    blobs: list[bytes]

    @property
    def blob(self) -> bytes:
        if len(self.blobs) != 1:
            raise InvalidRequest(f"{len(self.blobs)} byte strings came, not one.", hint="Use the SDK.")
        return self.blobs[0]

    def number(self, name: str, most: int = 1 << 62) -> int:
        value = self.head.get(name)
        if type(value) is not int or not 0 <= value <= most:
            raise InvalidRequest(f"{name} is {value!r:.60}, not a number up to {most}.", hint="Use the SDK.")
        return value

    def maybe(self, name: str) -> int | None:
        return None if self.head.get(name) is None else self.number(name)

    def text(self, name: str) -> str:
        value = self.head.get(name)
        if not isinstance(value, str) or len(value) > 2000:
            raise InvalidRequest(f"{name} is {value!r:.60}, not a text.", hint="Use the SDK.")
        return value

    def seconds(self) -> float:
        value = self.head.get("timeout_s", 5.0)
        return min(max(float(value), 0.05), _MOST_S) if isinstance(value, (int, float)) else 5.0


Answer = Callable[[Asked], Awaitable[bytes]]


class Relay:
    """One process's; `instance` names it to those who have something in hand here."""

    def __init__(self, broker: Broker, passes: Passes) -> None:
        self._broker = broker
        self._news = News(passes)
        self._unhook = broker.on_connection(lambda _: self._news.gap())
        self.instance = new_id()
        self._uploads = Uploads()
        self._durables = Durables(broker)
        self._rooms = {name: Room(broker.bucket(name), bound) for name, bound in BOUNDS.items()}
        self._operations: dict[str, Answer] = {
            name.removeprefix("_on_"): getattr(self, name) for name in dir(self) if name.startswith("_on_")
        }

    async def close(self) -> None:
        self._unhook()
        await self._news.close()
        await self._durables.close()

    async def look_again(self) -> None:
        """Pass on no more what is not granted any more."""
        await self._news.look_again()

    async def answer(self, rights: Rights, op: str, data: bytes) -> bytes:
        """Return the answer to a request. Raises what the request is refused or has failed with."""
        operation = self._operations.get(op)
        if operation is None:
            raise InvalidRequest(f"{op!r:.40} is nothing that can be asked.", hint="Is the SDK newer than the fabric?")
        head, blobs = unpack(data)
        if not isinstance(head, dict):
            raise InvalidRequest("A request's head is an object.", hint="Use the SDK.")
        return await operation(Asked(rights, head, blobs))

    async def _on_hello(self, _: Asked) -> bytes:
        return pack({"instance": self.instance})

    # --- logs ---------------------------------------------------------------------------------------

    async def _read_of(self, asked: Asked) -> tuple[Stretch, Span]:
        to = read_stretch(asked.head.get("to"))
        return to, await asked.rights.read(to, asked.text("via"))

    async def _end_of(self, asked: Asked) -> Stretch:
        """Return a stretch whose end is the session's own: of a fork's past nobody is told what came after it."""
        to, span = await self._read_of(asked)
        if span.upto is not None:
            raise Forbidden(
                f"Of {to.place.session!r:.140} it has what was said until the fork.", hint="Read that, up to there."
            )
        return to

    async def _on_home(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.enter(place)
        return pack(list(await self._broker.log.home(place)))

    async def _on_publish(self, asked: Asked) -> bytes:
        to = read_stretch(asked.head.get("to"))
        upload = asked.head.get("upload")
        body = asked.blob if upload is None else self._uploads.take(asked.rights.owner, str(upload))
        draft = read_draft(asked.head.get("draft"), body)
        guard = read_guard(asked.head.get("guard"))
        ttl_s = asked.maybe("ttl_s")
        await asked.rights.publish(to, draft, guard)
        ack = await self._broker.log.publish(to, draft, guard=guard, timeout_s=asked.seconds(), ttl_s=ttl_s)
        return pack(list(ack))

    async def _on_upload(self, asked: Asked) -> bytes:
        self._uploads.add(
            asked.rights.owner, asked.text("upload"), asked.number("at"), asked.number("size"), asked.blob
        )
        return pack(self.instance)

    async def _on_head(self, asked: Asked) -> bytes:
        return pack(await self._broker.log.head(await self._end_of(asked), kinds=_kinds(asked)))

    async def _on_end(self, asked: Asked) -> bytes:
        return pack(await self._broker.log.end(await self._end_of(asked)))

    async def _on_newest(self, asked: Asked) -> bytes:
        (wanted,) = read_wanted(asked.head.get("wanted"))
        record = await self._broker.log.newest(await self._end_of(asked), wanted)
        return _records([] if record is None else [record], {})

    async def _on_lasts(self, asked: Asked) -> bytes:
        to = await self._end_of(asked)
        after, upto = asked.number("after"), asked.number("upto")
        return pack(dict(await self._broker.log.lasts(to, after, upto, kinds=_kinds(asked))))

    async def _on_read(self, asked: Asked) -> bytes:
        (to, span), wanted = await self._read_of(asked), read_wanted(asked.head.get("wanted"))
        after, upto = max(asked.number("after"), span.after), asked.number("upto")
        upto = upto if span.upto is None else min(upto, span.upto)
        page, size = list[Record](), 0
        async with aclosing(self._broker.log.read(to, after=after, upto=upto, wanted=wanted)) as batches:
            async for records in batches:
                for record in records:
                    size += _size(record)
                    if page and (size > MOST_BYTES or len(page) >= _MOST_RECORDS):
                        return _records(page, {"next": page[-1].sequence})
                    page.append(record)
        return _records(page, {"next": None})

    async def _on_read_back(self, asked: Asked) -> bytes:
        (to, span), wanted = await self._read_of(asked), read_wanted(asked.head.get("wanted"))
        before, limit = asked.number("before"), asked.number("limit", _MOST_BACK)
        before = before if span.upto is None else min(before, span.upto + 1)
        found = list[Record]()
        async with aclosing(
            self._broker.log.read_back(to, before=before, limit=min(limit, _MOST_RECORDS), wanted=wanted)
        ) as batches:
            async for records in batches:
                found += [record for record in records if record.sequence > span.after]
        page, size = list[Record](), 0
        for record in reversed(found):
            size += _size(record)
            if page and size > MOST_BYTES:
                break
            page.append(record)
        more = len(page) < len(found) or len(found) == _MOST_RECORDS < limit
        return _records(page[::-1], {"more": more})

    async def _on_piece(self, asked: Asked) -> bytes:
        (to, span), sequence, at = await self._read_of(asked), asked.number("sequence"), asked.number("at")
        if sequence <= span.after or (span.upto is not None and sequence > span.upto):
            return pack({}, [b""])
        async with aclosing(self._broker.log.read(to, after=sequence - 1, upto=sequence)) as batches:
            async for records in batches:
                for record in records:
                    return pack({}, [record.payload[at : at + MOST_BYTES]])
        return pack({}, [b""])

    async def _on_runs(self, asked: Asked) -> bytes:
        return pack(dict(await self._broker.log.runs_with_deltas(await self._end_of(asked))))

    async def _on_purge(self, asked: Asked) -> bytes:
        to = read_stretch(asked.head.get("to"))
        told = asked.head.get("wanted")
        wanted: Wanted | None = None if told is None else read_wanted(told)[0]
        await asked.rights.purge(to, wanted)
        return pack(await self._broker.log.purge(to, wanted=wanted, upto=asked.maybe("upto")))

    async def _on_subjects(self, asked: Asked) -> bytes:
        to, kinds = read_stretch(asked.head.get("to")), _kinds(asked)
        await asked.rights.purge(to, None)  # for who erases, and counts what there is
        return pack(dict(await self._broker.log.subjects(to, kinds[0] if kinds else None)))

    async def _on_erase(self, asked: Asked) -> bytes:
        to, sequences = read_stretch(asked.head.get("to")), asked.head.get("sequences")
        if not isinstance(sequences, list) or not all(type(one) is int for one in sequences) or len(sequences) > 1000:
            raise InvalidRequest("These are no sequences.", hint="Use the SDK.")
        await asked.rights.redact(to)
        return pack(await self._broker.log.erase(to, sequences))

    # --- buckets ------------------------------------------------------------------------------------

    @staticmethod
    def _key(asked: Asked) -> tuple[str, str]:
        name, key = asked.text("bucket"), asked.text("key")
        if name not in BUCKETS:
            raise InvalidRequest(f"There is no bucket {name!r:.40}.", hint="Use the SDK.")
        return name, key

    async def _on_bucket_get(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        asked.rights.look(name, key)
        entry = await self._broker.bucket(name).get(key)
        if entry is None:
            return pack(None)
        told, value = spell_entry(entry)
        return pack(told, [value])

    async def _on_bucket_put(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        await asked.rights.write(name, key, asked.blob, None)
        if name == audit.BUCKET:
            return pack(await self._note(key, asked.blob))
        ttl_s = await self._fits(asked, name, key)
        return pack(await self._broker.bucket(name).put(key, asked.blob, ttl_s=ttl_s))

    async def _note(self, key: str, value: bytes) -> int:
        """Write down an act as new and of now, whatever the key and the time that came with it say."""
        tenant, session, _ = tokens_of(key)
        told = object_of(value)
        facts = told.get("facts")
        if not isinstance(facts, dict) or len(value) > _MOST_NOTED:
            raise InvalidRequest(f"An act says what belongs to it, in {_MOST_NOTED} bytes.", hint="Use the SDK.")
        return await audit.written(self._broker, tenant, session, str(told["by"]), str(told["act"]), facts)

    async def _fits(self, asked: Asked, name: str, key: str) -> int | None:
        """Return for how long an entry is to be there. Raises `LimitExceeded` where there is no room for it."""
        ttl_s = asked.maybe("ttl_s")
        if name == "sf-leases" and (ttl_s is None or not 1 <= ttl_s <= MOST_LEASE_S):
            raise InvalidRequest(f"A lease of {ttl_s} s is none.", hint="Use the SDK.", limit=MOST_LEASE_S)
        if name in self._rooms:
            await self._rooms[name].check(key, len(asked.blob))
        return ttl_s

    async def _on_bucket_swap(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        revision = asked.number("revision")
        await asked.rights.write(name, key, asked.blob, revision)
        ttl_s = await self._fits(asked, name, key)
        return pack(await self._broker.bucket(name).swap(key, asked.blob, revision=revision, ttl_s=ttl_s))

    async def _on_bucket_delete(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        asked.rights.remove(name, key)
        await self._broker.bucket(name).delete(key, revision=asked.maybe("revision"))
        if name in self._rooms:
            self._rooms[name].freed(key)
        return pack(None)

    async def _on_bucket_entries(self, asked: Asked) -> bytes:
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
            size += len(value) + len(entry.key) + _BESIDE
            if page and size > MOST_BYTES:
                return pack({"entries": page, "next": page[-1][1]}, blobs)
            page.append(told)
            blobs.append(value)
        return pack({"entries": page, "next": None}, blobs)

    async def _on_bucket_latest(self, asked: Asked) -> bytes:
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
            size += len(value) + len(entry.key) + _BESIDE
            if len(page) == limit or (page and size > MOST_BYTES):
                return pack({"entries": page, "next": page[-1][1]}, blobs)
            page.append([*told, ts])
            blobs.append(value)
        return pack({"entries": page, "next": found[-1].entry.revision if len(found) == looked else None}, blobs)

    async def _on_bucket_history(self, asked: Asked) -> bytes:
        name, key = self._key(asked)
        asked.rights.look(name, key)
        spelled = [spell_entry(entry) for entry in await self._broker.bucket(name).history(key)]
        return pack([told for told, _ in spelled], [value for _, value in spelled])

    # --- the rest -----------------------------------------------------------------------------------

    async def _on_signal(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.signal(place, asked.blob)
        await self._broker.signals.send(place, asked.blob)
        return pack(None)

    async def _on_news(self, asked: Asked) -> bytes:
        place = None if asked.head.get("place") is None else read_place(asked.head["place"])
        await self._news.open(asked.rights, asked.text("id"), place, asked.head.get("subjects"))
        return pack(self.instance)

    async def _on_news_keep(self, asked: Asked) -> bytes:
        return pack(await self._news.keep(asked.rights, asked.head.get("ids")))

    async def _on_news_leave(self, asked: Asked) -> bytes:
        await self._news.leave(asked.rights, asked.text("id"))
        return pack(None)

    async def _on_blob_put(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)  # nobody but the log itself, and whoever may do everything
        body = self._uploads.take(asked.rights.owner, asked.text("upload"))
        await self._broker.put_blob(place, check_id(asked.text("name"), "blob"), body)
        return pack(None)

    async def _on_blob_get(self, asked: Asked) -> bytes:
        place, at = read_place(asked.head.get("place")), asked.number("at")
        asked.rights.enter(place)
        body = await self._broker.get_blob(place, check_id(asked.text("name"), "blob"))
        return pack(None) if body is None else pack(len(body), [body[at : at + MOST_BYTES]])

    async def _on_blobs(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)
        return pack(list(await self._broker.blobs(place)))

    async def _on_blobs_delete(self, asked: Asked) -> bytes:
        place, names = read_place(asked.head.get("place")), asked.head.get("names")
        asked.rights.erase(place)
        names = names and [check_id(name, "blob") for name in names]
        return pack(await self._broker.delete_blobs(place, names))

    async def _on_durables(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)
        return pack(list(await self._broker.durables(place)))

    async def _on_durables_delete(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)
        return pack(await self._broker.delete_durables(place))

    async def _on_durable(self, asked: Asked) -> bytes:
        await self._durables.open(asked.rights, asked.text("id"), asked.head)
        return pack(self.instance)

    async def _on_fetch(self, asked: Asked) -> bytes:
        limit = asked.number("limit", 1000)
        found = await self._durables.fetch(asked.rights, asked.text("id"), limit, asked.seconds())
        told, blobs = list[Any](), list[bytes]()
        for number, delivery in found:
            await self._broker.log.whole(delivery.place, delivery.record)
            spelled, bytes_of = spell_record(delivery.record)
            told.append([number, delivery.attempts, *spelled])
            blobs += bytes_of
        return pack(told, blobs)

    async def _on_settle(self, asked: Asked) -> bytes:
        delay_s = asked.head.get("delay_s")
        await self._durables.settle(
            asked.rights,
            asked.text("id"),
            asked.number("number"),
            asked.text("how"),
            float(delay_s) if isinstance(delay_s, (int, float)) else 0.0,
        )
        return pack(None)

    async def _on_rest(self, asked: Asked) -> bytes:
        await self._durables.rest(asked.rights, asked.text("id"))
        return pack(None)

    async def _on_leave(self, asked: Asked) -> bytes:
        await self._durables.leave(asked.rights, asked.text("id"))
        return pack(None)

    async def _on_lag(self, asked: Asked) -> bytes:
        return pack(list(await self._durables.lag(asked.rights, asked.head)))

    async def _on_forget(self, asked: Asked) -> bytes:
        await self._durables.forget(asked.rights, asked.head)
        return pack(None)


def _kinds(asked: Asked) -> list[Kind]:
    kinds = asked.head.get("kinds", [])
    if not isinstance(kinds, list) or not all(kind in KINDS for kind in kinds):
        raise InvalidRequest(f"{kinds!r:.60} are no kinds of events.", hint="Use the SDK.")
    return kinds


def _size(record: Record) -> int:
    return len(record.head) + min(len(record.payload), MOST_BYTES // 2) + len(record.subject) + _BESIDE


def _records(records: list[Record], more: dict[str, Any]) -> bytes:
    told, blobs = list[Any](), list[bytes]()
    for record in records:
        spelled, (head, payload) = spell_record(record)
        large = len(payload) > MOST_BYTES // 2
        told.append([*spelled, len(payload) if large else 0])
        blobs += [head, b"" if large else payload]
    return pack({"records": told, **more}, blobs)
