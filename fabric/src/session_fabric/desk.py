"""One session at which this process has a pool's floor: its inputs in the log's order, its runs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

from session_fabric.authoring import Steer
from session_fabric.floors import open_offers
from session_fabric.follow import RecordsOnly
from session_fabric.outcomes import settle
from session_fabric.parts import Parts
from session_fabric.ports import Wanted
from session_fabric.rules.floor import open_until_ms
from session_fabric.rules.inputs import text_of
from session_fabric.rules.policy import asked_way, next_move, way_of
from session_fabric.rules.presence import Status
from session_fabric.rules.routing import run_of
from session_fabric.run import Run, Takeover
from session_fabric.words.errors import AlreadyAnswered, Conflict, FabricError
from session_fabric.words.events import (
    FLOOR_LOST,
    HANDOFF_OFFERED,
    HANDOFF_RETURNED,
    MESSAGE_FORWARDED,
    MESSAGE_REGENERATE,
    MESSAGE_REJECTED,
    MESSAGE_STEERED,
    MESSAGE_USER,
    POOL_RUNG,
    RUN_ORPHANED,
    RUN_OVER,
    RUN_STARTED,
    Event,
    floor_of,
)
from session_fabric.words.logs import log
from session_fabric.words.positions import Offset
from session_fabric.words.wire import Record

# What is asked of an agent; anything else in its inbox is left alone.
INPUTS: Final = frozenset({MESSAGE_USER, MESSAGE_REGENERATE, MESSAGE_FORWARDED, HANDOFF_OFFERED, POOL_RUNG})
# Who takes a floor looks so far back for inputs that nobody has taken; older ones have expired, or are rung for.
MOST_BACK: Final = 200
# A participant who sends faster than agents answer is told so by their expiry.
MOST_QUEUED: Final = 1000
Ending = Literal["idle", "lost", "stopped"]


class Job(NamedTuple):
    """A run to be made: the input that asks for it, and of a run that was begun by another how to go on with it."""

    run: str
    event: Event
    takeover: Takeover | None = None


Answer = Callable[["Desk", Job], Coroutine[Any, Any, None]]


class Shown(Protocol):
    """The agent as the session's participants see it."""

    async def update(self, *, status: Status) -> None: ...


class Desk:
    """Takes inputs of one session in order and starts a run for each, by the session's policy.

    `answer` makes one run, from claim to end; what it raises has been told. `run` is the desk's life: it ends when
    nothing has been under way for `idle_s` and the floor is offered to nobody, or when the floor is another's.
    `relieved` is called when `load` is less.
    """

    def __init__(
        self, parts: Parts, pool: str, floor: int, answer: Answer, relieved: Callable[[], None], idle_s: float
    ) -> None:
        self.parts = parts
        self.pool = pool
        self.active: dict[str, Run] = {}
        self.ending: Ending | None = None
        self.floor = floor  # the sequence of the claim
        self.shown: Shown | None = None
        self._returned = 0  # where people last gave the floor back: what was asked before was asked of them
        self._status: Status = "idle"
        self._restless = asyncio.Event()
        self._orphans: list[str] = []
        self._answer = answer
        self._relieved = relieved
        self._idle_s = idle_s
        self._queue: dict[Offset, Event] = {}
        self._known: deque[int] = deque(maxlen=MOST_BACK)  # sequences of those taken
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    @property
    def load(self) -> int:
        """How many runs are under way or about to begin; inputs that wait for the end of another are none."""
        return len(self._tasks) or min(1, len(self._queue))

    # --- what it hears --------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Take an input, whether it was heard, rung for or found; one that has its run already changes nothing."""
        if event.type in INPUTS and len(self._queue) < MOST_QUEUED:
            self._queue[event.offset] = event
            self._known.append(event.offset.sequence)
            self._wake.set()

    def heard(self, record: Record) -> None:
        """Hear an event of the session: an input, or that a run or the floor is another's."""
        kind, name = record.parts.kind, record.parts.name
        if kind == "in" and name == self.pool:
            self.take(record.event())
        elif kind == "own" and name == floor_of(self.pool) and record.sequence > self.floor:
            floor = record.event().body.get("floor")
            if not isinstance(floor, dict) or floor.get("holder") != self.parts.common.holdings.holder:
                # Whoever took us for dead may have listed what we held before these were begun, and not know of them.
                # Of those that he has orphaned nothing is stored that is said here.
                for run in self.active.values():
                    run.when_cut_off = "orphaned" if record.type == FLOOR_LOST else "handoff"
                self.leave("lost")
            self._wake.set()  # what was offered is decided: one is idle from here on
        elif kind == "own" and name in self._tasks and record.type in RUN_OVER and self._stranger(record):
            # Ended over our head: by who took the floor, or took us for dead. The broker refuses what it writes.
            self._tasks[name].cancel()

    def _stranger(self, record: Record) -> bool:
        run = self.active.get(record.parts.name)
        return run is not None and run.ended != record.sequence and record.actor != self.parts.identity.participant

    def leave(self, ending: Ending) -> None:
        """End the desk: `lost` cancels its runs, `stopped` lets them finish."""
        if self.ending != "lost":
            self.ending = ending
        self._wake.set()

    def cut(self) -> None:
        """Cancel the runs that are still under way: others go on with them."""
        for task in self._tasks.values():
            task.cancel()

    def left_behind(self) -> list[str | None]:
        """Return for what to ring when the desk has ended: runs to go on with, and None for inputs that wait."""
        waiting: list[str | None] = [None] if self._queue and self.ending != "lost" else []
        return [*self._orphans, *waiting]

    def status(self, status: Status) -> None:
        """Hear what a run is at; of several, the one that spoke last is shown."""
        self._status = "thinking" if status == "idle" and len(self.active) > 1 else status
        self._restless.set()

    async def _show(self) -> None:
        """Keep what is shown of the agent right; what changes faster than it is written is left out."""
        shown: Status = "idle"
        while True:
            await self._restless.wait()
            self._restless.clear()
            if self.shown is None or self._status == shown:
                continue
            shown = self._status
            try:
                await self.shown.update(status=shown)
            except FabricError as error:
                log.info("status_not_shown", session=self.parts.place.session, code=error.code)

    # --- its life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until it is idle, stopped or lost. Cancelled: its runs are cancelled too."""
        follower = self.parts.follower(_Heard(self), after="tail", kinds=("in", "own"))
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follower.run())
            showing = group.create_task(self._show())
            try:
                await follower.ready()
                await self.parts.persist(self._look_back)
                while self.ending is None or (self.ending != "lost" and self._tasks):
                    await self._step(group)
                    await self._wait()
            finally:
                following.cancel()
                showing.cancel()
                if self.ending == "lost":
                    self.cut()

    async def _wait(self) -> None:
        self._wake.clear()
        quiet = not self._tasks and not self._queue and self.ending is None
        try:
            async with asyncio.timeout(self._idle_s if quiet else None):
                await self._wake.wait()
        except TimeoutError:
            await self._rest()

    async def _rest(self) -> None:
        """Leave, being idle; while the floor is offered to somebody stay, as leaving would take the offer back."""
        until_ms = open_until_ms(await self.parts.persist(partial(open_offers, self.parts, self.pool)))
        left_s = (until_ms - time.time_ns() // 1_000_000) / 1000
        if left_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
        elif not self._wake.is_set():
            # Who rings from here on is told that we leave. Who was told that we stay had stored the input before, and
            # the live path may have lost it.
            self.ending = "idle"
            await self.parts.persist(self._look_back)
            if self._queue and self.ending == "idle":
                self.ending = None

    async def _look_back(self) -> None:
        """Find inputs that we do not know of: the process before us may have died with them."""
        record = await self.parts.open()
        oldest_ms = time.time_ns() // 1_000_000 - record.policy.answer_within_s * 1000
        head = await self.parts.broker.log.head(record.stretch)
        self._returned = await self._when_returned()
        begin = max(record.begin, self._returned)
        back = self.parts.broker.log.read_back(
            record.stretch, before=head + 1, limit=MOST_BACK, wanted=[Wanted("in", self.pool)]
        )
        async with aclosing(back) as batches:
            async for records in batches:
                for found in records:
                    if found.ts >= oldest_ms and found.sequence > begin and found.sequence not in self._known:
                        found.segment = record.stretch.segment
                        self.take(found.event())

    async def _when_returned(self) -> int:
        """Return where people last gave the floor back, 0 if they never did."""
        to = (await self.parts.open()).stretch
        chain = [Wanted("own", floor_of(self.pool))]
        back = self.parts.broker.log.read_back(to, before=self.floor, limit=MOST_BACK, wanted=chain)
        async with aclosing(back) as batches:
            returned = [r.sequence async for records in batches for r in records if r.type == HANDOFF_RETURNED]
        return max(returned, default=0)

    async def _step(self, group: asyncio.TaskGroup) -> None:
        """Deal with the inputs that wait, oldest first, until one has to wait on."""
        while self._queue and self.ending is None:
            offset = min(self._queue)
            event = self._queue[offset]
            try:
                waits = not await self._deal_with(event, group)
            except FabricError as error:
                log.warning("input_waits", session=self.parts.place.session, code=error.code)
                await self.parts.until_connected()
                continue
            if waits:
                return
            self._queue.pop(offset, None)
            self._relieved()

    async def _deal_with(self, event: Event, group: asyncio.TaskGroup) -> bool:
        """Start, steer, reject; False when it has to wait."""
        job = await self._job(event)
        if job is None:
            return True
        record = await self.parts.open()
        body = event.body
        newest = next(reversed(self.active.values()), None)
        way = "concurrent" if job.takeover is not None else way_of(record.policy, body)
        otherwise = asked_way(body)
        overruled = {"asked": otherwise} if otherwise not in (None, way) else {}
        steerable = newest is not None and newest.steerable and event.type == MESSAGE_USER
        stopping = all(run.cancelled for run in self.active.values())
        match next_move(way, len(self._tasks), steerable=steerable, stopping=stopping and bool(self.active)):
            case "start":
                task = self._tasks[job.run] = group.create_task(self._answer(self, job), name=f"answer {job.run}")
                task.add_done_callback(lambda _: self._done(job.run))
            case "interrupt":
                for run in self.active.values():
                    if run.agree_to_stop():
                        run.stop()
                return False
            case "steer":
                assert newest is not None
                await self._settle(job, {"type": MESSAGE_STEERED, "run": newest.id, **overruled})
                newest.steer(Steer(text_of(body), body, event.actor))
            case "reject":
                await self._settle(job, {"type": MESSAGE_REJECTED, "run": job.run, "reason": "busy", **overruled})
            case "wait":
                return False
        return True

    async def _job(self, event: Event) -> Job | None:
        """Return the run that an input asks for, None where it is settled, or is another's."""
        if event.offset.sequence <= self._returned:
            return None  # its doorbell was heard late
        log_, to = self.parts.broker.log, (await self.parts.open()).stretch
        body = event.body
        rung = body.get("run") if event.type == POOL_RUNG else None
        if event.type == POOL_RUNG and not isinstance(rung, str):
            return None  # it says that the floor is free: we have it
        run = rung if isinstance(rung, str) else run_of(event.id, body)
        if run in self._tasks:
            return None
        newest = await log_.newest(to, Wanted("own", run))
        if newest is None:
            if rung is not None or await self.parts.history.at(to, event.offset.sequence) is None:
                return None  # it was redacted while it waited
            return Job(run, event)
        if newest.type != RUN_ORPHANED:
            return None
        return await self._orphan(run, newest)

    async def _orphan(self, run: str, newest: Record) -> Job | None:
        """Return how to go on with a run whose process is gone: for the input that it was begun for."""
        log_, to = self.parts.broker.log, (await self.parts.open()).stretch
        started: dict[str, Any] = {}
        async with aclosing(log_.read(to, after=0, upto=newest.sequence, wanted=[Wanted("own", run)])) as batches:
            async for records in batches:
                started = next((r.event().body for r in records if r.type == RUN_STARTED), started)
        event = await self._input_at(started.get("input"))
        if event is None:
            return None
        generation = newest.event().body.get("generation")
        return Job(run, event, Takeover(newest.sequence, (generation if isinstance(generation, int) else 1) + 1, False))

    async def _input_at(self, offset: object) -> Event | None:
        if not isinstance(offset, str):
            return None
        to = (await self.parts.open()).stretch
        found = await self.parts.history.at(to, Offset.parse(offset).sequence)
        return None if found is None else found.event()

    async def _settle(self, job: Job, body: dict[str, Any]) -> None:
        message = job.event.body.get("message")
        said = message.get("id") if isinstance(message, dict) else message
        body |= {"input": str(job.event.offset), "message": said}
        with suppress(AlreadyAnswered, Conflict):  # it was expired, or taken, this moment
            await settle(self.parts, job.run, body, id=f"{job.run}.settled", spare=True)

    def _done(self, run: str) -> None:
        self._tasks.pop(run, None)
        made = self.active.pop(run, None)
        if made is not None and made.orphaned:
            self._orphans.append(run)
        self._wake.set()
        self._relieved()


class _Heard(RecordsOnly):
    """Hands on what a desk hears; inputs that come twice are known by their run."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def records(self, batch: Sequence[Record]) -> None:
        for record in batch:
            self._desk.heard(record)

    def ended(self, error: FabricError) -> None:
        self._desk.leave("lost")
