"""How far behind a session's end its readers and workers are. Pure."""

from __future__ import annotations

from typing import NamedTuple

from session_fabric.inspection import Findings
from session_fabric.words import events
from session_fabric.worker import durable_of

from session_fabric_cli.inspecting.waiting import INPUTS, pool_of

_SAID = frozenset({events.MESSAGE_USER, events.MESSAGE_COMPLETED})


class Lag(NamedTuple):
    """A durable subscription that the session's events pass through.

    `pool`: whose inputs it hands out, where that is known. `mine`: it is of this session alone; the numbers of others
    are of all sessions in the stream. `behind`: how many of this session's milestones it has not delivered, of those
    that were looked at; `oldest_ms`: how long the oldest of them waits. `asking`: workers that wait for more.
    """

    name: str
    pool: str | None
    stream: str
    mine: bool
    waiting: int
    in_hand: int
    again: int
    asking: int
    behind: int
    oldest_ms: int | None


class CursorLag(NamedTuple):
    """A device's read marker: how many messages are beyond it, and since when the oldest of them waits.

    `more`: at least so many, since one has not looked further back.
    """

    participant: str
    device: str
    offset: str
    behind: int
    more: bool
    oldest_ms: int | None


def lags(found: Findings, now_ms: int) -> list[Lag]:
    """Return those of the session first."""
    inputs = [event for event in found.events if event.type in INPUTS]
    pools = {durable_of(pool): pool for pool in {pool_of(event) for event in inputs}}
    segment = found.record.segments[-1].id
    lines = []
    for one in found.backlogs:
        pool = pools.get(one.name)
        concerned = [event for event in inputs if pool_of(event) == pool] if pool is not None else found.events
        missed = [e for e in concerned if e.offset.segment == segment and e.offset.sequence > one.delivered]
        # What a subscription filters is not known here: what it has delivered all of is behind in nothing.
        missed = missed if one.waiting else []
        lines.append(
            Lag(
                one.name,
                pool,
                one.stream,
                one.session is not None,
                one.waiting,
                one.in_hand,
                one.again,
                one.asking,
                len(missed),
                now_ms - missed[0].ts if missed else None,
            )
        )
    return sorted(lines, key=lambda line: (not line.mine, line.name))


def cursors(found: Findings, now_ms: int) -> list[CursorLag]:
    said = [event for event in found.events if event.type in _SAID]
    lines = []
    for cursor in found.cursors:
        beyond = [event for event in said if event.offset > cursor.offset]
        more = not found.whole and bool(found.events) and cursor.offset < found.events[0].offset
        oldest = now_ms - beyond[0].ts if beyond else None
        lines.append(CursorLag(cursor.participant, cursor.device, str(cursor.offset), len(beyond), more, oldest))
    return lines
