"""What was lately appended or read here, in memory: who replays a stream that is in use asks the broker for nothing but
where it ends.

Entries of a stream are a chain: each is stored under the guard that nothing came since the one before. What is kept is
a whole stretch of that chain, so that its last sequence tells whether it is all there is. A next life of a path has
another segment, and is another stream here.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place

# Of all streams, and of one: payloads, and what an entry costs beside its own.
MOST_BYTES: Final = 32 * 1024 * 1024
MOST_OF_ONE: Final = 4 * 1024 * 1024
_AROUND: Final = 200
# What nobody has read or appended to for so long is let go of.
_IDLE_S: Final = 300.0


class Entry(NamedTuple):
    offset: Offset
    payload: bytes


class _Run:
    """All entries behind `after`, up to `upto`: sequences of one segment."""

    __slots__ = ("after", "entries", "upto", "used", "weight")

    def __init__(self, after: int, upto: int, entries: list[Entry]) -> None:
        self.after = after
        self.upto = upto
        self.entries = entries
        self.weight = sum(map(_weight, entries))
        self.used = 0.0

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.weight += _weight(entry)

    def shorten(self) -> None:
        """Let go of the older half as long as it is too much for one stream."""
        while self.weight > MOST_OF_ONE:
            gone = self.entries[: (len(self.entries) + 1) // 2]
            del self.entries[: len(gone)]
            self.after = gone[-1].offset.sequence
            self.weight -= sum(map(_weight, gone))


class Recent:
    """Of one process. A rule: no I/O."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._weight = 0
        # By path and segment, least lately used first.
        self._runs: OrderedDict[tuple[Place, int], _Run] = OrderedDict()

    @property
    def weight(self) -> int:
        return self._weight

    def appended(self, place: Place, guard: int, offset: Offset, payload: bytes | None) -> None:
        """Keep an entry that was stored when `guard` was the one before it; `payload` None: it holds nothing."""
        key = place, offset.segment
        run = self._runs.pop(key, None)
        if run is not None:
            self._weight -= run.weight
        if run is None or run.upto != guard:
            run = _Run(guard, guard, [])
        run.upto = offset.sequence
        if payload is not None:
            run.add(Entry(offset, payload))
        self._keep(key, run)

    def learn(self, place: Place, segment: int, after: int, upto: int, entries: Sequence[Entry]) -> None:
        """Keep what was read: all that there is behind `after`, up to `upto`."""
        key = place, segment
        run = self._runs.pop(key, None)
        if run is not None:
            self._weight -= run.weight
        if run is None or run.upto != after:
            run = _Run(after, after, [])
        for entry in entries:
            run.add(entry)
        run.upto = upto
        self._keep(key, run)

    def find(self, place: Place, segment: int, after: int, upto: int) -> tuple[Sequence[Entry], int] | None:
        """Return the entries behind `after` that are here, and up to where (at most `upto`) they are all of them; None
        where the first of them is not here."""
        key = place, segment
        run = self._runs.get(key)
        if run is None or not run.after <= after <= run.upto <= upto:
            return None
        run.used = time.monotonic()
        self._runs.move_to_end(key)
        return run.entries[bisect_right(run.entries, after, key=_sequence) :], run.upto

    def _keep(self, key: tuple[Place, int], run: _Run) -> None:
        run.shorten()
        run.used = now = time.monotonic()
        self._runs[key] = run
        self._weight += run.weight
        while self._runs:
            oldest = next(iter(self._runs.values()))
            if self._weight <= self._most and now - oldest.used < _IDLE_S:
                return
            self._runs.popitem(last=False)
            self._weight -= oldest.weight


def _sequence(entry: Entry) -> int:
    return entry.offset.sequence


def _weight(entry: Entry) -> int:
    return len(entry.payload) + _AROUND
