"""Ending a run from outside: its agent is gone, or was told to leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from session_fabric.parts import Parts
from session_fabric.ports import Guard
from session_fabric.recovery import recover
from session_fabric.words.errors import Conflict
from session_fabric.words.events import MESSAGE_SNAPSHOT, RUN_ERROR, RUN_OVER, utf16_length
from session_fabric.words.measures import RUNS
from session_fabric.words.names import check_id, new_id
from session_fabric.words.subjects import Kind
from session_fabric.writer import parse_body

_TRIES: Final = 20


def agent_lost() -> dict[str, Any]:
    """Return the end of a run whose agent's process is gone."""
    return {"type": RUN_ERROR, "message": "The agent was lost.", "code": "agent_lost"}


async def end_run(parts: Parts, run: str, end: Mapping[str, Any]) -> bool:
    """Write a run's end (`RUN_FINISHED` or `RUN_ERROR`) in place of its agent, what it said so far kept.

    Its writer, should it live, is refused from then on. False when the run has ended already, was never begun, or has
    changed hands meanwhile.
    """
    record = await parts.open()
    to = record.stretch
    newest = await parts.newest_own(record, check_id(run, "run"))
    if newest is None or newest.type in RUN_OVER:
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
    parts.common.metrics.count(RUNS, "agent_lost")
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
