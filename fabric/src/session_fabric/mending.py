"""What becomes of the runs and floors of a process that is gone: the warden calls, whoever it is that found out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from session_fabric.doorbell import ring
from session_fabric.endings import By, agent_lost, bell_of, end_run, orphan_run
from session_fabric.floors import lost
from session_fabric.holdings import Held, Holdings
from session_fabric.parts import Parts
from session_fabric.requests import close as close_requests
from session_fabric.words.errors import SessionClosed, SessionGone, SessionNotFound
from session_fabric.words.events import RUN_OVER
from session_fabric.words.subjects import Place

Bells = list[tuple[Parts, str, str, str | None]]
A = TypeVar("A")
T = TypeVar("T")
# A process may have held hundreds of runs, and the last one's viewers wait no longer than the first one's.
_AT_ONCE: Final = 32


class Mending:
    """A warden's mender of runs and floors. Each step is written under compare-and-set: once, whoever else is at it."""

    def __init__(self, holdings: Holdings, parts_of: Callable[[Place], Parts]) -> None:
        self._holdings = holdings
        self._parts_of = parts_of

    async def holders(self) -> set[str]:
        """Return the processes that have left something behind, or hold it still."""
        return {held.holder for held in await self._holdings.of()}

    async def mend(self, holder: str) -> None:
        """End what a dead process held. Raises `BrokerUnavailable`: to be done again, what is done stays."""
        held = await self._holdings.of(holder)
        # Runs first: that is what people wait for.
        runs = await _each(partial(_known, self._run), [each for each in held if each.kind == "run"])
        floors = await _each(partial(_known, self._floor), [each for each in held if each.kind == "floor"])
        # Rung for when everything is free to be taken.
        await _each(lambda bell: ring(*bell), [bell for bells in (*runs, *floors) for bell in bells])
        await _each(self._holdings.leave, held)

    async def _run(self, held: Held) -> Bells:
        """Orphan a pool's run, or end one that nobody could go on with; return for whom to ring."""
        parts, run = self._parts_of(held.place), held.name
        record = await parts.directory.load(held.place)
        newest = await parts.newest_own(record, run)
        if newest is None or newest.type in RUN_OVER:
            return []
        pool = held.facts.get("pool")
        if pool is None:
            if await end_run(parts, run, agent_lost(), By(held.holder)):
                await close_requests(parts, run)
            return []
        sequence = await orphan_run(parts, run, By(held.holder), held.facts.get("agent"))
        # The same for each warden that comes to it, so that it rings once.
        return [] if sequence is None else [(parts, str(pool), bell_of(run, sequence), run)]

    async def _floor(self, held: Held) -> Bells:
        parts, pool = self._parts_of(held.place), held.name
        await lost(parts, pool, held.holder)
        return [(parts, pool, f"floor.{pool[:60]}.{held.holder}", None)]


async def _known(mend: Callable[[Held], Awaitable[Bells]], held: Held) -> Bells:
    try:
        return await mend(held)
    except (SessionNotFound, SessionGone, SessionClosed):
        return []  # nobody is told any more


async def _each(do: Callable[[A], Awaitable[T]], things: Iterable[A]) -> list[T]:
    """Do it to several at once, to all of them; then raise what the first that failed has raised."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(thing: A) -> T:
        async with slots:
            return await do(thing)

    done = await asyncio.gather(*map(one, things), return_exceptions=True)
    results = []
    for result in done:
        if isinstance(result, BaseException):
            raise result
        results.append(result)
    return results
