"""The loop around an agent: doorbells in, sessions' floors taken, runs made, and everything left in order."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import orjson

from session_fabric.agents import Answering, Handler, Options
from session_fabric.desk import Desk
from session_fabric.doorbell import forward, ring
from session_fabric.floors import Floor
from session_fabric.holdings import Held
from session_fabric.outcomes import Lost
from session_fabric.parts import Parts
from session_fabric.rules.floor import FloorState
from session_fabric.session import Session
from session_fabric.subscription import Subscription, Work
from session_fabric.turns import Turns
from session_fabric.words.closing import Closed
from session_fabric.words.errors import Conflict, FabricError, NobodyAnswers, NotHolder, Refused, Unavailable
from session_fabric.words.logs import log
from session_fabric.words.names import POOL_DURABLE
from session_fabric.words.subjects import Place, call_of

_FETCH_S: Final = 5.0
# Before an inbox that was refused is asked again.
_AGAIN_S: Final = 1.0
# A doorbell that nobody acknowledged rings again after this: its worker is gone.
ACK_WAIT_S: Final = 10.0
# Before a session whose holder is being found dead is looked at again.
_LATER_S: Final = 0.2
_RING_S: Final = 1.0
_LEAVE_S: Final = 5.0
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,50}")


def durable_of(pool: str) -> str:
    """Name the durable subscription that all workers of a pool share."""
    return POOL_DURABLE + (pool if _PLAIN.fullmatch(pool) else hashlib.sha256(pool.encode()).hexdigest()[:32])


def pool_call(holder: str, tenant: str, pool: str) -> str:
    """Name what a process answers to as a worker of a tenant's pool."""
    return call_of(holder, f"pool.{tenant}.{pool}")


class Worker:
    """One process's share of a pool. `run` is its life; `stop` ends it in order."""

    def __init__(
        self, parts_of: Callable[[str], Parts], inbox: Subscription, handler: Handler, options: Options
    ) -> None:
        self._parts_of = parts_of
        self._inbox = inbox
        self._options = options
        self._slots = asyncio.Semaphore(options.concurrency)
        self._answering = Answering(handler, options, self._slots)
        self._desks: dict[Place, Desk] = {}
        self._ringing = 0
        self._opening: Turns[Place] = Turns()
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._closed: Closed | None = None
        self._there_on = 0  # the connection on which the inbox was there last

    @property
    def busy(self) -> int:
        """How many runs are under way."""
        return sum(len(desk.active) for desk in self._desks.values())

    @property
    def _free(self) -> int:
        """How many more runs it could begin than are under way or about to be."""
        return self._options.concurrency - sum(desk.load for desk in self._desks.values())

    def _facts(self, parts: Parts) -> Callable[[], Mapping[str, Any]]:
        """Return what is told of it to operators (`fabricctl agent ls`). A process may serve several pools."""
        since_ms, key = time.time_ns() // 1_000_000, f"pool {self._options.pool}"

        def facts() -> Mapping[str, Any]:
            mine = {"pool": self._options.pool, "participant": parts.identity.participant, "since": since_ms}
            mine |= {"concurrency": self._options.concurrency, "runs": self.busy, "stopping": self._stopping.is_set()}
            return {"host": socket.gethostname(), "pid": os.getpid(), key: mine}

        return facts

    def stop(self) -> None:
        """Take nothing more; what is under way may finish within `stop_s`, then it is left to others."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Serve until `stop`. Cancelled: runs are left to others, floors are given back."""
        parts = self._parts_of("worker")
        name = pool_call(parts.common.holdings.holder, parts.place.tenant, self._options.pool)
        async with AsyncExitStack() as stack:
            self._there_on = parts.broker.generation
            await stack.enter_async_context(self._inbox)
            stack.callback(parts.common.holdings.tell(self._facts(parts)))
            serving = await parts.broker.calls.serve(name, self._asked)
            stack.push_async_callback(serving.close)
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(self._fetch(group))
                try:
                    await self._stopping.wait()
                    fetching.cancel()
                    await self._wind_up()
                finally:
                    fetching.cancel()
                    for desk in self._desks.values():
                        desk.leave("stopped")
                        desk.cut()
        if self._closed is not None:
            raise self._closed

    async def _wind_up(self) -> None:
        for desk in self._desks.values():
            desk.leave("stopped")
        try:
            async with asyncio.timeout(self._options.stop_s):
                while self._desks:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("runs_left_to_others", runs=self.busy)

    # --- doorbells ------------------------------------------------------------------------------------

    async def _fetch(self, group: asyncio.TaskGroup) -> None:
        """Take doorbells, as many at a time as there are free slots, until the connection is closed."""
        try:
            await self._fetch_on(group)
        except Closed as closed:
            self._closed = closed
            self.stop()

    async def _fetch_on(self, group: asyncio.TaskGroup) -> None:
        parts = self._parts_of("worker")
        broker = parts.broker
        while True:
            try:
                if (free := self._free - self._ringing) <= 0:
                    await self._inbox.rest()
                    await self._until_free()
                    continue
                on = broker.generation
                found = await self._inbox.fetch(min(free, 32), _FETCH_S)
                if broker.generation == on:
                    self._there_on = on
                for work in found:
                    self._ringing += 1
                    group.create_task(self._answer_the_door(work, group))
            except Closed:
                raise
            except Unavailable as error:
                await parts.until_connected()
                if "durable" not in error.facts:
                    continue
                if (on := broker.generation) != self._there_on:
                    await self._make_inbox_anew(on)
                else:  # it was deleted, as with its tenant: whoever starts us anew makes it anew
                    await self._tell_failed(error)
            except FabricError as error:
                await self._tell_failed(error)

    async def _tell_failed(self, error: FabricError) -> None:
        log.error("inbox_failed", pool=self._options.pool, code=error.code, detail=error.message)
        await asyncio.sleep(_AGAIN_S)

    async def _make_inbox_anew(self, on: int) -> None:
        """The broker has lost it while it was away; `on`: the connection there is now. What was in it comes once more:
        what has its run is not answered again."""
        log.warning("inbox_made_anew", pool=self._options.pool)
        try:
            await self._inbox.make_anew()
            self._there_on = on
        except FabricError as error:
            await self._tell_failed(error)

    async def _until_free(self) -> None:
        while self._free - self._ringing <= 0:
            self._changed.clear()
            await self._changed.wait()

    async def _answer_the_door(self, work: Work, group: asyncio.TaskGroup) -> None:
        """See to it that whoever has the session's floor has the input; then it need not ring again."""
        try:
            if await self._see_to(work, group):
                await work.ack()
            else:
                await work.nak(_LATER_S)
        except Refused as error:  # the session is deleted or closed
            log.info("input_refused", session=work.session, code=error.code)
            await work.ack()
        except FabricError as error:
            log.warning("doorbell_rings_again", session=work.session, code=error.code)
        finally:
            self._ringing -= 1
            self._changed.set()

    async def _see_to(self, work: Work, group: asyncio.TaskGroup) -> bool:
        parts = self._parts_of(work.session)
        async with self._opening.of(parts.place):
            desk = self._desks.get(parts.place)
            if desk is not None and desk.ending is None:
                desk.take(work.event)
                return True
            if desk is not None:
                return False  # it is closing
            floors = Floor(parts, self._options.pool)
            state = await floors.state()
            if state.participant is not None and state.holder is None:
                await self._is_anothers(parts, state, work)
                return True
            if state.holder is not None and state.holder != parts.common.holdings.holder:
                return await self._ring(state, work)
            if self._free <= 0:
                return False  # its own sessions have filled it since it asked for more: another may be free
            return await self._open(parts, floors, work, group)

    async def _ring(self, state: FloorState, work: Work) -> bool:
        """Ask who has the floor whether the input is known there; a dead one is found by the warden."""
        parts = self._parts_of(work.session)
        name = pool_call(str(state.holder), parts.place.tenant, self._options.pool)
        asked = orjson.dumps([parts.place.tenant, work.session])
        try:
            answer = await parts.broker.calls.ask(name, asked, timeout_s=_RING_S)
        except (NobodyAnswers, Unavailable):
            return False
        return answer == b"yes"

    async def _asked(self, data: bytes) -> bytes:
        """Answer whether a session is ours: then its inputs are heard here."""
        tenant, session = orjson.loads(data)
        desk = self._desks.get(Place(tenant, session))
        return b"yes" if desk is not None and desk.ending is None else b"no"

    async def _is_anothers(self, parts: Parts, state: FloorState, work: Work) -> None:
        """A human has the floor, who reads the session; or another pool, to which the input is forwarded."""
        if state.delegate is not None:
            await forward(parts, work.event, self._options.pool, state.delegate)

    # --- floors ---------------------------------------------------------------------------------------

    async def _open(self, parts: Parts, floors: Floor, work: Work, group: asyncio.TaskGroup) -> bool:
        """Take the floor and sit down; False when somebody else was first."""
        holdings = parts.common.holdings
        held = await holdings.enter(
            parts.place, "floor", self._options.pool, {"agent": parts.identity.participant, "pool": self._options.pool}
        )
        try:
            sequence = await floors.claim(holdings.holder)
        except (Lost, NotHolder, Conflict):
            await holdings.leave(held)
            return False
        desk = Desk(
            parts, self._options.pool, sequence, self._answering.answer, self._changed.set, self._options.idle_s
        )
        desk.take(work.event)
        self._desks[parts.place] = desk
        group.create_task(self._sit(desk, floors, held), name=f"desk {parts.place.session}")
        return True

    async def _sit(self, desk: Desk, floors: Floor, held: Held) -> None:
        """Be at a desk until it ends, shown in the session as present; then leave the floor in order."""
        parts, place = desk.parts, desk.parts.place
        try:
            async with Session.around(parts).join(status="idle", device=parts.common.holdings.holder) as member:
                desk.shown = member
                await desk.run()
        except* FabricError as failed:
            log.warning("desk_failed", session=place.session, error=type(failed.exceptions[0]).__name__)
        finally:
            # Also when cancelled: what we say here is short, and what we cannot say is said by the warden.
            await asyncio.shield(self._leave(desk, floors, held))

    async def _leave(self, desk: Desk, floors: Floor, held: Held) -> None:
        parts = desk.parts
        try:
            async with asyncio.timeout(_LEAVE_S):
                if desk.ending != "lost":
                    await floors.release(parts.common.holdings.holder)
                for number, run in enumerate(desk.left_behind()):
                    await ring(
                        parts, self._options.pool, f"left.{parts.common.holdings.holder}.{desk.floor}.{number}", run
                    )
                await parts.common.holdings.leave(held)
        except (FabricError, TimeoutError) as error:
            log.warning("floor_left_to_the_warden", session=parts.place.session, error=type(error).__name__)
        finally:
            self._desks.pop(parts.place, None)
            self._changed.set()
