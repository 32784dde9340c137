"""Agents whose connection has ended while they have runs: told at once to who follows those runs' sessions.

Nothing of it is stored. Whether such an agent is back, or its runs are another's or over, is known a moment later: the
first is told here, the second by the session's log (`run.orphaned`, `run.taken_over`, `RUN_ERROR`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from session_fabric.holdings import Held, Holdings
from session_fabric.ports import Broker, Wanted
from session_fabric.records import Directory
from session_fabric.words.errors import FabricError
from session_fabric.words.events import RUN_ORPHANED, RUN_OVER, RUN_RESUMED, RUN_STARTED, RUN_SUSPENDED, RUN_TAKEN_OVER
from session_fabric.words.logs import log
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

# Where many connections end at once, as when a network is parted, the broker is asked so much at a time.
_AT_ONCE: Final = 32
_HELD: Final = frozenset({RUN_STARTED, RUN_SUSPENDED, RUN_RESUMED, RUN_TAKEN_OVER})
_LEFT: Final = frozenset({*RUN_OVER, RUN_ORPHANED})


class Absence(NamedTuple):
    """Whether the agent of a run has a connection. False is not its end: it may be back within a moment."""

    run: str
    agent: str
    connected: bool


class Hearing:
    """Somebody who is told of absences in a session; `close` ends it."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    async def close(self) -> None:
        self._end()


class Absences:
    """What one process tells those who follow sessions through it. Whoever follows nothing is asked for nothing."""

    def __init__(
        self, broker: Broker, directory: Directory, holdings: Holdings, hear_of_ends: Callable[[], Awaitable[None]]
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._holdings = holdings
        self._hear_of_ends = hear_of_ends
        self._sinks: dict[Place, list[Callable[[Absence], None]]] = {}
        # What followers have heard of whose a run is, by session and run, and the same by its process.
        self._held: dict[Place, dict[str, str]] = {}
        self._by_holder: dict[str, dict[tuple[Place, str], str]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def hear(self, place: Place, sink: Callable[[Absence], None]) -> Hearing:
        """Call `sink` with each absence in a session, and with each return; it must neither block nor raise.

        Begins the watch over other processes, where it is not kept yet. Raises `BrokerUnavailable`.
        """
        await self._hear_of_ends()
        sinks = self._sinks.setdefault(place, [])
        sinks.append(sink)

        def end() -> None:
            if sink in sinks:
                sinks.remove(sink)
            if not sinks and self._sinks.get(place) is sinks:
                del self._sinks[place]
                for run in list(self._held.get(place, ())):
                    self._forget(place, run)

        return Hearing(end)

    def heard(self, place: Place, record: Record) -> None:
        """Take what a follower of the session hears of runs: who holds one needs not be looked up then."""
        if record.type not in _HELD and record.type not in _LEFT:
            return
        run = record.parts.name
        self._forget(place, run)
        body = record.event().body
        holder = body.get("holder")
        if record.type in _HELD and isinstance(holder, str) and place in self._sinks:
            self._held.setdefault(place, {})[run] = holder
            self._by_holder.setdefault(holder, {})[place, run] = str(body.get("agent"))

    def _forget(self, place: Place, run: str) -> None:
        holder = self._held.get(place, {}).pop(run, None)
        if holder is None:
            return
        if not self._held[place]:
            del self._held[place]
        runs = self._by_holder[holder]
        del runs[place, run]
        if not runs:
            del self._by_holder[holder]

    def known_of(self, holder: str) -> Sequence[tuple[Place, Absence]]:
        """Return the runs of a process that followers here have heard of, as absent; no I/O."""
        runs = self._by_holder.get(holder, {})
        return [(place, Absence(run, agent, connected=False)) for (place, run), agent in runs.items()]

    async def runs_of(self, holder: str) -> Sequence[tuple[Place, Absence]]:
        """Return all runs of a process that are under way in sessions that are followed here, as absent: those that
        began before their followers came, too.

        Of those that cannot be looked at now nothing is told: what becomes of them is in the log.
        """
        if not self._sinks:
            return ()
        try:
            async with self._slots:
                held = [h for h in await self._holdings.of(holder) if h.kind == "run" and h.place in self._sinks]
            found = await asyncio.gather(*map(self._absent, held))
        except FabricError as error:
            log.info("absence_not_looked_at", code=error.code)
            return ()
        return [absent for absent in found if absent is not None]

    async def _absent(self, held: Held) -> tuple[Place, Absence] | None:
        """Say whose a run is that a process has entered as its own, from the leader; None: not that process's."""
        async with self._slots:
            found = await self._directory.find(held.place)
            if found is None:
                return None
            record, _ = found
            newest = await self._broker.log.newest(record.stretch, Wanted("own", held.name))
        if newest is None or newest.sequence <= record.begin or newest.type in _LEFT:
            return None
        body = newest.event().body
        if body.get("holder", held.holder) != held.holder:
            return None  # another one goes on with it
        return held.place, Absence(held.name, str(body.get("agent")), connected=False)

    def tell(self, runs: Sequence[tuple[Place, Absence]], *, connected: bool) -> None:
        """Tell who follows these runs' sessions that their agent is away, or back."""
        for place, absent in runs:
            for sink in list(self._sinks.get(place, ())):
                sink(absent._replace(connected=connected))
