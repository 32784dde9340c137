"""Subscriptions on durable streams: where they are kept, and how a tenant's backup has them.

A backup has what was asked for, and how far each stream was worked off: the offset of then, and which of the file's
entries have it. Who had work in hand when it was made is not known any more: it is handed out again.
"""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import aclosing, suppress
from itertools import accumulate
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from session_fabric.ports import Broker
from session_fabric.records import SessionRecord
from session_fabric.rules import wakes as rules
from session_fabric.rules.chains import Checked, Data
from session_fabric.rules.wakes import Wake
from session_fabric.streams import entries
from session_fabric.streams.archive import holds_body
from session_fabric.streams.records import path_of, place_of
from session_fabric.streams.streams import Streams
from session_fabric.words.errors import Conflict, Corrupt
from session_fabric.words.names import escape, unescape
from session_fabric.words.positions import ZERO, Offset
from session_fabric.words.subjects import Place

BUCKET: Final = "sf-wakes"
# Whose work it is now, and what went wrong lately.
_PASSING: Final = {"tenant", "state", "wake_id", "holder", "until_ms", "snapshot", "failures", "next_ms"}
_ANOTHER: Final = "Use another copy of the backup."

# Gives the lines of a stream's file, by its path; None where the backup has no such stream.
FileOf = Callable[[str], Iterable[bytes] | None]


def key_of(tenant: str, id: str) -> str:
    return f"{escape(tenant)}.{escape(id)}"


class Kept(NamedTuple):
    """A tenant's subscriptions as a backup has them; `unread`: those that cannot be read, byte for byte."""

    subscriptions: Sequence[Data]
    unread: Sequence[Data]


async def subscriptions_of(broker: Broker, tenant: str) -> Kept:
    """Return a tenant's subscriptions. Raises `BrokerUnavailable`."""
    wakes, unread = list[Wake](), list[Data]()
    for key, value, _ in await broker.bucket(BUCKET).entries(escape(tenant)):
        wake = None if value is None else rules.parse(value)
        if wake is not None:
            wakes.append(wake)
        elif value is not None:
            unread.append({"key": key.partition(".")[2], "value": base64.b64encode(value).decode()})
    return Kept([_spelled(wake) for wake in sorted(wakes, key=lambda wake: wake.id)], unread)


def _spelled(wake: Wake) -> Data:
    return wake.model_dump(exclude=_PASSING)


def parse_unread(data: Any, tenant: str) -> Wake | str:
    """Read what a backup has of a subscription that could not be read when it was made: a later version may. Else
    return its name. Raises `Corrupt`."""
    try:
        key, wake = str(data["key"]), rules.parse(base64.b64decode(data["value"], validate=True))
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt("What could not be read is not spelled as it should be.", hint=_ANOTHER, line=0) from error
    return _name_of(key) if wake is None else parse_subscription(_spelled(wake), tenant)


def _name_of(key: str) -> str:
    try:
        return unescape(key)
    except ValueError:
        return key  # it is no key of ours


def parse_subscription(data: Any, tenant: str) -> Wake:
    """Read one of a backup, as a subscription of a tenant. Raises `Corrupt`."""
    try:
        return Wake(**{**data, "tenant": tenant})
    except (ValidationError, TypeError) as error:
        raise Corrupt(
            f"Subscription {data.get('id') if isinstance(data, dict) else data!r:.100} cannot be read.",
            hint="Restore it with the version that has written it, or a later one.",
            line=0,
        ) from error


async def restore(streams: Streams, tenant: str, wakes: Iterable[Wake], file_of: FileOf) -> None:
    """Make a tenant's subscriptions again behind its streams, but for those of which there is one of that id.

    What each stream has is read once for all of them, be there ever so many.
    """
    bucket, missing = streams.broker.bucket(BUCKET), list[Wake]()
    for wake in wakes:
        there = await bucket.get(key_of(tenant, wake.id))
        if there is None or there.value is None:
            missing.append(wake)
    then = defaultdict[str, set[str]](set)
    for wake in missing:
        for path, link in wake.links.items():
            then[path].add(link.acked)
    now = {path: await _placed(streams, place_of(tenant, path), acked, file_of) for path, acked in then.items()}
    for wake in missing:
        links = {path: link.model_copy(update={"acked": now[path][link.acked]}) for path, link in wake.links.items()}
        placed = wake.model_copy(update={"links": links})
        with suppress(Conflict):  # it is there since
            await bucket.swap(key_of(tenant, wake.id), placed.model_dump_json().encode(), revision=0)


async def _placed(streams: Streams, place: Place, acked: Iterable[str], file_of: FileOf) -> Mapping[str, str]:
    """Return what offsets of then are now; the stream's beginning where the backup has no such stream."""
    placed = dict.fromkeys(acked, str(ZERO))
    then = sorted(placed.keys() - {str(ZERO)})
    found = await streams.directory.find(place, fresh=True) if then else None
    lines = None if found is None else file_of(path_of(place))
    if found is None or lines is None:
        return placed
    counts = _worked_off(lines, then)
    offsets = await _offsets_behind(streams, found[0], set(counts))
    return placed | {one: str(offsets[count]) for one, count in zip(then, counts, strict=True)}


def _worked_off(lines: Iterable[bytes], acked: Sequence[str]) -> Sequence[int]:
    """Count the entries of a file up to each of some offsets of then, in their order."""
    between = [0] * (len(acked) + 1)
    for data in Checked().read(lines):
        if holds_body(data):
            between[bisect_left(acked, data.get("offset", "~"))] += 1
    return list(accumulate(between[:-1]))


async def _offsets_behind(streams: Streams, record: SessionRecord, counts: Set[int]) -> Mapping[int, Offset]:
    """Return the offset behind so many entries of a restored stream; its end where it has fewer."""
    at, log, to = Offset(record.segments[-1].id, record.segments[-1].after), streams.broker.log, record.stretch
    offsets, passed = {0: at}, 0
    if most := max(counts):
        upto = await log.head(to, kinds=(entries.KIND,))
        async with aclosing(log.read(to, after=at.sequence, upto=upto, wanted=(entries.ENTRIES,))) as batches:
            async for records in batches:
                for stored in filter(entries.is_data, records):
                    at, passed = stored.offset, passed + 1
                    if passed in counts:
                        offsets[passed] = at
                if passed >= most:
                    break
    return {count: offsets.get(count, at) for count in counts}
