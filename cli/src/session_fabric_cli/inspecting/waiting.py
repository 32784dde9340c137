"""Inputs that no agent has taken yet: for how long, of which pool, and how far they have come. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from session_fabric.inspection import Findings
from session_fabric.ports import Backlog
from session_fabric.rules.floor import CHAIN, FloorFold
from session_fabric.rules.fold import Fold
from session_fabric.rules.routing import DEFAULT_POOL, run_of
from session_fabric.words import events
from session_fabric.words.events import Event
from session_fabric.worker import durable_of

from session_fabric_cli.inspecting.runs import RunLine

INPUTS = frozenset({events.MESSAGE_USER, events.MESSAGE_REGENERATE, events.MESSAGE_FORWARDED})
_SETTLED = frozenset({events.MESSAGE_STEERED, events.MESSAGE_REJECTED, events.MESSAGE_EXPIRED})
Came = Literal["nowhere", "delivered", "taken"]


class Waiting(NamedTuple):
    """An input without a run. `came`: `nowhere`, `delivered` to a worker that has not acknowledged it, or `taken` by
    one. `behind`: the run that has to end first; `person`: who has the floor, and answers instead of the agents.
    `late`: it should have expired by now."""

    input: str
    id: str
    type: str
    pool: str
    by: str
    since: int
    waits_ms: int
    came: Came
    behind: str | None
    person: str | None
    late: bool


def waiting(found: Findings, fold: Fold, floors: FloorFold, runs: Sequence[RunLine], now_ms: int) -> list[Waiting]:
    """Return what waits, oldest first."""
    segment = found.record.segments[-1].id
    settled = {event.body.get("input") for event in found.events if event.type in _SETTLED}
    answered = {run.asked for run in runs}
    passed_on = {event.body.get("origin") for event in found.events if event.type == events.MESSAGE_FORWARDED}
    returned = {event.body.get("pool"): event.offset for event in found.events if event.type == events.HANDOFF_RETURNED}
    lines = []
    for event in found.events:
        if event.type not in INPUTS or event.offset.segment != segment:
            continue
        body = event.body
        pool = pool_of(event)
        back = returned.get(pool)
        if run_of(event.id, body) in fold.runs or str(event.offset) in settled | answered or event.id in passed_on:
            continue
        if back is not None and event.offset < back:
            continue  # it was asked of the person who had the floor then
        state = floors.state(pool)
        busy = next((run.run for run in runs if run.open and run.pool == pool), None)
        late = now_ms - event.ts > found.record.policy.answer_within_s * 1000 and state.participant is None
        lines.append(
            Waiting(
                str(event.offset),
                event.id,
                event.type,
                pool,
                event.actor,
                event.ts,
                max(0, now_ms - event.ts),
                _came(event, _of_pool(found.backlogs, pool)),
                busy,
                state.participant if state.human else None,
                late,
            )
        )
    return lines


def pool_of(event: Event) -> str:
    pool = event.body.get("pool")
    return pool if isinstance(pool, str) else DEFAULT_POOL


def floor_since(found: Sequence[Event], pool: str) -> int | None:
    """Return when the floor of a pool last changed hands."""
    chain = (event.ts for event in reversed(found) if event.type in CHAIN and event.body.get("pool") == pool)
    return next(chain, None)


def _of_pool(backlogs: Sequence[Backlog], pool: str) -> Backlog | None:
    name = durable_of(pool)
    return next((one for one in backlogs if one.name == name), None)


def _came(event: Event, backlog: Backlog | None) -> Came:
    if backlog is None or event.offset.sequence > backlog.delivered:
        return "nowhere"
    return "taken" if event.offset.sequence <= backlog.acknowledged else "delivered"
