"""The newest events of a session, and what a reader needs next. A rule: no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from session_fabric.words.positions import ZERO, After, Offset
from session_fabric.words.wire import Record

# Covers what arrives while a reader is handed over from the log, at the broker's full speed.
MOST_RECORDS: Final = 4096
MOST_BYTES: Final = 512 * 1024
_RECORD_BYTES: Final = 400  # a Record, its subject and its headers, about


class Ring:
    """Keeps the newest events: all of `(base, delivered]`, and nothing else."""

    def __init__(self, most_records: int = MOST_RECORDS, most_bytes: int = MOST_BYTES) -> None:
        self.base = ZERO
        self.delivered = ZERO
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._records: list[Record] = []
        self._bytes = 0

    def add(self, records: Sequence[Record]) -> None:
        """Take new events, in order."""
        if not records:
            return
        if not self._records and self.base == ZERO:
            first = records[0]
            self.base = Offset(first.segment, first.sequence - 1)
        self._records.extend(records)
        for record in records:
            self._bytes += len(record.payload) + _RECORD_BYTES
        last = records[-1]
        self.delivered = Offset(last.segment, last.sequence)
        if len(self._records) > self._most_records or self._bytes > self._most_bytes:
            self._shrink()

    def _shrink(self) -> None:
        """Let the older half go, so that it is not done again at the next event."""
        kept = 0
        size = 0
        for record in reversed(self._records):
            size += len(record.payload) + _RECORD_BYTES
            if kept >= self._most_records // 2 or size > self._most_bytes // 2:
                break
            kept += 1
        gone = len(self._records) - kept
        last = self._records[gone - 1]
        self.base = Offset(last.segment, last.sequence)
        self._records = self._records[gone:]
        self._bytes = sum(len(record.payload) for record in self._records) + _RECORD_BYTES * kept

    def reached(self, offset: Offset) -> None:
        """Everything up to here has been delivered, also where no event of the session stands."""
        if offset > self.delivered:
            self.delivered = offset
        if self.base == ZERO:
            self.base = offset

    def rewind(self, to: Offset) -> None:
        """What is behind `to` comes again."""
        keep = bisect_right(self._records, to, key=_offset)
        self._bytes -= sum(len(r.payload) + _RECORD_BYTES for r in self._records[keep:])
        del self._records[keep:]
        self.delivered = to
        self.base = min(self.base, to)

    def forget(self) -> None:
        """Let all go: who needs what is behind its end reads the log, which has what may be read of it."""
        self.base = self.delivered
        self._records.clear()
        self._bytes = 0

    def covers(self, offset: Offset) -> bool:
        """Say whether all that is behind an offset, up to what has been delivered, is here."""
        here = offset.segment == self.base.segment == self.delivered.segment
        return here and self.base <= offset <= self.delivered

    def after(self, offset: Offset) -> Sequence[Record]:
        """Return what is behind an offset at or above `base`."""
        return self._records[bisect_right(self._records, offset, key=_offset) :]


def _offset(record: Record) -> Offset:
    return Offset(record.segment, record.sequence)


@dataclass(frozen=True, slots=True)
class Read:
    """Read the log up to here, then ask again."""

    upto: Offset


@dataclass(frozen=True, slots=True)
class Wait:
    """The reader is ahead of what has been delivered here: ask again when there is more."""


@dataclass(frozen=True, slots=True)
class Join:
    """Send these, preceded by a rewind if there is one, and count the reader among the live ones: at once."""

    records: Sequence[Record] = field(default_factory=tuple)
    rewind: Offset | None = None


Step = Read | Wait | Join


def next_step(position: After, ring: Ring, *, patient: bool = True) -> Step:
    """Say how a reader that has had everything up to `position` comes to be live.

    No seam: what `Join` hands over ends exactly where the live line goes on. `patient` False: it has waited long
    enough for events that it has had, or that are gone; they are repeated after a rewind.
    """
    if position == "tail":
        return Join()
    if position == "start" or position < ring.base:
        return Read(ring.delivered)
    if position > ring.delivered:
        return Wait() if patient else Join(rewind=ring.delivered)
    return Join(ring.after(position))
