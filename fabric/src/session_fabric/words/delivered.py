"""Stored events as a consumer delivers them, many at a time: what they have in common is looked for once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, final, overload

import orjson

from session_fabric.words.subjects import Subject, plain
from session_fabric.words.wire import Alike, Record, alike_of, subject_parts

# Subject, reply, raw headers, payload.
Message = tuple[bytes, bytes, bytes, bytes]

# Between bodies that are looked at together: who stores one cannot know it, and so cannot make two of one.
_BETWEEN: Final = secrets.token_hex(16)
_JOINT: Final = b',"%b",' % _BETWEEN.encode()
_ID: Final = b"Nats-Msg-Id: "
_ID_END: Final = len(_ID)
_HEAD_BEGIN: Final = len(b"NATS/1.0\r\n")
_MOST_LIFE: Final = 64
_MOST_ID: Final = 128
_OF_IDS: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:.~@=-"


class Common:
    """The subject, and the headers behind the id, of several events. `told`: what readers are told of each, beside
    its id, its time and its body; None where that has to be asked of each."""

    __slots__ = ("head", "subject", "told", "type")

    def __init__(self, subject: bytes, head: bytes, *, named: bool = True) -> None:
        self.subject = plain(subject.decode())
        self.head = b"\r\n" + head
        self.told: Alike | None = alike_of(self.subject, self.head) if named else None
        self.type = self.told.type if self.told else Record(0, 0, 0, self.subject, self.head, b"").type

    @property
    def parts(self) -> Subject:
        return subject_parts(self.subject)


# One event: what it has in common with others, its first header (its id, where `told` is something), its sequence and
# its time in nanoseconds as digits, raw headers, payload. No more than a tuple: there are many.
Row = tuple[Common, bytes, bytes, bytes, bytes, bytes]


class Gathering:
    """Takes what a consumer delivers, in order."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.pending = 0
        self._known: dict[tuple[bytes, bytes], Common] = {}

    def take(self, messages: Iterable[Message]) -> None:
        """Take messages; `pending` is how many more match."""
        known, rows = self._known, self.rows
        pending = b"0"
        for subject, reply, head, payload in messages:
            # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<ns>.<pending>
            _, sequence, _, ns, pending = reply.rsplit(b".", 4)
            _, first, behind = (head or b"NATS/1.0\r\n\r\n").split(b"\r\n", 2)
            named = first[:_ID_END] == _ID
            if not named:
                behind = head[_HEAD_BEGIN:]
            common = known.get((subject, behind))
            if common is None:
                common = known[subject, behind] = Common(subject, behind, named=named)
            rows.append((common, first, sequence, ns, head, payload))
        self.pending = int(pending)


@final
class Delivered(Sequence[Record]):
    """A stretch of events, at least one. A `Record` of each is made when one is asked for."""

    __slots__ = ("_commons", "_ids", "_made", "rows", "segment")

    def __init__(self, segment: int, rows: list[Row]) -> None:
        self.segment = segment
        self.rows = rows
        self._made: list[Record] | None = None
        self._commons: set[Common] | None = None
        self._ids: list[bytes] | bool | None = False  # not looked for yet

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Record]:
        if self._made is None:
            self._made = [self._record(row) for row in self.rows]
        return iter(self._made)

    @overload
    def __getitem__(self, at: int) -> Record: ...

    @overload
    def __getitem__(self, at: slice) -> Delivered: ...

    def __getitem__(self, at: int | slice) -> Record | Delivered:
        if isinstance(at, slice):
            return Delivered(self.segment, self.rows[at])
        return self._record(self.rows[at]) if self._made is None else self._made[at]

    def _record(self, row: Row) -> Record:
        common, _, sequence, ns, head, payload = row
        return Record(self.segment, int(sequence), 0, common.subject, head, payload, ns)

    @property
    def commons(self) -> set[Common]:
        """What there is of subjects and headers."""
        if self._commons is None:
            self._commons = {row[0] for row in self.rows}
        return self._commons

    def where(self, test: Callable[[Common], bool]) -> Sequence[Record]:
        """Return the events whose subject and headers pass a test."""
        passed = set(filter(test, self.commons))
        if len(passed) == len(self.commons):
            return self
        return Delivered(self.segment, [row for row in self.rows if row[0] in passed])

    @property
    def ids(self) -> list[bytes] | None:
        """The events' ids, where readers get each body as it is stored, and are told of nothing else what is not in
        `told`; None: each `Record` has to be asked."""
        if self._ids is False:
            whole = all(common.told for common in self.commons) and self._bodies_are_whole()
            self._ids = self._found_ids() if whole else None
        assert not isinstance(self._ids, bool)
        return self._ids

    def _bodies_are_whole(self) -> bool:
        """Say whether each body is a JSON object of the type that its headers name."""
        rows = self.rows
        try:
            values = orjson.loads(b"[%b]" % _JOINT.join([row[5] for row in rows]))
            if len(values) != 2 * len(rows) - 1 or values[1::2].count(_BETWEEN) != len(rows) - 1:
                return False
            return [value["type"] for value in values[::2]] == [row[0].type for row in rows]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return False

    def _found_ids(self) -> list[bytes] | None:
        firsts = [row[1] for row in self.rows]
        life, slash, _ = firsts[0].partition(b"/")
        if not slash or len(life) > _ID_END + _MOST_LIFE:
            return None
        # Of one with another life its name is left, with a space, which is in no id.
        joined = b"\n%b" % b"\n".join(firsts)
        joined = joined.replace(b"\n%b/" % life, b"\n")
        ids = joined[1:].split(b"\n")
        if len(ids) != len(firsts) or joined.translate(None, _OF_IDS + b"\n"):
            return None
        lengths = set(map(len, ids))
        return ids if min(lengths) > 0 and max(lengths) <= _MOST_ID else None


def body_sizes(records: Sequence[Record]) -> list[int]:
    """Return how many bytes the body of each event has."""
    if isinstance(records, Delivered):
        return [len(row[5]) for row in records.rows]
    return [len(record.payload) for record in records]


def any_head_has(records: Sequence[Record], needle: bytes) -> bool:
    """Say whether one of the events has a header; `needle`: as `needle_of` spells it."""
    if isinstance(records, Delivered):
        return any(needle in common.head for common in records.commons)
    return any(needle in record.head for record in records)


def subjects_of(records: Sequence[Record]) -> Iterable[str]:
    """Return the subjects of events, of each at least once."""
    held = records.commons if isinstance(records, Delivered) else records
    return (each.subject for each in held)
