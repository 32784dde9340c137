"""What can be found out about one session by who looks after it: gathered at once, and decided nothing.

Deltas are not read, so that it costs what is kept of the session for good, and of that the newest `limit` events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from session_fabric import seen, states
from session_fabric.dead_letters import BUCKET as DEAD
from session_fabric.holdings import Held
from session_fabric.leases import living
from session_fabric.members import Kept, Members
from session_fabric.parts import Common, Parts
from session_fabric.ports import Backlog, Wanted
from session_fabric.records import SessionRecord, gone, not_found, stretch_of
from session_fabric.rules.fold import Fold
from session_fabric.rules.states import State
from session_fabric.rules.unread import Cursor
from session_fabric.words.arguments import check_whole
from session_fabric.words.errors import KeyMissing
from session_fabric.words.events import RUN_OVER, Event
from session_fabric.words.names import unescape
from session_fabric.words.parsing import read_json
from session_fabric.words.positions import Offset
from session_fabric.words.wire import MALFORMED, Record

MOST: Final = 100_000
# Apart, since what is read back is the newest so many: claims and ends are few, and none may be missing.
_OWN: Final = (Wanted("own"),)
_SAID: Final = (Wanted("ev"), Wanted("in"))
_AT_ONCE: Final = 64
_TRACE: Final = "traceparent"


class Dead(NamedTuple):
    """An input of the session that agents of a pool have given up."""

    pool: str
    run: str
    message: str | None


@dataclass(frozen=True, slots=True)
class Findings:
    """One session, as it is found.

    `events`: the newest milestones, oldest first; `whole`: there are no others. `wrote`: when each open run's newest
    delta was stored. `holders`: the processes whose leases stand. `documents`: without their bodies where these are
    sealed and the key is not at hand (`sealed`). `traces`: the trace context that events carry.
    """

    record: SessionRecord
    revision: int
    head: Offset
    events: Sequence[Event]
    whole: bool
    wrote: Mapping[str, int]
    members: Sequence[Kept]
    holders: frozenset[str]
    backlogs: Sequence[Backlog]
    dead: Sequence[Dead]
    documents: Sequence[State]
    cursors: Sequence[Cursor]
    traces: Mapping[Offset, str]
    sealed: bool


async def inspect(parts: Parts, limit: int) -> Findings:
    """Look at a session; see `Session.inspect`."""
    check_whole(limit, "limit", 1, MOST)
    found = await parts.directory.find(parts.place, fresh=True)
    if found is None:
        raise not_found(parts.place)
    record, revision = found
    if record.state == "deleted":
        raise gone(record)
    broker, place = parts.broker, parts.place
    head = await broker.log.head(record.stretch)
    own, said, members, holders, backlogs = await asyncio.gather(
        _back(parts, record, head, _OWN, limit),
        _back(parts, record, head, _SAID, limit),
        Members(broker, parts.directory, gateway=False).of(place),
        living(broker),
        broker.backlogs(place),
    )
    dead, documents, cursors = await asyncio.gather(_dead(parts), _documents(parts), _cursors(parts))
    records = sorted((*own[0], *said[0]), key=lambda one: one.offset)
    events = [_event(one) for one in records]
    return Findings(
        record=record,
        revision=revision,
        head=Offset(record.stretch.segment, max(head, record.begin)),
        events=events,
        whole=own[1] and said[1],
        wrote=await _wrote(parts, record, events),
        members=members,
        holders=holders,
        backlogs=backlogs,
        dead=dead,
        documents=documents,
        cursors=cursors,
        traces={one.offset: trace for one in records if (trace := one.header(_TRACE)) is not None},
        sealed=any(one.sealed and one.delivered_type == MALFORMED for one in records),
    )


async def _back(
    parts: Parts, record: SessionRecord, head: int, wanted: Sequence[Wanted], limit: int
) -> tuple[list[Record], bool]:
    """Return the newest events of these kinds over all segments, and whether these are all."""
    kept: list[Record] = []
    for segment in reversed(record.segments):
        floor = record.floor[1] if segment.id == record.floor[0] else 0
        low, end = max(segment.after, floor), head if segment.upto is None else segment.upto
        if end <= low:
            continue
        back = parts.broker.log.read_back(stretch_of(segment), before=end + 1, limit=limit - len(kept), wanted=wanted)
        async with aclosing(back) as batches:
            kept = [one async for records in batches for one in records if one.sequence > low] + kept
        if len(kept) >= limit:
            return kept, False
    return kept, True


def _event(record: Record) -> Event:
    """Return an event; of a sealed one that cannot be opened what stands beside its body."""
    event = record.event()
    if event.type != MALFORMED or not record.sealed:
        return event
    return Event(event.offset, event.id, record.type, event.actor, event.run, event.ts, b'{"sealed":true}')


async def _wrote(parts: Parts, record: SessionRecord, events: Sequence[Event]) -> dict[str, int]:
    fold = Fold()
    for event in events:
        fold.add(event)
    there = [r.id for r in fold.runs.values() if r.since.segment == record.stretch.segment and r.state == "running"]
    newest = await asyncio.gather(*(parts.broker.log.newest(record.stretch, Wanted("tok", run)) for run in there))
    return {run: delta.ts for run, delta in zip(there, newest, strict=True) if delta is not None}


async def _dead(parts: Parts) -> list[Dead]:
    found = []
    for entry in await parts.broker.bucket(DEAD).entries(parts.place.key()):
        pool, run = (unescape(token) for token in entry.key.split(".")[2:4])
        facts: Any = read_json(entry.value or b"{}")
        message = facts.get("message") if isinstance(facts, dict) else None
        found.append(Dead(pool, run, message if isinstance(message, str) else None))
    return found


async def _documents(parts: Parts) -> list[State]:
    try:
        return await states.documents(parts)
    except KeyMissing:
        return []


async def _cursors(parts: Parts) -> list[Cursor]:
    found = [seen.cursor_of(parts, entry) for entry in await seen.entries(parts)]
    return sorted(cursor for cursor in found if cursor is not None)


class LiveRun(NamedTuple):
    """A run that a process holds. `since`: of its newest event, milliseconds since 1970; `alive`: its lease stands."""

    tenant: str
    session: str
    run: str
    state: str
    agent: str
    pool: str | None
    holder: str
    alive: bool
    generation: int
    since: int


async def live_runs(common: Common, tenant: str | None) -> list[LiveRun]:
    """Return the runs under way; see `Fabric.live_runs`."""
    held = [one for one in await common.holdings.of() if one.kind == "run" and tenant in (None, one.place.tenant)]
    holders = await living(common.broker)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def look(one: Held) -> LiveRun | None:
        async with slots:
            found = await common.directory.find(one.place)
            newest = None
            if found is not None:
                newest = await common.broker.log.newest(found[0].stretch, Wanted("own", one.name))
        if newest is None or newest.type in RUN_OVER:
            return None
        fold = Fold()
        fold.add(_event(newest))
        run = next(iter(fold.runs.values()), None)
        if run is None:
            return None
        facts = one.facts
        pool, agent = facts.get("pool"), facts.get("agent")
        return LiveRun(
            *one.place,
            one.name,
            run.state,
            agent if isinstance(agent, str) else run.agent,
            pool if isinstance(pool, str) else None,
            one.holder,
            one.holder in holders,
            run.generation,
            newest.ts,
        )

    found = await asyncio.gather(*(look(one) for one in held))
    return sorted((one for one in found if one is not None), key=lambda one: (one.since, one.session, one.run))


async def last_events(common: Common, records: Sequence[SessionRecord]) -> list[int | None]:
    """Return when the newest milestone of each session was stored, milliseconds since 1970; None: it has none."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def look(record: SessionRecord) -> int | None:
        async with slots:
            newest = await asyncio.gather(
                *(common.broker.log.newest(record.stretch, Wanted(kind)) for kind in ("ev", "in", "own"))
            )
        return max((one.ts for one in newest if one is not None), default=None)

    return list(await asyncio.gather(*(look(record) for record in records)))
