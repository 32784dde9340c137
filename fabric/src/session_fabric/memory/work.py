"""What a durable subscription has delivered, and what it still has to. Time comes in as `now`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from session_fabric.memory.store import Row
from session_fabric.ports import Wanted
from session_fabric.words.subjects import Place

# Tenant, session (None: all of them, each), name.
DurableKey = tuple[str | None, str | None, str]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events a subscription gets: of one session, of a tenant's (`place` None), or of all (`tenant` too)."""

    tenant: str | None
    place: Place | None
    wanted: tuple[Wanted, ...]

    def takes(self, row: Row) -> bool:
        if self.place is not None:
            return row.place == self.place and row.wanted(self.wanted)
        return self.tenant in (None, row.place.tenant) and row.wanted(self.wanted)


@dataclass(slots=True)
class Work:
    """An event in somebody's hands. From `due` on it is to be delivered again."""

    row: Row
    attempts: int
    due: float


class DurableState:
    """A subscription, apart from who has it open. `max_deliver` below 1: without limit."""

    def __init__(self, filter: Filter, ack_wait_s: float, max_deliver: int, stored: Iterable[Row]) -> None:
        self.filter = filter
        self.ack_wait_s = ack_wait_s
        self.deleted = False
        self.bell = asyncio.Event()
        self.asking = 0
        self._max_deliver = max_deliver
        self._fresh: deque[Row] = deque(row for row in stored if filter.takes(row))
        self._out: dict[int, Work] = {}

    def offer(self, row: Row) -> None:
        """Take a new event of the stream, if it is asked for."""
        if self.filter.takes(row):
            self._fresh.append(row)
            self.wake()

    def wake(self) -> None:
        """Let everyone who waits look again."""
        self.bell.set()
        self.bell = asyncio.Event()

    def take(self, limit: int, now: float) -> list[tuple[Row, int]]:
        """Hand out up to `limit` events with the number of the attempt, first what comes again."""
        self._drop(now)
        handed: list[Work] = [work for _, work in sorted(self._out.items()) if work.due <= now][:limit]
        for work in handed:
            work.attempts += 1
        while len(handed) < limit and self._fresh:
            row = self._fresh.popleft()
            if not row.gone:
                handed.append(Work(row, 1, now))
        for work in handed:
            work.due = now + self.ack_wait_s
            self._out[work.row.sequence] = work
        return [(work.row, work.attempts) for work in handed]

    def settle(self, sequence: int) -> None:
        self._out.pop(sequence, None)

    def postpone(self, sequence: int, due: float) -> None:
        """Say when an event is to come again, unless it was settled."""
        if sequence in self._out:
            self._out[sequence].due = due
            self.wake()

    def due(self) -> float | None:
        """Return when the next event is to come again."""
        return min((work.due for work in self._out.values()), default=None)

    def reached(self, last: int) -> tuple[int, int]:
        """Return up to where everything was delivered and settled, `last` being the stream's end."""
        delivered = self._fresh[0].sequence - 1 if self._fresh else last
        return delivered, min(self._out, default=delivered + 1) - 1

    @property
    def again(self) -> int:
        """How many of those in hand were delivered more than once."""
        return sum(work.attempts > 1 for work in self._out.values())

    def lag(self, now: float) -> tuple[int, int]:
        self._drop(now)
        return sum(not row.gone for row in self._fresh), len(self._out)

    def _drop(self, now: float) -> None:
        """Forget what is out but has gone, or was tried often enough."""
        done = [
            sequence
            for sequence, work in self._out.items()
            if work.row.gone or (work.due <= now and 0 < self._max_deliver <= work.attempts)
        ]
        for sequence in done:
            del self._out[sequence]
