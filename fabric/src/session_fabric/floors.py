"""The floor of a pool in a session: who answers, and how that is handed over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

from session_fabric.endings import cancelled, surely_end_run
from session_fabric.outcomes import Lost, settle
from session_fabric.parts import Parts
from session_fabric.ports import Guard, Wanted
from session_fabric.rules import floor as rules
from session_fabric.rules.floor import OFFER_MS, FloorFold, FloorState, Offer
from session_fabric.rules.inputs import check_message
from session_fabric.words.errors import AlreadyAnswered, Conflict, RequestClosed, RequestNotFound
from session_fabric.words.events import (
    FLOOR_CLAIMED,
    FLOOR_LOST,
    FLOOR_RELEASED,
    HANDOFF_ACCEPTED,
    HANDOFF_DECLINED,
    HANDOFF_EXPIRED,
    HANDOFF_OFFERED,
    HANDOFF_RETURNED,
    HANDOFF_TAKEN,
    MESSAGE_COMPLETED,
    REQUESTS,
    RUN_OVER,
    RUN_STARTED,
    Event,
    floor_of,
)
from session_fabric.words.names import check_id, new_id
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import NO_NAME, Kind
from session_fabric.writer import Appended, parse_body

_TRIES = 20


class Offered(NamedTuple):
    """An offer that is stored; `request` names it when it is accepted or declined."""

    request: str
    offset: Offset
    duplicate: bool


class Floor:
    """The floor of one pool, in the name of one participant."""

    def __init__(self, parts: Parts, pool: str) -> None:
        self._parts = parts
        self.pool = check_id(pool, "pool")

    async def state(self) -> FloorState:
        """Return who has it. Raises `SessionNotFound`, `BrokerUnavailable`."""
        record = await self._parts.directory.load(self._parts.place)
        newest = await self._parts.newest_own(record, floor_of(self.pool))
        if newest is None:
            return FloorState(self.pool)
        return rules.read(self.pool, newest.sequence, newest.event().body)

    async def _write(self, type: str, state: FloorState, **more: Any) -> FloorState:
        """Write the next event of the chain. Raises `Lost` when another was first."""
        body = {"type": type, "pool": self.pool, "floor": state.plain(), **more}
        stored = await settle(self._parts, floor_of(self.pool), body, expect=state.sequence)
        return state._replace(sequence=stored.offset.sequence)

    # --- agents' processes ----------------------------------------------------------------------------

    async def claim(self, holder: str) -> int:
        """Take it for an agent's process, if nobody has it; return the claim's sequence.

        Raises `NotHolder` when somebody has it, `Lost` when somebody was first.
        """
        state = rules.claim(await self.state(), self._parts.identity.participant, holder)
        return (await self._write(FLOOR_CLAIMED, state)).sequence

    async def release(self, holder: str) -> None:
        """Let it go. Raises `NotHolder`."""
        await self._write(FLOOR_RELEASED, rules.release(await self.state(), holder))

    # --- people ---------------------------------------------------------------------------------------

    async def offer(self, to: str, note: str = "", *, deadline_ms: int = OFFER_MS, id: str | None = None) -> Offered:
        """Offer it to a participant, a role (`role:operator`) or another pool; the offer's id is the event's.

        Open until it is accepted or declined, its deadline passes or the floor changes hands otherwise. Raises
        `NotHolder` (only who has it, operators and supervisors may), `InvalidRequest`.
        """
        parts = self._parts
        await parts.open()
        state = await self.state()
        rules.check_offer(state, parts.identity.participant, to, note, deadline_ms)
        request = check_id(new_id("ho-") if id is None else id, "request")
        body: dict[str, Any] = {"type": HANDOFF_OFFERED, "request": request, "pool": self.pool, "to": to, "note": note}
        body |= {"deadline_ms": deadline_ms, "floor": state.sequence}
        record = await parts.open()
        # To a pool it is asked as a message is: it wakes one of its agents.
        kind: Kind = "in" if to.startswith("pool:") else "ev"
        draft = parts.writer.draft(parse_body(body), kind, to[5:] if kind == "in" else REQUESTS, request)
        ack = await parts.broker.log.publish(record.stretch, draft)
        return Offered(request, Offset(record.stretch.segment, ack.sequence), ack.duplicate)

    async def accept(self, request: str, note: str = "", *, as_pool: str | None = None) -> FloorState:
        """Take what was offered; runs of the pool that are under way end, what they said is kept.

        Accepted again by the same participant, who may not have heard the answer, it is his as it was. Raises
        `Forbidden` (it was offered to another), `AlreadyAnswered` (somebody was first), `RequestClosed`.
        """
        rules.check_note(note)
        try:
            offered, state = await self._open_offer(request)
            new = rules.accept(state, offered.get("to"), self._parts.identity.participant, as_pool)
            return await self._settled(request, HANDOFF_ACCEPTED, new, note)
        except AlreadyAnswered:
            accepted = await self._accepted(request)
            if accepted is None:
                raise
            return accepted

    async def _accepted(self, request: str) -> FloorState | None:
        """Return the floor where it is still as our own acceptance of an offer has left it."""
        record = await self._parts.open()
        newest = await self._parts.newest_own(record, floor_of(self.pool))
        if newest is None or newest.type != HANDOFF_ACCEPTED:
            return None
        body = newest.event().body
        if body.get("request") != request or newest.actor != self._parts.identity.participant:
            return None
        await end_runs(self._parts, self.pool)  # whoever did not hear the answer may not have come to it
        return rules.read(self.pool, newest.sequence, body)

    async def decline(self, request: str, note: str = "") -> FloorState:
        """Turn an offer down. Raises as `accept` does."""
        rules.check_note(note)
        offered, state = await self._open_offer(request)
        rules.accept(state, offered.get("to"), self._parts.identity.participant)
        return await self._settled(request, HANDOFF_DECLINED, state, note)

    async def take(self, note: str = "") -> FloorState:
        """Take it at once, whoever has it: for operators and supervisors. Runs under way end. Raises `Forbidden`."""
        rules.check_note(note)
        await self._parts.open()
        for _ in range(_TRIES):
            state = rules.take(await self.state(), self._parts.identity.participant)
            try:
                taken = await self._write(HANDOFF_TAKEN, state, note=note, by=self._parts.identity.participant)
            except Lost:
                continue
            await end_runs(self._parts, self.pool)
            return taken
        raise Conflict(f"The floor of pool {self.pool!r} changed {_TRIES} times meanwhile.", revision=None)

    async def give_back(self, note: str = "") -> FloorState:
        """Let the pool's agents have it again; they answer what is asked from now on. Raises `NotHolder`."""
        rules.check_note(note)
        state = rules.give_back(await self.state(), self._parts.identity.participant)
        return await self._write(HANDOFF_RETURNED, state, note=note, by=self._parts.identity.participant)

    async def say(self, text: str, *, id: str | None = None) -> Appended:
        """Speak in the agent's place, as who has the floor; refused by the broker from the moment it is another's.

        Raises `NotHolder`.
        """
        parts = self._parts
        record = await parts.open()
        state = await self.state()
        if state.participant != parts.identity.participant:
            raise rules.not_holder(state)
        id = check_id(new_id("msg-") if id is None else id, "message")
        message = {"id": id, "role": "assistant", "content": text}
        check_message({"message": message})
        body = parse_body({"type": MESSAGE_COMPLETED, "message": message})
        draft = parts.writer.draft(body, "ev", NO_NAME, f"said.{id[:100]}")
        try:
            guard = Guard("own", floor_of(self.pool), state.sequence)
            ack = await parts.broker.log.publish(record.stretch, draft, guard=guard)
        except Conflict as conflict:
            raise rules.not_holder(await self.state()) from conflict
        return Appended(Offset(record.stretch.segment, ack.sequence), ack.duplicate)

    # --- offers ---------------------------------------------------------------------------------------

    async def _open_offer(self, request: str) -> tuple[Mapping[str, Any], FloorState]:
        """Return an offer that is open and the floor as it was then. Raises what closed it."""
        offered = await _offer(self._parts, request)
        state = await self.state()
        at = offered.body.get("floor")
        if at != state.sequence:
            raise await self._why_closed(request)
        deadline_ms = offered.body.get("deadline_ms")
        if isinstance(deadline_ms, int) and time.time_ns() // 1_000_000 > offered.ts + deadline_ms:
            raise RequestClosed(f"The offer {request!r} has expired.", outcome=HANDOFF_EXPIRED, request=request)
        return offered.body, state

    async def _settled(self, request: str, type: str, state: FloorState, note: str) -> FloorState:
        by = self._parts.identity.participant
        try:
            new = await self._write(type, state, request=request, by=by, note=note)
        except Lost as lost:
            raise await self._why_closed(request) from lost
        if type == HANDOFF_ACCEPTED:
            await end_runs(self._parts, self.pool)
        return new

    async def _why_closed(self, request: str) -> AlreadyAnswered | RequestClosed:
        record = await self._parts.open()
        log, to = self._parts.broker.log, record.stretch
        head = await log.head(to, kinds=("own",))
        async with aclosing(log.read(to, after=0, upto=head, wanted=[Wanted("own", floor_of(self.pool))])) as batches:
            async for records in batches:
                for found in records:
                    body = found.event().body
                    if body.get("request") == request:
                        if found.type == HANDOFF_EXPIRED:
                            return RequestClosed(f"The offer {request!r} has expired.", outcome=found.type)
                        return AlreadyAnswered(
                            f"{found.actor} was first, with {found.type}.", by=found.actor, offset=str(found.offset)
                        )
        return RequestClosed(f"The floor has changed hands since the offer {request!r}.", outcome="floor")


async def _offer(parts: Parts, request: str) -> Event:
    record = await parts.open()
    log, to = parts.broker.log, record.stretch
    head = await log.head(to, kinds=("ev", "in"))
    async with aclosing(log.read(to, after=0, upto=head, wanted=[Wanted("ev", REQUESTS), Wanted("in")])) as batches:
        async for records in batches:
            for found in records:
                if found.type == HANDOFF_OFFERED and found.id == request:
                    found.segment = to.segment
                    return found.event()
    raise RequestNotFound(f"There is no offer {request!r}.", hint="Its id is the event's.", request=request)


async def open_offers(parts: Parts, pool: str) -> list[Offer]:
    """Return the offers of a floor that nobody has decided, oldest first; one whose deadline has passed may be among
    them until somebody says that it has expired."""
    record = await parts.open()
    log, to, fold = parts.broker.log, record.stretch, FloorFold()
    newest = await parts.newest_own(record, floor_of(pool))
    if newest is not None:
        fold.add(newest.event())
    after = record.begin if newest is None else newest.sequence
    head = await log.head(to, kinds=("ev", "in"))
    async with aclosing(log.read(to, after=after, upto=head, wanted=[Wanted("ev", REQUESTS), Wanted("in")])) as batches:
        async for records in batches:
            for found in records:
                found.segment = to.segment
                fold.add(found.event())
    return fold.offers(pool)


async def lost(parts: Parts, pool: str, holder: str) -> None:
    """Say that an agent's process is gone, if it has the floor still."""
    floor = Floor(parts, pool)
    state = await floor.state()
    if state.holder == holder:
        with suppress(Lost):  # by another warden, or to whoever has it now
            await floor._write(FLOOR_LOST, state.given(None), holder=holder)


async def expire(parts: Parts, offered: Event) -> bool:
    """End an offer that nobody has taken in time; False when it was settled before."""
    floor = Floor(parts, str(offered.body.get("pool", "default")))
    state = await floor.state()
    if state.sequence == offered.body.get("floor"):
        with suppress(Lost):  # it was taken this moment
            await floor._write(HANDOFF_EXPIRED, state, request=offered.id)
            return True
    return False


async def somebody_holds(parts: Parts, pool: str) -> bool:
    """Say whether a pool's floor is somebody's: a person's, another pool's, or a process's that is not known dead."""
    return (await Floor(parts, pool).state()).participant is not None


async def end_runs(parts: Parts, pool: str) -> None:
    """End the runs of a pool that are under way, what they said kept: their agent has the floor no more."""
    record = await parts.open()
    log, to = parts.broker.log, record.stretch
    open_runs: set[str] = set()
    head = await log.head(to, kinds=("own",))
    async with aclosing(log.read(to, after=0, upto=head, wanted=[Wanted("own")])) as batches:
        async for records in batches:
            for found in records:
                if found.type == RUN_STARTED and found.event().body.get("pool") == pool:
                    open_runs.add(found.parts.name)
                elif found.type in RUN_OVER:
                    open_runs.discard(found.parts.name)
    for run in open_runs:
        await surely_end_run(parts, run, cancelled(parts.place.session, run) | {"reason": "handoff"})
