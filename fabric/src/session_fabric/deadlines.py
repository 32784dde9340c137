"""Ends what has waited for too long: requests, controls, hand-over offers, messages that nobody took.

One durable subscription over all tenants, shared by every process that watches over sessions: each event is in the
hands of one of them, and of another when that one dies. What ends something is written under compare-and-set, so that
an answer of the same moment and an expiry exclude each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, assert_never

from session_fabric import controls, requests
from session_fabric.controls import Holds, waits_on
from session_fabric.endings import agent_lost, cancelled, end_run
from session_fabric.outcomes import Lost, settle
from session_fabric.parts import SERVICE, Common, Parts
from session_fabric.ports import Delivery, Durable, Wanted
from session_fabric.records import SessionRecord
from session_fabric.rules.controls import STOPPING
from session_fabric.rules.deadlines import INPUTS, Wait, decide, first_look_ms, later, limit_ms
from session_fabric.rules.requests import derived, parse_request
from session_fabric.rules.routing import run_of
from session_fabric.words import measures
from session_fabric.words.errors import (
    FabricError,
    KeyMissing,
    SessionClosed,
    SessionGone,
    SessionNotFound,
    Unavailable,
)
from session_fabric.words.events import (
    CONTROL_ACCEPTED,
    CONTROL_REQUESTED,
    CONTROLS,
    HANDOFF_OFFERED,
    MESSAGE_EXPIRED,
    POOL_RUNG,
    REQUESTS,
    RUN_ORPHANED,
    RUN_STARTED,
    Event,
    control_outcome,
)
from session_fabric.words.logs import log
from session_fabric.words.names import DEADLINES_DURABLE
from session_fabric.writer import Identity

NAME: Final = DEADLINES_DURABLE
# Names rather than kinds, so that no token passes here.
WANTED: Final = (Wanted("in"), Wanted("ev", CONTROLS), Wanted("ev", REQUESTS))
# An event in the hands of a process that died is another's after this.
ACK_WAIT_S: Final = 30.0
MOST_AT_ONCE: Final = 64
# Taken up in one turn of the loop, a third of a millisecond each: who watches over sessions also serves people.
_A_TURN: Final = 4
_FETCH_S: Final = 20.0
_PAUSE_S: Final = 0.2
_MOST_PAUSE_S: Final = 10.0
# What fails by a defect is tried again so often, and then left.
_MOST_FAILURES: Final = 20
_FAILED_S: Final = 60.0

ExpireOffer = Callable[[Parts, Event], Awaitable[Any]]


async def _nobody(parts: Parts, pool: str) -> bool:
    return False


async def _nothing(parts: Parts, offered: Event) -> None:
    return None


class Deadlines:
    """One process's share of the work; `run` is its whole life and wants an owner.

    `somebody_holds` says whether the floor of a pool is somebody's (its messages do not expire then), `expire_offer`
    ends a hand-over offer that nobody has taken. `tenant` None: of all tenants.
    """

    def __init__(
        self,
        common: Common,
        *,
        somebody_holds: Holds = _nobody,
        expire_offer: ExpireOffer = _nothing,
        tenant: str | None = None,
        ack_wait_s: float = ACK_WAIT_S,
    ) -> None:
        self._common = common
        self._tenant = tenant
        self._ack_wait_s = ack_wait_s
        self._somebody_holds = somebody_holds
        self._expire_offer = expire_offer
        self._heard_ms = 0

    async def run(self) -> None:
        """See to deadlines until cancelled; what is in its hands then goes to another, of one that dies after 30 s."""
        pause_s = _PAUSE_S
        while True:
            try:
                durable = await self._common.broker.durable(
                    self._tenant,
                    NAME,
                    place=None,
                    wanted=WANTED,
                    ack_wait_s=self._ack_wait_s,
                    max_deliver=-1,
                    start="tail",
                )
                pause_s = _PAUSE_S
                await self._work(durable)
            except FabricError as error:
                log.warning("deadlines_wait_for_broker", code=error.code, detail=error.message)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MOST_PAUSE_S)

    async def _work(self, durable: Durable) -> None:
        try:
            while True:
                in_hand = list(await durable.fetch(MOST_AT_ONCE, _FETCH_S))
                try:
                    async with asyncio.TaskGroup() as group:
                        for number, delivery in enumerate(list(in_hand)):
                            if number % _A_TURN == 0:
                                await asyncio.sleep(0)
                            group.create_task(self._see_to(delivery, in_hand))
                finally:
                    await self._give_back(in_hand)
        finally:
            await durable.close()

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Let others have at once what was left undone; what cannot be given back now goes to them after a while."""
        for delivery in deliveries:
            try:
                await delivery.nak()
            except FabricError:
                return

    async def _see_to(self, delivery: Delivery, in_hand: list[Delivery]) -> None:
        try:
            wait = await self._decide(delivery)
            if wait is None:
                await delivery.ack()
            else:
                await delivery.nak(wait.delay_s)
            self._count("settled" if wait is None else "waits")
        except Unavailable as error:
            self._count("left")
            log.info("deadline_left", code=error.code)
            return
        except KeyMissing as error:
            self._count("left")
            # A sealed tenant's, whose keys other processes have: one of them sees to it.
            log.warning("deadline_left", session=delivery.place.session, code=error.code)
            await self._put_off(delivery, at_last=False)
        except Exception as error:
            # One event that cannot be dealt with must not keep all others from their deadlines.
            self._count("failed")
            log.error("deadline_failed", session=delivery.place.session, error=type(error).__name__, exc_info=error)
            await self._put_off(delivery)
        in_hand.remove(delivery)

    def _count(self, outcome: str) -> None:
        self._common.metrics.count(measures.DEADLINES, outcome)

    def _expired(self, what: str) -> None:
        self._common.metrics.count(measures.EXPIRED, what)

    async def _put_off(self, delivery: Delivery, *, at_last: bool = True) -> None:
        """Have somebody look at it again later; `at_last`: nobody any more, when that has failed often."""
        try:
            if at_last and delivery.attempts > _MOST_FAILURES:
                await delivery.ack()
            else:
                await delivery.nak(_FAILED_S)
        except Unavailable as error:
            log.info("deadline_left", code=error.code)  # it comes again

    async def _decide(self, delivery: Delivery) -> Wait | None:
        """Look at an event; return when to look again, None when there is nothing left to do."""
        place, stored = delivery.place, delivery.record
        parts = Parts.of(self._common, Identity(place.tenant, SERVICE), place.session)
        try:
            record = await parts.directory.load(place)
        except (SessionNotFound, SessionGone):
            return None
        if record.state == "closed" or stored.sequence <= record.begin:
            return None  # of an earlier life
        stored.segment = record.segments[-1].id
        await parts.broker.log.whole(delivery.place, delivery.record)
        event = stored.event()
        now_ms = self._now_ms(event.ts)
        within_ms = limit_ms(event.type, event.body, record.policy.answer_within_s)
        verdict = decide(event.ts, within_ms, now_ms, first_look_ms(event.type, event.body))
        if isinstance(verdict, Wait) and await _stop_orphan(parts, record, event):
            return None
        if isinstance(verdict, Wait) and delivery.attempts == 1:
            return verdict
        match verdict:
            case "done":
                return None
            case "due":
                waits = await self._end(parts, record, stored.parts.name, event)
                return later(event.ts, now_ms) if waits else None
            case Wait():
                return None if await self._is_settled(parts, record, event) else verdict
            case _:
                assert_never(verdict)

    def _now_ms(self, stored_ms: int) -> int:
        """Return the time by the broker's clock, as far as it is known: never before anything that it has stored."""
        self._heard_ms = max(self._heard_ms, stored_ms)
        return max(time.time_ns() // 1_000_000, self._heard_ms)

    async def _is_settled(self, parts: Parts, record: SessionRecord, event: Event) -> bool:
        if event.type == HANDOFF_OFFERED:
            return False  # for `expire_offer` to find out
        if event.type in INPUTS:
            name = run_of(event.id, event.body)
        elif event.type == CONTROL_REQUESTED:
            name = control_outcome(event.id)
        else:
            return (await requests.standing(parts, record, event.id)).outcome is not None
        return await parts.broker.log.newest(record.stretch, Wanted("own", name)) is not None

    async def _end(self, parts: Parts, record: SessionRecord, name: str, event: Event) -> bool:
        """End what is due; return whether it has to wait all the same."""
        if event.type == HANDOFF_OFFERED:
            if await self._expire_offer(parts, event):
                self._expired("offer")
            return False
        if event.type == POOL_RUNG:
            return await self._give_up(parts, record, event)
        if await self._is_settled(parts, record, event):
            return False
        try:
            if event.type in INPUTS:
                return await self._end_input(parts, record, name, event)
            if event.type == CONTROL_REQUESTED:
                body = event.body
                if body.get("deadline_ms") is None and await waits_on(
                    parts, record, str(body.get("run")), self._somebody_holds
                ):
                    return True
                await controls.expire(parts, event)
                self._expired("control")
            elif (request := parse_request(event)) is not None and await requests.expire(parts, request):
                self._expired("request")
        except (Lost, SessionNotFound, SessionGone, SessionClosed):
            pass  # answered this moment, or the session is no more
        return False

    async def _give_up(self, parts: Parts, record: SessionRecord, rung: Event) -> bool:
        """End a run whose agent was lost, and that nobody of its pool has gone on with."""
        run = rung.body.get("run")
        if isinstance(run, str):
            newest = await parts.broker.log.newest(record.stretch, Wanted("own", run))
            if newest is not None and newest.type == RUN_ORPHANED and newest.offset < rung.offset:
                if await end_run(parts, run, agent_lost()):
                    self._expired("run")
                await requests.close(parts, run)
        return False

    async def _end_input(self, parts: Parts, record: SessionRecord, pool: str, event: Event) -> bool:
        """Say that nobody took a message. Who has the floor of its pool may answer it yet; a person needs no run."""
        if await self._somebody_holds(parts, pool):
            return True
        if await _worked_on(parts, record, event):
            return False
        body = event.body
        message, run = body.get("message"), run_of(event.id, body)
        id = message.get("id") if isinstance(message, dict) else message
        expired = {"type": MESSAGE_EXPIRED, "message": id, "input": str(event.offset), "run": run, "reason": "no_agent"}
        await settle(parts, run, expired, id=derived(event.id, "expired"), spare=True)
        self._expired("message")
        return False


async def _stop_orphan(parts: Parts, record: SessionRecord, event: Event) -> bool:
    """Accept a stop in the place of an agent that is gone, and end its run; False where there is something to wait for.

    Who takes the run over at the same moment is either refused, or hears that the stop was accepted, and stops.
    """
    run, action = event.body.get("run"), event.body.get("action")
    if event.type != CONTROL_REQUESTED or action not in STOPPING or not isinstance(run, str):
        return False
    newest = await parts.newest_own(record, run)
    if newest is None or newest.type != RUN_ORPHANED:
        return False
    accepted = {"type": CONTROL_ACCEPTED, "request": event.id, "action": action, "run": run}
    try:
        await settle(parts, control_outcome(event.id), accepted, id=derived(event.id, "stopped"), spare=True)
        parts.common.metrics.count(measures.CONTROLS, "accepted")
    except Lost as lost:
        if lost.winner.type != CONTROL_ACCEPTED:
            return True
    except (SessionNotFound, SessionGone, SessionClosed):
        return True
    if await end_run(parts, run, cancelled(parts.place.session, run)):
        await requests.close(parts, run)
    return True


async def _worked_on(parts: Parts, record: SessionRecord, event: Event) -> bool:
    """Say whether a run was begun since that is no pool's: a program that reads the inbox in its own way."""
    log, to = parts.broker.log, record.stretch
    head = await log.head(to, kinds=("own",))
    async with aclosing(log.read(to, after=event.offset.sequence, upto=head, wanted=[Wanted("own")])) as batches:
        async for records in batches:
            if any(r.type == RUN_STARTED and "pool" not in r.event().body for r in records):
                return True
    return False
