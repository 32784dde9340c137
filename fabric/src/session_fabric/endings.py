"""Ending a run from outside: its agent is gone, or was told to leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from session_fabric.parts import Parts
from session_fabric.ports import Guard
from session_fabric.recovery import recover
from session_fabric.words.errors import Conflict
from session_fabric.words.events import MESSAGE_SNAPSHOT, RUN_ERROR, RUN_FINISHED, RUN_ORPHANED, RUN_OVER, utf16_length
from session_fabric.words.logs import log
from session_fabric.words.measures import RUNS
from session_fabric.words.names import check_id, new_id
from session_fabric.words.subjects import Kind
from session_fabric.words.wire import Record
from session_fabric.writer import parse_body

_TRIES: Final = 20


class By(NamedTuple):
    """Whose a run has to be to be ended: a process's, and of its holds on it that one (None: any of them)."""

    holder: str
    generation: int | None = None

    def holds(self, newest: Record) -> bool:
        body = newest.event().body
        return body.get("holder", self.holder) == self.holder and self.generation in (None, body.get("generation", 1))


def agent_lost() -> dict[str, Any]:
    """Return the end of a run whose agent's process is gone."""
    return {"type": RUN_ERROR, "message": "The agent was lost.", "code": "agent_lost"}


def cancelled(session: str, run: str) -> dict[str, Any]:
    """Return the end of a run that was told to stop."""
    return {"type": RUN_FINISHED, "threadId": session, "runId": run, "outcome": {"type": "cancelled"}}


async def orphan_run(parts: Parts, run: str, by: By, agent: object) -> int | None:
    """Say that a process has a run no more (`run.orphaned`); return the sequence at which another may take it over.

    None when it has ended, was never begun, or is another process's. Said again it is said once.
    """
    record = await parts.directory.load(parts.place)
    newest = await parts.newest_own(record, run)
    if newest is None or newest.type in RUN_OVER:
        return None
    if newest.type == RUN_ORPHANED:
        return newest.sequence
    if not by.holds(newest):
        return None
    sequence = newest.sequence
    orphaned = {"type": RUN_ORPHANED, "run": run, "agent": agent, "holder": by.holder}
    orphaned["generation"] = newest.event().body.get("generation", 1)
    draft = parts.writer.draft(parse_body(orphaned), "own", run, f"{run[:90]}.lost.{sequence}", run)
    try:
        ack = await parts.broker.log.publish(record.stretch, draft, guard=Guard("own", run, sequence))
    except Conflict:
        return None  # it ended this moment, or somebody else was first, and rings
    log.info("run_orphaned", session=parts.place.session, run=run)
    return ack.sequence


def bell_of(run: str, sequence: int) -> str:
    """Name the bell for a run that was orphaned at a sequence: the same for all who come to ring it."""
    return f"{run[:90]}.rung.{sequence}"


async def end_run(parts: Parts, run: str, end: Mapping[str, Any], by: By | None = None) -> bool:
    """Write a run's end (`RUN_FINISHED` or `RUN_ERROR`) in place of its agent, what it said so far kept.

    Its writer, should it live, is refused from then on. False when the run has ended already, was never begun, has
    changed hands meanwhile, or is not `by`'s.
    """
    record = await parts.open()
    to = record.stretch
    newest = await parts.newest_own(record, check_id(run, "run"))
    if newest is None or newest.type in RUN_OVER or (by is not None and not by.holds(newest)):
        return False
    # The deltas of an ended run are nobody's any more: what they said so far has to be kept first.
    said = await recover(parts.broker.log, parts.history, to, run, await parts.broker.log.head(to))
    bodies: list[Mapping[str, Any]] = [
        {
            "type": MESSAGE_SNAPSHOT,
            "message": {"id": m.id, "role": m.role, "content": m.text, "reasoning": m.reasoning},
            "at": utf16_length(m.text),
            "began": str(m.began),
        }
        for m in said
        if m.open
    ]
    guard = Guard("own", run, newest.sequence)
    try:
        for body in (*bodies, end):
            kind: Kind = "own" if body is end else "ev"
            draft = parts.writer.draft(parse_body(body), kind, run, new_id(), run)
            ack = await parts.broker.log.publish(to, draft, guard=guard)
    except Conflict:
        return False  # it ended just now, or somebody else has it
    parts.common.ended(record, run, ack.sequence)
    parts.common.metrics.count(RUNS, "cancelled" if end.get("type") == RUN_FINISHED else "agent_lost")
    return True


async def surely_end_run(parts: Parts, run: str, end: Mapping[str, Any]) -> bool:
    """End a run whoever has it, though its agent writes at the same time. False when it has ended, or never was."""
    for _ in range(_TRIES):
        if await end_run(parts, run, end):
            return True
        newest = await parts.newest_own(await parts.open(), run)
        if newest is None or newest.type in RUN_OVER:
            return False
    raise Conflict(f"Run {run!r} was written to {_TRIES} times meanwhile.", hint="Try again.", revision=None)
