"""The stream: rows in one total order, guards, dedupe, expiry. Time comes in as `now`; no I/O."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final

from session_fabric.ports import Guard, Wanted
from session_fabric.words.errors import Conflict
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import MSG_ID, Record

STREAM: Final = "MEMORY"
# The window of our streams (docs/protocol.md, section 6: "two minutes").
DEDUPE_S: Final = 120.0

_Key = Place | tuple[Place, Kind, str] | str
_sequence = attrgetter("sequence")


@dataclass(slots=True, eq=False)
class Row:
    """A stored event. `gone` once it was purged or has expired."""

    sequence: int
    previous: int
    place: Place
    kind: Kind
    name: str
    subject: str
    segment: int
    head: bytes
    payload: bytes
    message_id: str
    gone: bool = False

    @property
    def keys(self) -> tuple[_Key, ...]:
        return self.place, (self.place, self.kind, self.name), self.subject

    def wanted(self, wanted: Collection[Wanted]) -> bool:
        """Say whether one of these asks for the row; none of them: all are asked for."""
        return not wanted or any(
            w.kind == self.kind and w.name in (None, self.name) and w.after < self.sequence for w in wanted
        )

    def stored(self, segment: int, payload: bytes | None = None) -> Record:
        """Return the row as a read gives it: without its predecessor, which only live events tell."""
        body = self.payload if payload is None else payload
        return Record(segment, self.sequence, 0, self.subject, self.head, body)

    def live(self, segment: int) -> Record:
        return Record(segment, self.sequence, self.previous, self.subject, self.head, self.payload)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a publish brings."""

    place: Place
    segment: int
    kind: Kind
    name: str
    subject: str
    headers: Mapping[str, str]
    payload: bytes
    guard: Guard | None = None
    ttl_s: float | None = None


@dataclass(slots=True)
class Store:
    """One stream. Call `expire` before anything else, so that nothing is seen past its time."""

    last: int = 0
    rows: dict[int, Row] = field(default_factory=dict)
    _index: dict[_Key, list[Row]] = field(default_factory=dict)
    _expiries: list[tuple[float, int]] = field(default_factory=list)
    _seen: dict[str, tuple[float, int]] = field(default_factory=dict)

    def put(self, arrival: Arrival, now: float) -> tuple[int, Row | None]:
        """Store an event; return its sequence, and the row unless it is a duplicate. Raises `Conflict`.

        The id is looked at before the guard, so a retry of what is stored never loses to itself.
        """
        message_id = arrival.headers[MSG_ID]
        first = self._known(message_id, now)
        if first is not None:
            return first, None
        if arrival.guard is not None:
            newest = self._newest_guarded(arrival.place, arrival.guard)
            if (0 if newest is None else newest.sequence) != arrival.guard.sequence:
                if newest is not None and newest.message_id == message_id:
                    return newest.sequence, None
                raise _conflict(arrival.guard, newest)
        return self.last + 1, self._add(arrival, message_id, now)

    def session(self, place: Place) -> Sequence[Row]:
        return self._index.get(place, ())

    def between(self, place: Place, after: int, upto: int) -> Sequence[Row]:
        """Return the session's rows in `(after, upto]`, in order."""
        rows = self.session(place)
        return rows[bisect_right(rows, after, key=_sequence) : bisect_right(rows, upto, key=_sequence)]

    def below(self, place: Place, before: int) -> Sequence[Row]:
        rows = self.session(place)
        return rows[: bisect_left(rows, before, key=_sequence)]

    def remove(self, rows: Iterable[Row]) -> int:
        """Take rows out; return how many."""
        touched: set[_Key] = set()
        count = 0
        for row in rows:
            row.gone = True
            del self.rows[row.sequence]
            touched.update(row.keys)
            count += 1
        for key in touched:
            left = [row for row in self._index[key] if not row.gone]
            if left:
                self._index[key] = left
            else:
                del self._index[key]
        return count

    def expire(self, now: float) -> None:
        due: list[Row] = []
        while self._expiries and self._expiries[0][0] <= now:
            row = self.rows.get(heapq.heappop(self._expiries)[1])
            if row is not None:
                due.append(row)
        self.remove(due)

    def _known(self, message_id: str, now: float) -> int | None:
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest][0] + DEDUPE_S > now:
                break
            del self._seen[oldest]
        seen = self._seen.get(message_id)
        return None if seen is None else seen[1]

    def _newest_guarded(self, place: Place, guard: Guard) -> Row | None:
        rows = self._index.get((place, guard.kind, guard.name))
        return rows[-1] if rows else None

    def _add(self, arrival: Arrival, message_id: str, now: float) -> Row:
        self.last += 1
        before = self._index.get(arrival.subject)
        row = Row(
            self.last,
            before[-1].sequence if before else 0,
            arrival.place,
            arrival.kind,
            arrival.name,
            arrival.subject,
            arrival.segment,
            _head(arrival, self.last, before[-1].sequence if before else 0, now),
            arrival.payload,
            message_id,
        )
        self.rows[row.sequence] = row
        for key in row.keys:
            self._index.setdefault(key, []).append(row)
        self._seen[message_id] = (now, row.sequence)
        if arrival.ttl_s is not None:
            heapq.heappush(self._expiries, (now + arrival.ttl_s, row.sequence))
        return row


def _conflict(guard: Guard, newest: Row | None) -> Conflict:
    revision = 0 if newest is None else newest.sequence
    return Conflict(
        f"The newest event of {guard.kind}/{guard.name} is {revision}, not {guard.sequence}.",
        hint="Read it and decide again.",
        revision=revision,
    )


def _head(arrival: Arrival, sequence: int, previous: int, now: float) -> bytes:
    """Spell the header block as the broker republishes it: the publisher's, then the broker's own."""
    time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    lines = [
        "NATS/1.0",
        *(f"{name}: {value}" for name, value in arrival.headers.items()),
        *((f"Nats-TTL: {arrival.ttl_s:g}s",) if arrival.ttl_s is not None else ()),
        f"Nats-Stream: {STREAM}",
        f"Nats-Subject: {arrival.subject}",
        f"Nats-Sequence: {sequence}",
        f"Nats-Time-Stamp: {time}000Z",
        f"Nats-Last-Sequence: {previous}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
