"""A durable stream as a file of lines that can be verified without the fabric, and made a stream again.

A fork is written with all that it reads, and becomes a stream of its own. A restored stream is there for nobody until
all of it is; what a restore that was cut off has left is thrown away by the next one. Offsets are of another life.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import orjson

from session_fabric import audit
from session_fabric.records import Imported, SessionRecord, stretch_of
from session_fabric.rules.appends import JSON, Asked, Producer, Standing, media_type
from session_fabric.rules.chains import FORMAT, Chain, Checked, Data
from session_fabric.rules.segments import Segment, plan
from session_fabric.streams import entries
from session_fabric.streams.records import StreamRecord, check_path, path_of
from session_fabric.streams.streams import Streams
from session_fabric.words.errors import Conflict, Corrupt, StreamExists, StreamNotFound
from session_fabric.words.names import check_participant
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place
from session_fabric.words.version import VERSION
from session_fabric.words.wire import AT

Lines = Callable[[], Iterable[bytes]]

_ABOUT: Final = ("content_type", "ttl_s", "expires_ms", "expires_at")


class Verified(NamedTuple):
    """A file that is what was written: its first line, its last hash, how many lines and entries."""

    manifest: Data
    head: str
    lines: int
    entries: int


async def export(streams: Streams, place: Place, by: str) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a stream as it stands now.

    Raises `StreamNotFound`, `StreamGone`, `KeyMissing`, `BrokerUnavailable`.
    """
    page = await streams.look(place)
    record, guard = page.record, page.standing.guard
    await audit.note(streams.broker, place.tenant, place.session, by, "stream.exported", offset=str(page.standing.tail))
    chain, content = Chain(), _Content()
    about = {name: getattr(record, name) for name in _ABOUT}
    manifest = {"type": "manifest", "format": FORMAT, "kind": "stream", "fabric": VERSION, "tenant": place.tenant}
    at_ms = time.time_ns() // 1_000_000
    yield chain.line({**manifest, "path": record.path, "created": record.created, "at": at_ms, "by": by, **about})
    for leg in plan(record.segments, "start", record.floor_offset):
        own = Place(leg.segment.tenant, leg.segment.session) == place
        upto = guard if leg.upto is None else leg.upto
        if upto <= leg.after:
            continue
        reading = streams.broker.log.read(
            stretch_of(leg.segment), after=leg.after, upto=upto, wanted=(entries.ENTRIES,)
        )
        async with aclosing(reading) as batches:
            async for records in batches:
                for stored in records:
                    asked = entries.asked_of(stored)
                    if not own:  # who wrote to its source, and whether that has ended, is no affair of the fork's
                        asked = Asked(asked.body)
                    if asked.body is None and not asked.close:
                        continue
                    content.add(asked)
                    yield chain.line(
                        {
                            "type": "entry",
                            "offset": str(stored.offset),
                            "ts": stored.ts,
                            "actor": entries.actor_of(stored),
                            **_line(asked, record.content_type),
                        }
                    )
    yield chain.line({"type": "end", "entries": content.entries, "content": content.value})


def verify(lines: Iterable[bytes]) -> Verified:
    """Check a file from its first line to its last. Raises `Corrupt`, which names the first line that is wrong."""
    checked, content = Checked(), _Content()
    for data in checked.read(lines):
        if checked.lines == 1:
            _check_manifest(data)
        elif data["type"] == "entry":
            content.add(_entry(data, checked.lines)[0])
    end = checked.end or {}
    if (content.entries, content.value) != (end.get("entries"), end.get("content")):
        raise _wrong(checked.lines, "the end does not say what is in the file")
    return Verified(checked.manifest, checked.head, checked.lines, content.entries)


async def restore(streams: Streams, place: Place, lines: Lines, by: str) -> bool:
    """Make a stream of a file; False where it is there, from this very file, or its time has passed.

    Raises `Corrupt`, `StreamExists` (another one is there), `Conflict` (another restore of it is under way),
    `BrokerUnavailable`. Cancelled or cut off: there for nobody, and made by the next try.
    """
    verified = verify(lines())
    expires_ms = verified.manifest["expires_ms"]
    if expires_ms is not None and expires_ms <= time.time_ns() // 1_000_000:
        return False
    begun = await _begin(streams, place, verified)
    if begun is None:
        return False
    record = begun.record
    await audit.note(streams.broker, place.tenant, place.session, by, "stream.restored", chain=verified.head)
    await _write(streams, begun, lines)

    def done(now: SessionRecord) -> SessionRecord:
        if now.segments != record.segments:
            raise _another(place)
        return now.model_copy(update={"imported": Imported(chain=verified.head, done=True)})

    try:
        await streams.directory.change(place, done)
    except StreamNotFound as error:  # it was deleted meanwhile
        raise _another(place) from error
    streams.ledger.forget(place)
    return True


class _Begun(NamedTuple):
    """A stream that is there for nobody yet. `guard`: what was newest before: a stream of somebody else's that has
    begun since stands behind it, and is not added to."""

    record: StreamRecord
    guard: int


async def _begin(streams: Streams, place: Place, verified: Verified) -> _Begun | None:
    """Make the record of a stream that is not there yet; None: it is there, from this very file."""
    directory, manifest = streams.directory, verified.manifest
    found = await directory.find(place, fresh=True)
    if found is None:
        segment, guard = await _below(streams, place)
        new = StreamRecord(
            tenant=place.tenant,
            session=place.session,
            created=manifest["created"],
            segments=(segment,),
            imported=Imported(chain=verified.head),
            ends_ms=None if manifest["ttl_s"] is None else segment.id // 1000 + manifest["ttl_s"] * 1000,
            **{name: manifest[name] for name in _ABOUT},
        )
        try:
            record, made = await directory.add(new)
        except StreamNotFound as error:
            raise _another(place) from error
        if made:
            assert isinstance(record, StreamRecord)
            return _Begun(record, guard)
        found = (record, 0)
    there = found[0]
    if there.imported is None or there.imported.chain != verified.head or there.state != "open":
        raise StreamExists(
            f"There is a stream {path_of(place)!r:.200} already.", hint="Delete it first, or restore elsewhere."
        )
    if there.imported.done:
        return None
    await streams.broker.log.purge(there.stretch)
    await streams.broker.delete_blobs(place)
    segment, guard = await _below(streams, place)
    record = await directory.change(place, lambda now: now.model_copy(update={"segments": (segment,)}))
    assert isinstance(record, StreamRecord)
    return _Begun(record, guard)


async def _below(streams: Streams, place: Place) -> tuple[Segment, int]:
    """Return where a stream begins, and the guard of its first entry: behind what an earlier life has left."""
    segment = await streams.directory.first_segment(place)
    newest = await streams.broker.log.newest(stretch_of(segment), entries.ENTRIES)
    return segment, 0 if newest is None else newest.sequence


async def _write(streams: Streams, begun: _Begun, lines: Lines) -> None:
    """Store the entries, each behind the one before; nobody else's may come between."""
    record = begun.record
    to, standing = record.stretch, Standing(begun.guard, record.beginning)

    async def store(asked: Asked, actor: str, headers: Mapping[str, str], type: str | None = None) -> None:
        nonlocal standing
        draft = entries.draft(record, standing, asked, actor, type)
        try:
            ack = await streams.broker.log.publish(
                to, draft._replace(headers={**draft.headers, **headers}), guard=entries.guard(standing)
            )
        except (Conflict, StreamNotFound) as error:
            raise _another(record.place) from error
        standing = entries.stood(standing, asked, to.segment, ack.sequence)

    for number, data in enumerate(Checked().read(lines()), 1):
        if data["type"] == "entry":
            asked, actor, ts = _entry(data, number)
            await store(asked, actor, {AT: str(ts)})
        elif data["type"] == "end" and not data["entries"]:
            await store(Asked(None), entries.SERVICE, {}, entries.OPENED)


# --- lines --------------------------------------------------------------------------------------------


def _line(asked: Asked, content_type: str) -> dict[str, Any]:
    """Spell an append so that it can be read: JSON as its values, text as text, what is neither as base64."""
    line: dict[str, Any] = {}
    if asked.body is not None:
        line |= _body(asked.body, media_type(content_type))
    if asked.seq is not None:
        line["seq"] = asked.seq
    if asked.producer is not None:
        line["producer"] = asked.producer._asdict()
    return line | ({"close": True} if asked.close else {})


def _body(body: bytes, type: str) -> dict[str, Any]:
    if type == JSON:
        values = b"[%b]" % body
        try:
            if orjson.dumps(orjson.loads(values)) == values:
                return {"values": orjson.Fragment(values)}
        except ValueError:
            pass
    elif type.startswith("text/"):
        try:
            return {"text": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"raw": base64.b64encode(body).decode()}


def _entry(data: Data, number: int) -> tuple[Asked, str, int]:
    """Read an entry's line. Raises `Corrupt` for one that could not be stored."""
    try:
        body = None
        if "values" in data:
            body = orjson.dumps(data["values"])[1:-1]
        elif "text" in data:
            body = data["text"].encode()
        elif "raw" in data:
            body = base64.b64decode(data["raw"], validate=True)
        seq = data.get("seq")
        producer = Producer(**data["producer"]) if "producer" in data else None
        check_participant(data["actor"])
        if "offset" in data:
            Offset.parse(data["offset"])
        if type(data["ts"]) is not int or (body is None and not data.get("close")) or not isinstance(seq, str | None):
            raise ValueError(data["ts"])
        return Asked(body, seq=seq, producer=producer, close=bool(data.get("close"))), data["actor"], data["ts"]
    except Exception as error:
        raise _wrong(number, "it is no entry that can be stored") from error


def holds_body(data: Data) -> bool:
    """Say whether a line is an entry that has an offset of its own: more than a stream's end."""
    return data["type"] == "entry" and not data.keys().isdisjoint(("values", "text", "raw"))


def _check_manifest(data: Data) -> None:
    try:
        check_path(data["path"])
        if data["kind"] != "stream" or type(data["created"]) is not int or not isinstance(data["content_type"], str):
            raise ValueError(data["kind"])
        if any(data[name] is not None and type(data[name]) is not int for name in ("ttl_s", "expires_ms")):
            raise ValueError("time")
    except Exception as error:
        raise _wrong(1, "it does not describe a durable stream") from error


class _Content:
    """A hash over what was appended, in order."""

    def __init__(self) -> None:
        self.entries = 0
        self._hash = hashlib.sha256()

    def add(self, asked: Asked) -> None:
        self.entries += 1
        told = [asked.body is not None, asked.seq, asked.producer and [*asked.producer], asked.close]
        self._hash.update(orjson.dumps(told) + b"\n")
        self._hash.update(hashlib.sha256(asked.body or b"").digest())

    @property
    def value(self) -> str:
        return self._hash.hexdigest()


def _another(place: Place) -> Conflict:
    return Conflict(
        f"Somebody else makes, restores or deletes stream {path_of(place)!r:.200} now.",
        hint="Try again when that has ended.",
        revision=None,
    )


def _wrong(line: int, why: str) -> Corrupt:
    return Corrupt(
        f"Line {line} is wrong: {why}.", hint="Use another copy of the file; nothing was written.", line=line
    )
