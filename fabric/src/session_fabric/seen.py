"""How far each device of a participant has read; kept in the bucket `sf-cursors`."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

import orjson

from session_fabric import kept
from session_fabric.parts import Parts
from session_fabric.ports import Bucket, Entry
from session_fabric.rules import segments
from session_fabric.rules.bounds import BOUNDS
from session_fabric.rules.unread import Cursor
from session_fabric.words.errors import Conflict, FabricError, SessionGone
from session_fabric.words.names import check_id, escape, unescape
from session_fabric.words.parsing import read_json
from session_fabric.words.positions import Offset
from session_fabric.words.signals import Origin, spell_cursor

BUCKET: Final = "sf-cursors"
_TRIES: Final = 20


async def move(parts: Parts, origin: Origin, offset: Offset) -> Offset:
    """Keep how far a device has read, and tell the others; return where the cursor is. See `Session.seen`."""
    check_id(origin.device, "device id")
    record = await parts.directory.load(parts.place)
    segments.check(record.segments, offset, record.floor_offset)
    # A cursor beyond the end would stay there for ever, since none goes back.
    within = await parts.history.within(offset, await parts.history.head())
    assert isinstance(within, Offset)
    bucket = parts.broker.bucket(BUCKET)
    key = f"{parts.place.key()}.{escape(origin.actor)}.{escape(origin.device)}"
    for attempt in range(_TRIES):
        entry = await bucket.get(key)
        known = None if entry is None else _offset(entry)
        if known is not None and known >= within:
            return known
        if entry is None:
            await _make_room(bucket, key)
        try:
            value = orjson.dumps({"offset": str(within)})
            revision = await bucket.swap(key, value, revision=entry.revision if entry else 0)
        except Conflict:
            if attempt == _TRIES - 1:
                raise
            await asyncio.sleep(random.uniform(0, 0.02))
            continue
        try:
            await kept.lives_on(parts, record)
        except SessionGone:
            await bucket.delete(key, revision=revision)
            raise
        break
    await parts.broker.signals.send(parts.place, spell_cursor(origin, within))
    return within


async def _make_room(bucket: Bucket, key: str) -> None:
    """See that a participant has one marker more: the oldest ones, of devices that are gone, make way."""
    kept = await bucket.entries(key.rpartition(".")[0])
    for entry in kept[: max(0, len(kept) + 1 - BOUNDS[BUCKET].most)]:
        with contextlib.suppress(Conflict):  # it has just moved: a device that lives
            await bucket.delete(entry.key, revision=entry.revision)


async def cursors(parts: Parts) -> list[Cursor]:
    """Return every device's cursor; see `Session.cursors`."""
    await parts.directory.load(parts.place)
    found = [cursor_of(parts, entry) for entry in await entries(parts)]
    return sorted(cursor for cursor in found if cursor is not None)


async def entries(parts: Parts) -> list[Entry]:
    return await parts.broker.bucket(BUCKET).entries(parts.place.key())


def cursor_of(parts: Parts, entry: Entry) -> Cursor | None:
    """Read an entry; None for what a stranger wrote there that is none, and for one that is gone."""
    tokens = entry.key[len(parts.place.key()) + 1 :].split(".")
    offset = _offset(entry)
    if len(tokens) != 2 or offset is None:
        return None
    return Cursor(unescape(tokens[0]), unescape(tokens[1]), offset)


def _offset(entry: Entry) -> Offset | None:
    try:
        return None if entry.value is None else Offset.parse(read_json(entry.value)["offset"])
    except (orjson.JSONDecodeError, KeyError, TypeError, FabricError):
        return None
