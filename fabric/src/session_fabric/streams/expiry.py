"""What is removed because its time has passed, though nobody asks for it any more."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from typing import Final, Protocol

from session_fabric.streams.records import StreamRecord
from session_fabric.words.errors import FabricError
from session_fabric.words.logs import log
from session_fabric.words.subjects import Place

# All streams are looked through this often, for what a process that is gone had in mind.
_ALL_S: Final = 3600.0
_TURN_S: Final = 1.0
_MOST: Final = 100_000


class Expiries:
    """The streams with an end that this process has met, soonest first. Bounded: what is over is found by the look at
    all of them."""

    def __init__(self) -> None:
        self._due: list[tuple[int, Place]] = []
        self._known: dict[Place, int] = {}

    def note(self, record: StreamRecord) -> None:
        """Keep in mind when a stream ends."""
        ends = record.end_ms
        if ends is None or len(self._known) >= _MOST or self._known.get(record.place) == ends:
            return
        self._known[record.place] = ends
        heapq.heappush(self._due, (ends, record.place))

    def take(self, now_ms: int) -> list[Place]:
        """Return the streams whose time may have passed."""
        over = []
        while self._due and self._due[0][0] <= now_ms:
            ends, place = heapq.heappop(self._due)
            if self._known.get(place) == ends:
                del self._known[place]
                over.append(place)
        return over


class Swept(Protocol):
    """The streams of a process, as far as the sweeper needs them."""

    expiries: Expiries

    async def note_all(self) -> None: ...
    async def settle(self, place: Place) -> None: ...


class Sweeper:
    """Removes what is over. `run` is its life and wants an owner; any number of processes may have one."""

    def __init__(self, streams: Swept) -> None:
        self._streams = streams

    async def run(self) -> None:
        """Remove streams as their time passes, until cancelled."""
        looked = 0.0
        while True:
            try:
                if looked == 0.0 or time.monotonic() - looked > _ALL_S:
                    await self._streams.note_all()
                    looked = time.monotonic() - random.uniform(0, _ALL_S / 4)
                for place in self._streams.expiries.take(time.time_ns() // 1_000_000):
                    await self._streams.settle(place)
            except FabricError as error:
                log.warning("stream_sweep_failed", code=error.code, detail=error.message)
            await asyncio.sleep(_TURN_S * random.uniform(0.8, 1.2))
